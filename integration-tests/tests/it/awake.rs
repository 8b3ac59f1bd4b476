//! Background activity of Postgres keeps its instance running for a bounded time.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::{Daemon, DaemonBuilder, Session, eventually, poll, postgres_bin};
use serde_json::{Value, json};
use tokio_postgres::Config;

use crate::daemon;

/// The limit for every wait, on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon with a short `instance_idle_timeout`.
fn hasty() -> DaemonBuilder {
    daemon().limit("instance_idle_timeout", "1s")
}

fn awake_because(daemon: &Daemon, instance: &str) -> Value {
    daemon.instance(instance)["awake_because"].clone()
}

/// Waits until the daemon has delayed the stop of this instance this many times.
#[track_caller]
fn wait_put_off(daemon: &Daemon, instance: &str, times: usize) {
    let line = format!("instance={instance} ");
    eventually("the stop is put off", WAIT_TIMEOUT, || {
        let log = daemon.log();
        let put_off = log
            .lines()
            .filter(|l| l.contains("postgres is busy") && l.contains(&line));
        put_off.count() >= times
    });
    assert_eq!(daemon.state(instance), "running");
}

#[test]
fn prepared_transaction_keeps_its_instance_awake_until_it_ends() {
    let daemon = hasty()
        .set("postgres.settings", "max_prepared_transactions", "5")
        .start();
    let session = daemon.connect("instance:a,snapshot:monday");
    assert_eq!(awake_because(&daemon, "a"), json!(["1 session"]));
    session
        .query("create table moved (x int); begin; insert into moved values (1); prepare transaction 'move'")
        .expect("it is prepared");
    let both = json!(["1 session", "prepared transaction \"move\""]);
    assert_eq!(awake_because(&daemon, "a"), both);
    drop(session);
    wait_put_off(&daemon, "a", 2);
    assert_eq!(
        awake_because(&daemon, "a"),
        json!(["prepared transaction \"move\""])
    );
    let shown = daemon.cli(&["instance", "show", "a"]);
    assert!(
        shown.ok().contains("prepared transaction \"move\""),
        "{shown:?}"
    );
    let session = daemon.connect("instance:a");
    session
        .query("commit prepared 'move'")
        .expect("it was not cut");
    assert_eq!(session.one("select x from moved"), "1");
    drop(session);
    daemon.wait_state("a", "stopped");
    assert_eq!(awake_because(&daemon, "a"), json!([]));
}

/// The instance's socket directory, for connections that bypass multidb.
fn socket_dir(daemon: &Daemon, instance: &str) -> PathBuf {
    let data = daemon.data_dir(instance);
    let uid = data.parent().and_then(|dir| dir.file_name());
    let uid = uid.expect("data is in a directory");
    daemon.root().join("run").join(uid)
}

/// Postgres' own receiver of a replication stream, by the instance's socket.
struct Receiver(Child);

