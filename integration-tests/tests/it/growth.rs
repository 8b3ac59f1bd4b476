//! Instances that grow are stopped before they take too much of the disk, with a clear word, and lose nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, PgFailure, Session, poll};

use crate::daemon;

const TIMEOUT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// The log's line for each instance that is stopped.
const STOPPED: &str = "an instance may not take more disk space, it is stopped";

fn create_table(session: &Session, kind: &str) {
    let create = format!("create {kind} table kept (client int, filler text)");
    session.query(&create).expect("it is writable");
}

/// Writes until the session ends, and returns the rows that were acknowledged and why it ended.
fn write_until_stopped(session: &Session) -> (u64, PgFailure) {
    const ROWS: u64 = 500;
    let insert = format!(
        "insert into kept select 0, repeat(md5(i::text), 30) from generate_series(1, {ROWS}) i"
    );
    let mut rows = 0;
    loop {
        match session.query(&insert) {
            Ok(_) => rows += ROWS,
            Err(failure) if failure.code.is_some() => return (rows, failure),
            // It ended between two queries.
            Err(_) => return (rows, session.wait_end(TIMEOUT)),
        }
    }
}

fn rows(session: &Session) -> u64 {
    let count = session.one("select count(*) from kept");
    count.parse().expect("a count is a number")
}

/// The error has the limit and advice.
fn assert_explained(failure: &PgFailure, sqlstate: &str, limit: &str) {
    assert_eq!(failure.sqlstate(), sqlstate, "{failure:?}");
    let detail = failure.detail.as_deref().unwrap_or_default();
    assert!(detail.contains(limit), "{failure:?}");
    let hint = failure.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("instance reset"), "{failure:?}");
}

