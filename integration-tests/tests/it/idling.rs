//! Idle sessions and instances are stopped, active ones never.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use multidb_integration_tests::{Daemon, RawClient, Session, eventually, is_alive, postmaster_pid};
use serde_json::Value;

use crate::daemon;

/// The limit for every wait, on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Sleeps in another session, by Postgres' clock.
fn pass_time(daemon: &Daemon, seconds: u32) {
    let clock = daemon.connect("instance:clock,snapshot:monday");
    clock
        .query(&format!("select pg_sleep({seconds})"))
        .expect("a running query is not idle");
}

#[expect(
    clippy::disallowed_methods,
    reason = "no clock is paused here: the daemon is another process"
)]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn idle_session_ends_with_its_sqlstate() {
    let daemon = daemon().limit("session_idle_timeout", "1s").start();
    let session = daemon.connect("instance:idle,snapshot:monday");
    session.one("select 1");
    let end = session.wait_end(WAIT_TIMEOUT);
    assert_eq!(end.sqlstate(), "57P05", "{end:?}");
    eventually("its backend is gone too", WAIT_TIMEOUT, || {
        daemon
            .connect("instance:idle")
            .one("select count(*) from pg_stat_activity where backend_type = 'client backend'")
            == "1"
    });
}

#[test]
fn running_query_is_not_idle_however_long_it_is_silent() {
    let daemon = daemon().limit("session_idle_timeout", "1s").start();
    let session = daemon.connect("instance:busy,snapshot:monday");
    session
        .query("select pg_sleep(4)")
        .expect("a running query is not idle");
    session.one("select 1");
}

#[test]
fn session_that_answers_now_and_then_stays() {
    let daemon = daemon().limit("session_idle_timeout", "2s").start();
    let session = daemon.connect("instance:slow,snapshot:monday");
    let begin = now();
    while begin.elapsed() < Duration::from_secs(6) {
        session.query("select pg_sleep(0.2)").expect("it is in use");
    }
}

#[test]
fn transaction_has_a_limit_of_its_own() {
    let daemon = daemon()
        .limit("session_idle_timeout", "1s")
        .limit("transaction_idle_timeout", "4s")
        .start();
    let session = daemon.connect("instance:tx,snapshot:monday");
    let begin = now();
    session.query("begin; select 1").expect("it begins");
    pass_time(&daemon, 2);
    assert!(
        !session.has_ended(),
        "a transaction was cut as if it were idle"
    );
    session.wait_end(WAIT_TIMEOUT);
    assert!(begin.elapsed() >= Duration::from_secs(4));
}

#[test]
fn client_or_project_sets_how_long_a_session_may_be_idle() {
    let daemon = daemon()
        .limit("session_idle_timeout", "10m")
        .set("project.demo", "session_idle_timeout", "1s")
        .start();
    let mut config = daemon.config("instance:idle,snapshot:monday");
    config.options("-c multidb.session_idle_timeout=10m -c geqo=off");
    let long = Session::connect(&config).expect("it connects");
    let short = daemon.connect("instance:idle");
    let end = short.wait_end(WAIT_TIMEOUT);
    assert_eq!(end.sqlstate(), "57P05", "{end:?}");
    pass_time(&daemon, 2);
    assert_eq!(long.one("show geqo"), "off");
    let failure = daemon.refused("instance:idle,session_idle_timeout:soon");
    assert_eq!(failure.sqlstate(), "22023", "{failure:?}");
}

#[test]
fn copy_that_waits_for_its_client_is_not_idle() {
    let daemon = daemon().limit("session_idle_timeout", "1s").start();
    daemon
        .connect("instance:copy,snapshot:monday")
        .query("create table target (x int)")
        .expect("it is writable");
    let mut client = daemon.raw();
    client.send_startup(196_608, &[("user", "instance:copy"), ("database", "app")]);
    client.read_until('Z');
    send_query(&mut client, "copy target from stdin");
    client.read_until('G');
    pass_time(&daemon, 3);
    client.send(b"d\0\0\0\x067\n");
    client.send(b"c\0\0\0\x04");
    client.read_until('Z');
    let session = daemon.connect("instance:copy");
    assert_eq!(session.one("select count(*) from target"), "1");
}

#[test]
fn copy_that_waits_for_its_client_too_long_ends_where_a_limit_is_set() {
    let daemon = daemon().limit("copy_idle_timeout", "1s").start();
    daemon
        .connect("instance:copy,snapshot:monday")
        .query("create table target (x int)")
        .expect("it is writable");
    let mut client = daemon.raw();
    client.send_startup(196_608, &[("user", "instance:copy"), ("database", "app")]);
    client.read_until('Z');
    send_query(&mut client, "copy target from stdin");
    client.read_until('G');
    client.read_until('E');
    let session = daemon.connect("instance:copy");
    assert_eq!(session.one("select count(*) from target"), "0");
}