impl Receiver {
    fn start(daemon: &Daemon, instance: &str) -> Self {
        let socket = socket_dir(daemon, instance);
        let target = daemon.dir().join("received");
        std::fs::create_dir(&target).expect("the test's directory is writable");
        let receive = |more: &str| {
            let mut command = Command::new(postgres_bin().0.join("pg_receivewal"));
            command
                .args(["--username=postgres", "--slot=reader", more])
                .arg(format!("--host={}", socket.display()))
                .arg(format!("--directory={}", target.display()))
                .stdin(Stdio::null());
            command
        };
        let made = receive("--create-slot").status();
        assert!(made.is_ok_and(|status| status.success()));
        let child = receive("--no-loop").spawn();
        Self(child.expect("pg_receivewal can be run"))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn replication_slot_in_use_keeps_its_instance_awake_and_an_unused_one_does_not() {
    let daemon = hasty().start();
    let session = daemon.connect("instance:a,snapshot:monday");
    let receiver = Receiver::start(&daemon, "a");
    let expected = json!(["1 session", "replication slot \"reader\" in use"]);
    eventually("the slot is in use", WAIT_TIMEOUT, || {
        awake_because(&daemon, "a") == expected
    });
    drop(session);
    wait_put_off(&daemon, "a", 2);
    drop(receiver);
    daemon.wait_state("a", "stopped");
    let session = daemon.connect("instance:a");
    assert_eq!(session.one("select active from pg_replication_slots"), "f");
    assert_eq!(awake_because(&daemon, "a"), json!(["1 session"]));
}

/// After a restart pg_prewarm's worker reads the blocks of the buffers again, table by table in the order of
/// their files, and waits for a locked table.
#[test]
fn background_worker_of_an_extension_keeps_its_instance_awake_until_it_ends() {
    let daemon = hasty()
        .set(
            "postgres.settings",
            "shared_preload_libraries",
            "pg_prewarm",
        )
        .set("postgres.settings", "max_prepared_transactions", "5")
        .start();
    let session = daemon.connect("instance:a,snapshot:monday");
    for sql in [
        "select count(*) from polls_question; select count(*) from polls_choice",
        // In a separate statement, so that it holds no other lock.
        "begin; lock table polls_question; prepare transaction 'first'",
    ] {
        session.query(sql).expect("it is done");
    }
    drop(session);
    daemon.cli(&["instance", "stop", "a"]).ok();
    let session = daemon.connect("instance:a");
    let worker = "background worker \"autoprewarm worker\"";
    let prepared = "prepared transaction \"first\"";
    let is_awake_for = |reasons: Value| {
        poll("the worker waits", WAIT_TIMEOUT, || {
            let found = awake_because(&daemon, "a");
            if found == reasons { Ok(()) } else { Err(found) }
        });
    };
    is_awake_for(json!(["1 session", worker, prepared]));
    // The second lock is held by a connection that bypasses multidb.
    let mut direct = Config::new();
    direct.host_path(socket_dir(&daemon, "a")).user("postgres");
    let holder = Session::connect(direct.dbname("app")).expect("it connects");
    holder
        .query("begin; lock table polls_choice")
        .expect("nobody has it yet");
    session
        .query("rollback prepared 'first'")
        .expect("it is there");
    is_awake_for(json!(["1 session", worker]));
    drop(session);
    wait_put_off(&daemon, "a", 2);
    is_awake_for(json!([worker]));
    drop(holder);
    daemon.wait_state("a", "stopped");
}

#[test]
fn forgotten_prepared_transaction_keeps_its_instance_awake_but_not_for_ever() {
    let daemon = daemon()
        .limit("instance_idle_timeout", "200ms")
        .set("postgres.settings", "max_prepared_transactions", "5")
        .start();
    let session = daemon.connect("instance:a,snapshot:monday");
    session
        .query("begin; create table kept (x int); prepare transaction 'kept'")
        .expect("it is prepared");
    drop(session);
    daemon.wait_state("a", "stopped");
    let log = daemon.log();
    // It delayed the stop twelve times, and stopped at the thirteenth.
    assert_eq!(log.matches("postgres is busy").count(), 13, "{log}");
    daemon
        .connect("instance:a")
        .query("commit prepared 'kept'")
        .expect("it outlived the stop");
}

#[test]
fn instance_with_only_background_work_gives_its_slot_to_another() {
    let daemon = daemon()
        .set_raw("limits", "max_running", "1")
        .set("postgres.settings", "max_prepared_transactions", "5")
        .start();
    let session = daemon.connect("instance:a,snapshot:monday");
    session
        .query("begin; create table kept (x int); prepare transaction 'kept'")
        .expect("it is prepared");
    drop(session);
    drop(daemon.connect("instance:b,snapshot:monday"));
    let session = daemon.connect("instance:a");
    session
        .query("commit prepared 'kept'")
        .expect("a prepared transaction outlives a stop");
    assert_eq!(session.one("select count(*) from kept"), "0");
}
