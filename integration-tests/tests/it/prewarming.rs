//! Clones of the newest snapshot that are kept ready.

use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Engine, RandomDelays, TUESDAY_ROWS, eventually};
use serde_json::Value;

use crate::{daemon, daemon_on};

const LIMIT: Duration = Duration::from_secs(60);
/// The kills of a daemon that has clones ready.
const KILLS: usize = 8;

fn prewarmed(daemon: &Daemon) -> Value {
    daemon.json(&["status"])["prewarmed"].clone()
}

fn wait_ready(daemon: &Daemon, count: u64, snapshot: &str) {
    eventually("clones are ready", LIMIT, || {
        let status = &prewarmed(daemon)["demo"];
        status["ready"] == count && (count == 0 || status["snapshot"] == snapshot)
    });
}

/// The directories in `instances/`: the ones of instances, and of clones that are kept ready.
fn directories(daemon: &Daemon) -> (Vec<String>, Vec<String>) {
    let entries = std::fs::read_dir(daemon.root().join("instances")).expect("it can be listed");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.partition(|name| !name.starts_with('.'))
}

fn names(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.json(&["instance", "ls"]);
    let names = listed.as_array().into_iter().flatten();
    let names = names.filter_map(|one| one["name"].as_str().map(str::to_owned));
    names.collect()
}

/// How often an instance got a clone that was ready.
fn taken(daemon: &Daemon) -> usize {
    daemon.log().matches("source=\"prewarmed\"").count()
}

fn new_instances_take_clones_that_are_ready_on(disk: Disk) {
    let daemon = daemon_on(disk, Engine::Process)
        .set_raw("project.demo", "prewarm", "2")
        .start();
    wait_ready(&daemon, 2, "tuesday");
    assert!(names(&daemon).is_empty(), "they are no instances");
    assert_eq!(directories(&daemon).1.len(), 2);

    for (number, user) in ["instance:a,gitref:main", "instance:b,snapshot:latest"]
        .iter()
        .enumerate()
    {
        let session = daemon.connect(user);
        let rows = session.one("select count(*) from polls_question");
        assert_eq!(rows, TUESDAY_ROWS.to_string());
        session
            .query("create table mine as select 1 as n")
            .expect("it is writable");
        assert_eq!(taken(&daemon), number + 1);
        wait_ready(&daemon, 2, "tuesday");
    }
    // Of another snapshot none is ready.
    daemon.connect("instance:c,snapshot:monday").one("select 1");
    assert_eq!(taken(&daemon), 2);
    daemon.cli(&["instance", "reset", "a", "--yes"]).ok();
    let session = daemon.connect("instance:a");
    assert_eq!(session.one("select to_regclass('mine') is null"), "t");
    drop(session);
    assert_eq!(taken(&daemon), 3);

    // A newer snapshot replaces them, and can be removed at once.
    daemon
        .cli(&Daemon::import_args("newer", &["--from-instance", "b"]))
        .ok();
    wait_ready(&daemon, 2, "newer");
    daemon.cli(&["snapshot", "rm", "newer"]).ok();
    wait_ready(&daemon, 2, "tuesday");

    // Without room, and without the setting, there are none.
    daemon.kill9();
    daemon.reconfigure("prewarm = 2", "prewarm = 0");
    daemon.start();
    assert_eq!(prewarmed(&daemon), serde_json::json!({}));
    let (instances, ready) = directories(&daemon);
    assert_eq!((instances.len(), ready.len()), (3, 0));
    assert_eq!(daemon.connect("instance:b").one("select n from mine"), "1");
}

#[test]
fn new_instances_take_clones_that_are_ready_on_xfs() {
    new_instances_take_clones_that_are_ready_on(Disk::Xfs);
}

#[test]
fn new_instances_take_clones_that_are_ready_on_btrfs() {
    new_instances_take_clones_that_are_ready_on(Disk::Btrfs);
}

#[test]
fn no_clone_is_kept_ready_below_the_reserve() {
    let daemon = daemon()
        .set_raw("project.demo", "prewarm", "1")
        .limit("disk_reserve", "1MiB")
        .start();
    wait_ready(&daemon, 1, "tuesday");
    daemon.stop();
    daemon.reconfigure("disk_reserve = \"1MiB\"", "disk_reserve = \"1000TiB\"");
    daemon.start();
    wait_ready(&daemon, 0, "");
    assert_eq!(directories(&daemon), (Vec::new(), Vec::new()));
}

#[test]
fn kill_at_any_moment_of_a_creation_with_a_clone_that_is_ready_loses_and_leaves_nothing() {
    let daemon = daemon().set_raw("project.demo", "prewarm", "1").start();
    let mut delays = RandomDelays::new();
    let mut created = Vec::new();
    for kill in 0..KILLS {
        wait_ready(&daemon, 1, "tuesday");
        let name = format!("i{kill}");
        let args = ["instance", "create", &name, "--snapshot", "tuesday"];
        let mut command = daemon.cli_command(&args).spawn().expect("it can be run");
        std::thread::sleep(delays.milliseconds(0, 60));
        daemon.kill9();
        let told = command.wait().expect("it can be waited for");
        daemon.start();
        if told.success() {
            created.push(name);
        }
        let found = names(&daemon);
        assert!(created.iter().all(|name| found.contains(name)), "{found:?}");
        for name in &found {
            let session = daemon.connect(&format!("instance:{name}"));
            let rows = session.one("select count(*) from polls_question");
            assert_eq!(rows, TUESDAY_ROWS.to_string());
        }
    }
    daemon.stop();
    daemon.reconfigure("prewarm = 1", "prewarm = 0");
    daemon.start();
    let (instances, ready) = directories(&daemon);
    assert_eq!((instances.len(), ready.len()), (names(&daemon).len(), 0));
    let quarantine = std::fs::read_dir(daemon.root().join("quarantine"));
    assert_eq!(quarantine.map_or(0, Iterator::count), 0);
}
