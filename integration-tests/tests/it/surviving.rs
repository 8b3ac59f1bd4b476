//! Records, data and running servers survive the daemon's end.

use std::path::Path;
use std::time::Duration;

use multidb_integration_tests::{eventually, kill, postmaster_pid};
use serde_json::Value;

use crate::daemon;

#[test]
fn restarted_daemon_knows_its_instances_and_their_data() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    session
        .query("create table kept as select 1 as x")
        .expect("it is writable");
    drop(session);
    daemon.cli(&["instance", "pin", "a"]).ok();
    let before = daemon.instance("a");
    daemon.restart();
    let after = daemon.instance("a");
    for field in [
        "name",
        "project",
        "snapshot",
        "gitref",
        "commit",
        "created_at",
        "pinned",
        "data_dir",
    ] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(after["state"], "stopped");
    assert_eq!(daemon.connect("instance:a").one("select x from kept"), "1");
}

#[test]
fn machine_crash_keeps_committed_data() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    session
        .query("create table kept as select generate_series(1, 1000) as x")
        .expect("it is writable");
    let postgres = postmaster_pid(&daemon.data_dir("a")).expect("it runs");
    daemon.kill9();
    kill(postgres);
    session.wait_end(Duration::from_secs(30));
    daemon.start();
    assert_eq!(daemon.state("a"), "stopped");
    let again = daemon.connect("instance:a");
    assert_eq!(again.one("select count(*) from kept"), "1000");
}

#[test]
fn instance_that_was_taken_over_still_stops_when_idle() {
    let daemon = daemon().limit("instance_idle_timeout", "1s").start();
    let session = daemon.connect("instance:a,gitref:main");
    daemon.kill9();
    drop(session);
    daemon.start();
    daemon.wait_state("a", "stopped");
    assert!(!daemon.data_dir("a").join("postmaster.pid").exists());
}

/// Overwrites every file of a directory with arbitrary bytes.
fn damage(directory: &Path) {
    for entry in std::fs::read_dir(directory)
        .expect("the database is there")
        .flatten()
    {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            damage(&entry.path());
        } else {
            std::fs::write(entry.path(), [0xA5; 8192]).expect("a file can be overwritten");
        }
    }
}

/// The instances, without the fields that change by themselves.
fn facts(instances: &Value) -> Vec<Value> {
    let mut all: Vec<Value> = instances.as_array().cloned().unwrap_or_default();
    for instance in &mut all {
        if let Some(fields) = instance.as_object_mut() {
            // The bytes are measured in the background.
            const CHANGING: [&str; 4] = ["last_used_at", "expires_at", "state", "exclusive_bytes"];
            fields.retain(|key, _| !CHANGING.contains(&key.as_str()));
        }
    }
    all.sort_by_key(|instance| instance["name"].to_string());
    all
}

#[test]
fn damaged_database_of_records_is_rebuilt_from_the_instances() {
    let daemon = daemon().start();
    for (name, choice) in [
        ("a", "gitref:main"),
        ("b", "snapshot:monday"),
        ("c", "gitref:v1"),
    ] {
        let session = daemon.connect(&format!("instance:{name},{choice}"));
        session
            .query(&format!("create table kept as select '{name}' as x"))
            .expect("it is writable");
    }
    daemon.cli(&["instance", "pin", "b"]).ok();
    let before = facts(&daemon.json(&["instance", "ls"]));
    daemon.stop();
    damage(&daemon.root().join("state/db"));
    daemon
        .expect_log("rebuil")
        .expect_log("aside")
        .expect_log("damaged")
        .expect_log("sled");
    daemon.start();
    assert_eq!(facts(&daemon.json(&["instance", "ls"])), before);
    for name in ["a", "b", "c"] {
        let session = daemon.connect(&format!("instance:{name}"));
        assert_eq!(session.one("select x from kept"), name);
    }
}

#[test]
fn missing_database_of_records_is_rebuilt_even_while_servers_run() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    session
        .query("create table kept as select 1 as x")
        .expect("it is writable");
    let postgres = postmaster_pid(&daemon.data_dir("a"));
    daemon.kill9();
    drop(session);
    std::fs::remove_dir_all(daemon.root().join("state/db")).expect("the database is there");
    daemon.expect_log("rebuil").expect_log("missing");
    daemon.start();
    assert_eq!(postmaster_pid(&daemon.data_dir("a")), postgres);
    assert_eq!(daemon.connect("instance:a").one("select x from kept"), "1");
}

#[test]
fn leftovers_of_interrupted_steps_are_removed_and_nothing_else_is() {
    let daemon = daemon().start();
    drop(daemon.connect("instance:a,gitref:main"));
    daemon.stop();
    let instances = daemon.root().join("instances");
    let trash = daemon.root().join("trash");
    std::fs::create_dir_all(trash.join("half-deleted/data/base")).expect("it can be made");
    std::fs::write(trash.join("half-deleted/data/base/1"), "x").expect("it can be written");
    let strange = instances.join("not-ours");
    std::fs::create_dir(&strange).expect("it can be made");
    std::fs::write(strange.join("diary.txt"), "dear diary").expect("it can be written");
    daemon.expect_log("not-ours");
    daemon.start();
    eventually("the trash is empty", Duration::from_secs(30), || {
        std::fs::read_dir(&trash).is_ok_and(|mut entries| entries.next().is_none())
    });
    assert!(
        strange.join("diary.txt").exists(),
        "what multidb did not make was deleted"
    );
    daemon.connect("instance:a").one("select 1");
}

#[test]
fn second_daemon_on_the_same_root_is_refused() {
    let daemon = daemon().start();
    let second = daemon.cli(&["serve"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    daemon.connect("instance:a,gitref:main").one("select 1");
}