#[test]
fn instance_past_max_instance_bytes_is_stopped_until_it_may_have_them_or_is_reset() {
    const LIMIT: &str = "limits.max_instance_bytes";
    let daemon = daemon().limit("max_instance_bytes", "96MiB").start();
    daemon.expect_log(STOPPED);
    let other = daemon.connect("instance:other,snapshot:monday");
    let session = daemon.connect("instance:grows,snapshot:monday");
    // Its write-ahead log would go with the stop, which may bring it below its limit.
    create_table(&session, "unlogged");
    let waiting = daemon.connect("instance:grows");
    waiting.one("select 1");
    let mut sleeps = daemon.client_program("psql", "instance:grows");
    sleeps.args([
        "--no-psqlrc",
        "--dbname=app",
        "--command=select pg_sleep(120)",
    ]);
    let sleeps = sleeps.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let sleeps = sleeps.expect("it can be started");
    poll("it sleeps", TIMEOUT, || {
        let active = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(120)'";
        match waiting.one(active).as_str() {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let (acknowledged, failure) = write_until_stopped(&session);
    assert_eq!(failure.sqlstate(), "57P01", "{failure:?}");
    let sleeps = sleeps.wait_with_output().expect("it ends");
    let sleeps = String::from_utf8_lossy(&sleeps.stderr).into_owned();
    assert_explained(&waiting.wait_end(TIMEOUT), "57P01", LIMIT);
    assert!(sleeps.contains(LIMIT), "{sleeps}");
    daemon.wait_state("grows", "stopped");
    assert_explained(&daemon.refused("instance:grows"), "53100", LIMIT);
    let started = daemon.cli(&["instance", "start", "grows"]);
    assert!(started.stderr.contains(LIMIT), "{started:?}");
    for command in [&["instance", "show", "grows"][..], &["doctor"]] {
        let shown = daemon.cli(command);
        assert!(shown.stdout.contains(LIMIT), "{shown:?}");
    }
    assert_eq!(daemon.json(&["status"])["over_limit"][0], "grows");
    assert_eq!(other.one("select 1"), "1");

    // Another daemon finds it out again.
    daemon.restart();
    let session = daemon.connect("instance:grows");
    assert_explained(&session.wait_end(TIMEOUT), "57P01", LIMIT);

    daemon.stop();
    daemon.reconfigure(
        "max_instance_bytes = \"96MiB\"",
        "max_instance_bytes = \"9GiB\"",
    );
    daemon.start();
    assert!(rows(&daemon.connect("instance:grows")) >= acknowledged);

    daemon.stop();
    daemon.reconfigure(
        "max_instance_bytes = \"9GiB\"",
        "max_instance_bytes = \"96MiB\"",
    );
    daemon.start();
    let session = daemon.connect("instance:grows");
    session.wait_end(TIMEOUT);
    daemon.wait_state("grows", "stopped");
    daemon.cli(&["instance", "reset", "grows", "--yes"]).ok();
    let session = daemon.connect("instance:grows");
    create_table(&session, "unlogged");
    assert_eq!(daemon.json(&["status"])["connections"], 1);
}

/// A pgbench that fills an instance.
struct Filler {
    instance: String,
    pgbench: Child,
}

impl Filler {
    fn start(daemon: &Daemon, instance: &str, script: &Path) -> Self {
        let mut pgbench: Command =
            daemon.client_program("pgbench", &format!("instance:{instance}"));
        pgbench.args(["--no-vacuum", "--time=120", "--file"]);
        pgbench.arg(script).arg("app").stdout(Stdio::piped());
        let pgbench = pgbench.stderr(Stdio::piped()).spawn();
        Self {
            instance: instance.to_owned(),
            pgbench: pgbench.expect("it can be started"),
        }
    }

    fn has_ended(&mut self) -> bool {
        let ended = self.pgbench.try_wait().expect("it can be waited for");
        ended.is_some()
    }

    /// The transactions that were acknowledged, and its errors.
    fn result(self) -> (u64, String) {
        let output = self.pgbench.wait_with_output().expect("it has ended");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text
            .lines()
            .find(|line| line.contains("actually processed"));
        let number = line.and_then(|line| line.rsplit(' ').next());
        let number = number.and_then(|number| number.split('/').next()?.parse().ok());
        (number.unwrap_or_else(|| panic!("{text}{errors}")), errors)
    }
}

fn free_bytes(daemon: &Daemon) -> u64 {
    let free = &daemon.json(&["status"])["disk_free_bytes"];
    free.as_u64().expect("it is a number")
}

const ROWS_OF_A_TRANSACTION: u64 = 200;
const RESERVE: u64 = 128 * MIB;

/// A daemon on a small disk, with a file in it to be removed for room.
fn on_small_disk(disk: Disk) -> (Daemon, PathBuf) {
    let daemon = daemon()
        .small_disk_of(disk, 1200 * MIB)
        .limit("disk_reserve", "128MiB")
        .start();
    daemon.expect_log(STOPPED);
    let kept_free = daemon.root().join("filler");
    let mut fallocate = Command::new("fallocate");
    fallocate.args(["--length", &(200 * MIB).to_string()]);
    let filled = fallocate.arg(&kept_free).status();
    assert!(filled.expect("it can be run").success());
    (daemon, kept_free)
}

fn assert_disk_was_never_full(daemon: &Daemon, instances: usize) {
    for number in 0..instances {
        let log = daemon.cli(&["instance", "logs", &format!("i{number}")]);
        for word in ["PANIC", "No space left"] {
            assert!(!log.stdout.contains(word), "i{number}: {}", log.stdout);
        }
    }
}

/// Each of the instances starts again once there is more room than at its stop, with all its acknowledged transactions.
/// The one that was stopped last needs least; without it there is more room for the one before.
fn assert_start_again(daemon: &Daemon, mut stopped: Vec<(String, u64)>) {
    while !stopped.is_empty() {
        let (place, session) = poll("one may start again", TIMEOUT, || {
            let mut refusals = Vec::new();
            for (place, (instance, _)) in stopped.iter().enumerate() {
                match daemon.try_connect(&format!("instance:{instance}")) {
                    Ok(session) => return Ok((place, session)),
                    Err(failure) => refusals.push(failure),
                }
            }
            Err(refusals)
        });
        let (instance, transactions) = stopped.remove(place);
        let acknowledged = transactions * ROWS_OF_A_TRANSACTION;
        assert!(
            acknowledged > 0 && rows(&session) >= acknowledged,
            "{instance}"
        );
        drop(session);
        daemon.cli(&["instance", "rm", &instance, "--yes"]).ok();
    }
}

fn growing_instances_are_stopped_before_the_reserve_on(disk: Disk) {
    const INSTANCES: usize = 20;
    const FILLERS: usize = 4;
    let (daemon, kept_free) = on_small_disk(disk);
    let script = daemon.dir().join("fill.sql");
    let insert = format!(
        "insert into kept select :client_id, repeat(md5(i::text), 30) from generate_series(1, {ROWS_OF_A_TRANSACTION}) i;\n"
    );
    std::fs::write(&script, insert).expect("it can be written");

    let sessions = (0..INSTANCES).map(|number| {
        let session = daemon.connect(&format!("instance:i{number},snapshot:monday"));
        create_table(&session, "");
        session
    });
    let sessions: Vec<_> = sessions.collect();
    let fillers = (0..FILLERS).map(|number| Filler::start(&daemon, &format!("i{number}"), &script));
    let mut fillers: Vec<_> = fillers.collect();
    let mut least_free = u64::MAX;
    poll("the growing instances are stopped", 2 * TIMEOUT, || {
        least_free = least_free.min(free_bytes(&daemon));
        for session in &sessions[FILLERS..] {
            session
                .query("insert into kept values (1, 'few')")
                .expect("it does not grow, and goes on");
        }
        let running = fillers.iter_mut().filter_map(|filler| {
            let has_ended = filler.has_ended();
            (!has_ended).then(|| filler.instance.clone())
        });
        let running: Vec<_> = running.collect();
        if running.is_empty() {
            Ok(())
        } else {
            Err((least_free, running))
        }
    });
    assert!(least_free >= RESERVE, "{least_free}");
    for (number, session) in sessions.iter().enumerate().skip(FILLERS) {
        assert!(rows(session) > 0, "i{number}");
    }
    let stopped = fillers.into_iter().map(|filler| {
        let instance = filler.instance.clone();
        let (transactions, errors) = filler.result();
        // In the middle of an answer, it is Postgres' own error that pgbench shows.
        assert!(errors.contains("terminating connection"), "{errors}");
        daemon.wait_state(&instance, "stopped");
        (instance, transactions)
    });
    let stopped: Vec<_> = stopped.collect();
    assert_disk_was_never_full(&daemon, INSTANCES);
    // The daemon releases instances stopped early, where the disk has had room since.
    let held_back = daemon.json(&["status"])["over_limit"].take();
    for instance in held_back.as_array().into_iter().flatten() {
        let instance = instance.as_str().expect("it is a name");
        let failure = daemon.refused(&format!("instance:{instance}"));
        assert_explained(&failure, "53100", "limits.disk_reserve");
    }

    std::fs::remove_file(kept_free).expect("it can be removed");
    assert_start_again(&daemon, stopped);
}

#[test]
fn growing_instances_are_stopped_before_the_reserve_and_the_others_go_on_on_xfs() {
    growing_instances_are_stopped_before_the_reserve_on(Disk::Xfs);
}

#[test]
fn growing_instances_are_stopped_before_the_reserve_and_the_others_go_on_on_btrfs() {
    growing_instances_are_stopped_before_the_reserve_on(Disk::Btrfs);
}
