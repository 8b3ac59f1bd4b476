//! `multidb instance recover`: instances and clones that can be used again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use multidb_integration_tests::{Daemon, run};
use serde_json::Value;

use crate::daemon;

/// The uid of the copy in these scenarios.
const COPY: &str = "00000000c0de";

/// Stops the daemon and copies the clone of an instance, as an operator who restores a backup beside it, and starts
/// the daemon, which cannot tell which is newer.
fn quarantine_a_copy(daemon: &Daemon, name: &str) {
    let clone = clone_dir(daemon, name);
    daemon.stop();
    let copy = clone.with_file_name(COPY);
    let mut cp = Command::new("cp");
    run(cp
        .args(["--archive", "--reflink=auto"])
        .arg(&clone)
        .arg(&copy))
    .ok();
    let path = copy.join("manifest.json");
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(&path).expect("it has a manifest")).expect("it is JSON");
    manifest["uid"] = COPY.into();
    fs::write(&path, manifest.to_string()).expect("it can be written");
    daemon.expect_log("a clone is quarantined");
    daemon.start();
    assert!(quarantined(daemon).join("data").is_dir());
}

fn clone_dir(daemon: &Daemon, name: &str) -> PathBuf {
    let data = daemon.data_dir(name);
    data.parent().map(Path::to_owned).expect("it has a parent")
}

fn quarantined(daemon: &Daemon) -> PathBuf {
    daemon.root().join("quarantine").join(COPY)
}

fn write_rows(daemon: &Daemon, user: &str) {
    let session = daemon.connect(user);
    session
        .query("create table kept as select generate_series(1, 5000) as x")
        .expect("it is writable");
}

#[track_caller]
fn assert_rows(daemon: &Daemon, name: &str) {
    let session = daemon.connect(&format!("instance:{name}"));
    assert_eq!(session.one("select count(*) from kept"), "5000");
}

#[test]
fn quarantined_clone_of_a_taken_name_comes_back_under_another_one() {
    let daemon = daemon().start();
    write_rows(&daemon, "instance:a,gitref:main");
    quarantine_a_copy(&daemon, "a");
    let doctor = daemon.cli(&["doctor"]);
    let advice = format!("\"multidb instance recover a --uid {COPY}\" brings it back");
    assert!(doctor.stdout.contains(&advice), "{doctor:?}");
    let refused = daemon.cli(&["instance", "recover", "a"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in ["instance \"a\" exists", COPY, "--as"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    let recovered = daemon.json(&["instance", "recover", "a", "--uid", COPY, "--as", "b"]);
    assert_eq!(
        (&recovered["name"], &recovered["uid"], &recovered["state"]),
        (&"b".into(), &COPY.into(), &"stopped".into())
    );
    assert!(!quarantined(&daemon).exists());
    // Only its name differs from the instance it is a copy of.
    let before = daemon.instance("a");
    for field in ["project", "snapshot", "created_at", "created_by", "runtime"] {
        assert_eq!(recovered[field], before[field], "{field}");
    }
    assert!(recovered["epoch"].as_u64() > before["epoch"].as_u64());
    daemon.kill9();
    daemon.start();
    for name in ["a", "b"] {
        assert_rows(&daemon, name);
    }
    let again = daemon.cli(&["instance", "recover", "b", "--uid", COPY]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(
        again.stderr.contains("The quarantine is empty."),
        "{again:?}"
    );
}

#[test]
fn quarantined_clone_comes_back_under_its_free_name_also_without_the_records() {
    let daemon = daemon().start();
    write_rows(&daemon, "instance:a,gitref:main");
    quarantine_a_copy(&daemon, "a");
    daemon.cli(&["instance", "rm", "a"]).ok();
    let refused = daemon.cli(&["instance", "recover", "other"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let quarantine = format!("In the quarantine: \"a\" ({COPY}).");
    assert!(refused.stderr.contains(&quarantine), "{refused:?}");
    let text = daemon.cli(&["instance", "recover", "a"]);
    let expected = format!("instance a is stopped, with its data of clone {COPY}");
    assert_eq!(text.ok(), expected);
    assert_rows(&daemon, "a");
    // The manifest agrees with the record that was written.
    daemon.kill9();
    fs::remove_dir_all(daemon.root().join("state/db")).expect("the database is there");
    daemon.expect_log("rebuil").expect_log("missing");
    daemon.start();
    assert_rows(&daemon, "a");
    assert_eq!(daemon.instance("a")["uid"], COPY);
    daemon.cli(&["instance", "rm", "a"]).ok();
    daemon.restart();
    assert_eq!(daemon.state("a"), "");
}

#[test]
fn instance_whose_data_was_away_is_used_again_without_a_restart() {
    let daemon = daemon().start();
    write_rows(&daemon, "instance:a,gitref:main");
    let clone = clone_dir(&daemon, "a");
    daemon.stop();
    let away = daemon.dir().join("away");
    fs::rename(&clone, &away).expect("it can be moved");
    daemon
        .expect_log("the data of an instance cannot be used")
        .expect_log("postgres did not start");
    daemon.start();
    let shown = daemon.instance("a");
    assert_eq!(shown["state"], "failed");
    let recover = "\"multidb instance recover a\"";
    let hint = shown["hint"].as_str().expect("it says what to do");
    assert!(hint.contains(recover), "{hint}");
    let list = daemon.cli(&["instance", "ls"]);
    assert!(list.ok().contains("a has failed: "), "{list:?}");
    assert!(list.stdout.contains(recover), "{list:?}");
    let refused = daemon.refused("instance:a");
    assert_eq!(refused.sqlstate(), "58000", "{refused:?}");
    let still = daemon.cli(&["instance", "recover", "a"]);
    assert_eq!(still.code, Some(1), "{still:?}");
    assert!(
        still.stderr.contains("its directory is missing"),
        "{still:?}"
    );
    fs::rename(&away, &clone).expect("it can be moved back");
    let recovered = daemon.json(&["instance", "recover", "a"]);
    assert_eq!(
        (&recovered["state"], &recovered["failure"]),
        (&"stopped".into(), &Value::Null)
    );
    assert_rows(&daemon, "a");
    // Nothing is wrong with it, so nothing happens to it.
    daemon.cli(&["instance", "recover", "a"]).ok();
    assert_rows(&daemon, "a");
}