#[test]
fn listener_stays_while_its_instance_runs_for_others() {
    let daemon = daemon().limit("session_idle_timeout", "1s").start();
    let other = daemon.connect("instance:a,snapshot:monday");
    let listener = daemon.connect("instance:a");
    // The last statement of this session is not a LISTEN.
    listener.query("begin").expect("it begins");
    listener.query("listen changes").expect("it listens");
    listener.query("commit").expect("it listens");
    let sessions = daemon.json(&["connection", "ls"]);
    assert_eq!(sessions[1]["state"], "listening", "{sessions}");
    other
        .query("select pg_sleep(4)")
        .expect("a running query is not idle");
    assert!(!listener.has_ended(), "a listener was ended");
    drop(other);
    let end = listener.wait_end(WAIT_TIMEOUT);
    assert_eq!(end.sqlstate(), "57P05", "{end:?}");
}

#[test]
fn each_state_of_a_session_is_shown() {
    let daemon = daemon().start();
    let other = daemon.connect("instance:a,snapshot:monday");
    other
        .query("create table target (x int)")
        .expect("it is writable");
    let position = other.one("select pg_current_wal_flush_lsn()::text");
    let states = || {
        let sessions = daemon.json(&["connection", "ls"]);
        let sessions = sessions.as_array().expect("it is a list");
        let state = |session: &Value| session["state"].as_str().map(str::to_owned);
        sessions.iter().filter_map(state).collect::<Vec<_>>()
    };
    let mut busy = Vec::new();
    for (replication, query, tag) in [
        ("false", "listen changes", 'Z'),
        ("false", "begin", 'Z'),
        ("false", "copy target from stdin", 'G'),
        (
            "false",
            "copy (select repeat('x', 9000) union all select pg_sleep(60)::text) to stdout",
            'H',
        ),
        (
            "true",
            &format!("START_REPLICATION PHYSICAL {position}"),
            'W',
        ),
    ] {
        let mut client = daemon.raw();
        let user = [
            ("user", "instance:a"),
            ("database", "app"),
            ("replication", replication),
        ];
        client.send_startup(196_608, &user);
        client.read_until('Z');
        send_query(&mut client, query);
        client.read_until(tag);
        busy.push(client);
    }
    let _query = other.start("select pg_sleep(60)");
    let expected = [
        "active",
        "listening",
        "idle in transaction",
        "in COPY",
        "in COPY",
        "replicating",
    ];
    eventually("each state is shown", WAIT_TIMEOUT, || states() == expected);
    drop(busy);
    eventually("those who left are gone", WAIT_TIMEOUT, || {
        states() == ["active"]
    });
}

#[test]
fn query_that_is_silent_for_too_long_ends_where_a_limit_is_set() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,snapshot:monday,active_timeout:1s");
    let failure = session.query("select pg_sleep(60)").expect_err("it ends");
    assert_eq!(failure.sqlstate(), "57P01", "{failure:?}");
    let session = daemon.connect("instance:a");
    session
        .query("select pg_sleep(2)")
        .expect("it has no limit");
}

/// Sends a simple query.
fn send_query(client: &mut RawClient, sql: &str) {
    let length = u32::try_from(sql.len() + 5).expect("a query is short");
    client.send(b"Q");
    client.send(&length.to_be_bytes());
    client.send(sql.as_bytes());
    client.send(b"\0");
}

#[test]
fn stopped_instance_has_no_process_and_a_clean_cluster() {
    let daemon = daemon().limit("instance_idle_timeout", "1s").start();
    drop(daemon.connect("instance:rest,snapshot:monday"));
    let data = daemon.data_dir("rest");
    let pid = postmaster_pid(&data).expect("it runs");
    daemon.wait_state("rest", "stopped");
    assert!(!is_alive(pid));
    let logs = daemon.cli(&["instance", "logs", "rest"]);
    assert!(
        logs.ok().contains("database system is shut down"),
        "{logs:?}"
    );
}

#[test]
fn instance_with_an_idle_session_keeps_running() {
    let daemon = daemon().limit("instance_idle_timeout", "1s").start();
    let session = daemon.connect("instance:held,snapshot:monday");
    pass_time(&daemon, 3);
    assert_eq!(daemon.state("held"), "running");
    session.one("select 1");
}

#[test]
fn no_client_is_refused_for_bad_timing() {
    let daemon = daemon().limit("instance_idle_timeout", "30ms").start();
    drop(daemon.connect("instance:timing,snapshot:monday"));
    let mut starts = HashSet::new();
    for attempt in 0..60u64 {
        // Varies the delay so that clients connect at every stage of a stop.
        std::thread::sleep(Duration::from_millis(attempt % 20 * 8));
        let session = daemon.connect("instance:timing");
        session
            .query("create table if not exists seen (n int); insert into seen values (1)")
            .expect("it is served");
        starts.insert(session.one("select pg_postmaster_start_time()"));
        if attempt == 59 {
            assert_eq!(session.one("select count(*) from seen"), "60");
        }
    }
    assert!(
        starts.len() > 5,
        "the instance hardly stopped, so this tested nothing: {starts:?}"
    );
}
