//! Answers of Postgres that its superuser has altered, and an instance without a connection left for a question.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use multidb_integration_tests::{Daemon, RawClient, Session, eventually};

use crate::daemon;

/// The limit for every wait, on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
/// The connections of a Postgres that is filled.
const CONNECTIONS: usize = 40;

fn open(daemon: &Daemon, user: &str) -> RawClient {
    let mut client = daemon.raw();
    client.send_startup(196_608, &[("user", user), ("database", "app")]);
    client.read_until('Z');
    client
}

fn warnings(daemon: &Daemon, text: &str) -> usize {
    let log = daemon.log();
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn instance_full_of_idle_sessions_of_a_superuser_frees_itself() {
    let daemon = daemon()
        .limit("session_idle_timeout", "5s")
        .set(
            "postgres.settings",
            "max_connections",
            &CONNECTIONS.to_string(),
        )
        .start();
    daemon.expect_log("no free connection");
    let busy = daemon.connect("instance:full,snapshot:monday");
    let busy_query = busy.start("select pg_sleep(20)");
    let mut clients: Vec<_> = (1..CONNECTIONS)
        .map(|_| open(&daemon, "instance:full"))
        .collect();
    assert_eq!(daemon.refused("instance:full").sqlstate(), "53300");
    for client in &mut clients {
        let (kind, error) = client.read_message();
        let error = String::from_utf8_lossy(&error).into_owned();
        assert!(kind == 'E' && error.contains("C57P05"), "{kind} {error}");
    }
    busy_query.wait().expect("a running query is not idle");
    daemon.connect("instance:full").one("select 1");
    assert!(warnings(&daemon, "no free connection") <= 2);
}

#[test]
fn instance_full_of_queries_over_their_limit_frees_itself() {
    let connections = CONNECTIONS.to_string();
    let daemon = daemon()
        .limit("active_timeout", "5s")
        .set("postgres.settings", "max_connections", &connections)
        .start();
    daemon
        .expect_log("no free connection")
        .expect_log("backend could not be terminated");
    let busy = daemon.connect("instance:full,snapshot:monday,active_timeout:10m");
    let allowed = busy.start("select pg_sleep(15)");
    let sessions: Vec<_> = (1..CONNECTIONS)
        .map(|_| daemon.connect("instance:full"))
        .collect();
    let queries: Vec<_> = sessions
        .iter()
        .map(|session| session.start("select pg_sleep(600)"))
        .collect();
    assert_eq!(daemon.refused("instance:full").sqlstate(), "53300");
    for query in queries {
        query.wait().expect_err("it is over its limit");
    }
    allowed.wait().expect("its limit is longer");
    daemon.connect("instance:full").one("select 1");
}

#[test]
fn superuser_who_replaces_catalog_views_cuts_no_query_and_loses_no_instance() {
    let daemon = daemon()
        .limit("session_idle_timeout", "1s")
        .limit("instance_idle_timeout", "1s")
        .start();
    daemon.expect_log("activities of sessions are unknown");
    let busy = daemon.connect("instance:a,snapshot:monday,session_idle_timeout:10m");
    let mut config = daemon.config("instance:a,session_idle_timeout:10m");
    let forger = Session::connect(config.dbname("postgres")).expect("it connects");
    for statement in [
        "set allow_system_table_mods = on",
        "alter view pg_catalog.pg_stat_activity rename to activity",
        "alter view pg_catalog.pg_prepared_xacts rename to xacts",
        "create view pg_catalog.pg_stat_activity as select now() pid, 1.5 state, 7 query, \
         true backend_type, 'x'::bytea wait_event_type, null::point wait_event",
        "create view pg_catalog.pg_prepared_xacts as select array[1, 2] gid",
        // For the daemon's questions, not for clients of the other database.
        "alter role postgres in database postgres set statement_timeout = 1",
        "alter role postgres set default_transaction_read_only = on",
    ] {
        forger.query(statement).expect("a superuser may");
    }
    let query = busy.start("set statement_timeout = 0; select pg_sleep(5)");
    let mut idle = open(&daemon, "instance:a");
    eventually("a forged answer was read", WAIT_TIMEOUT, || {
        warnings(&daemon, "activities of sessions are unknown") > 0
    });
    assert_eq!(
        daemon.instance("a")["awake_because"],
        serde_json::json!(["3 sessions"])
    );
    daemon.json(&["connection", "ls"]);
    query.wait().expect("the query goes on");
    // It was not ended on the word of a forger.
    idle.send(b"Q\0\0\0\x0dselect 1\0");
    idle.read_until('D');
    drop((busy, forger, idle));
    daemon.wait_state("a", "stopped");
    daemon.connect("instance:a").one("select 1");
}

#[test]
fn program_in_the_place_of_a_postgres_cuts_no_query_and_the_instance_can_be_started_again() {
    let daemon = daemon().limit("session_idle_timeout", "1s").start();
    daemon
        .expect_log("activities of sessions are unknown")
        .expect_log("cancel request was not")
        .expect_log("backend could not be terminated");
    let busy = daemon.connect("instance:a,snapshot:monday");
    let query = busy.start("select pg_sleep(6)");
    let socket = daemon.run_dir("a").join(".s.PGSQL.5432");
    std::fs::remove_file(&socket).expect("it can be removed");
    let listener = UnixListener::bind(&socket).expect("the path is free");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            // A login, and then a row that claims 2 GiB.
            let forged = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\x7f\xff\xff\xff\xff\xff";
            let _ = client.write_all(forged);
        }
    });
    eventually("a forged answer was read", WAIT_TIMEOUT, || {
        warnings(&daemon, "activities of sessions are unknown") > 0
    });
    daemon.instance("a");
    query.wait().expect("the query goes on");
    drop(busy);
    daemon.cli(&["instance", "stop", "--yes", "a"]).ok();
    daemon.connect("instance:a").one("select 1");
}
