//! Records that are older than the instances, since a backup of them was restored or the end of their log was lost:
//! nothing complete is deleted, and everything is shown.

use std::fs;
use std::path::Path;
use std::process::Command;

use multidb_integration_tests::{Daemon, postmaster_pid, run};

use crate::daemon;

/// Replaces the present records with the earlier ones.
type Lose = fn(&Path, &Path);

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--archive").args([from, to])).ok();
}

/// A copy that was made before takes the place of the records.
fn restore(records: &Path, before: &Path) {
    fs::remove_dir_all(records).expect("there are records");
    copy(before, records);
}

/// Bytes written since the copy was made are zeros, as after a crash of a disk that had not written them.
fn cut_tail(records: &Path, before: &Path) {
    let log = records.join("db");
    let mut bytes = fs::read(&log).expect("there is a log");
    let old = fs::read(before.join("db")).expect("there is a copy");
    let same = bytes.iter().zip(&old).take_while(|(a, b)| a == b).count();
    assert!(same < bytes.len(), "nothing was written since");
    bytes[same..].fill(0);
    fs::write(&log, bytes).expect("it can be written");
}

fn rows(daemon: &Daemon, name: &str) -> String {
    let session = daemon.connect(&format!("instance:{name}"));
    session.one("select count(*) from kept")
}

/// Creates an instance with so many rows.
fn create(daemon: &Daemon, name: &str, rows: u32) {
    let session = daemon.connect(&format!("instance:{name},snapshot:monday"));
    let fill = format!("create table kept as select generate_series(1, {rows}) as x");
    session.query(&fill).expect("it is writable");
}

#[test]
fn older_records_take_nothing_from_newer_instances() {
    for lose in [restore as Lose, cut_tail] {
        let daemon = daemon().start();
        for (name, expected) in [
            ("made-anew", "the database of records had lost an instance"),
            ("pinned", "was older than its manifest"),
            ("removed", "the data of an instance cannot be used"),
            ("damaged", "quarantine"),
        ] {
            daemon.expect_log(name).expect_log(expected);
        }
        for name in ["made-anew", "pinned", "unpinned", "removed"] {
            create(&daemon, name, 1);
        }
        daemon.stop();
        let records = daemon.root().join("state/db");
        let before = daemon.dir().join("db");
        copy(&records, &before);

        daemon.start();
        daemon.cli(&["instance", "rm", "--yes", "made-anew"]).ok();
        create(&daemon, "made-anew", 5000);
        daemon.cli(&["instance", "rm", "--yes", "removed"]).ok();
        daemon.cli(&["instance", "pin", "pinned"]).ok();
        create(&daemon, "damaged", 1);
        daemon.cli(&["instance", "stop", "--yes", "damaged"]).ok();
        let damaged = daemon.data_dir("damaged");
        let damaged = damaged.parent().expect("data is in a directory");
        let server = postmaster_pid(&daemon.data_dir("made-anew"));
        assert!(server.is_some());
        daemon.kill9();
        lose(&records, &before);
        fs::write(damaged.join("manifest.json"), "{").expect("it can be written");

        daemon.start();
        assert_eq!(postmaster_pid(&daemon.data_dir("made-anew")), server);
        assert_eq!(rows(&daemon, "made-anew"), "5000");
        // Data that is complete and of no instance is kept, and told.
        assert_eq!(daemon.state("damaged"), "");
        let uid = damaged.file_name().expect("it has a name");
        let kept = daemon.root().join("quarantine").join(uid);
        assert!(kept.join("data/PG_VERSION").exists());
        let doctor = daemon.cli(&["doctor"]);
        let told = uid.to_str().is_some_and(|uid| doctor.stdout.contains(uid));
        assert!(told, "{doctor:?}");
        // The old record is shown, with its fault, until an operator removes it.
        assert_eq!(daemon.state("removed"), "failed");
        daemon.cli(&["instance", "rm", "--yes", "removed"]).ok();
        create(&daemon, "removed", 7);
        assert_eq!(rows(&daemon, "removed"), "7");

        assert_pin_is_kept(&daemon);
        assert!(kept.join("data/PG_VERSION").exists());
    }
}

/// The pin is in the manifest alone, and protects.
fn assert_pin_is_kept(daemon: &Daemon) {
    assert_eq!(daemon.instance("pinned")["pinned"], true);
    for name in ["made-anew", "removed"] {
        daemon.cli(&["instance", "pin", name]).ok();
    }
    daemon.stop();
    daemon.reconfigure(
        "[limits]\n",
        "[limits]\nretention = \"2s\"\nexpiry_grace = \"1s\"\n",
    );
    daemon.expect_log("instance is expired");
    daemon.start();
    daemon.wait_state("unpinned", "");
    assert_eq!(rows(daemon, "pinned"), "1");
}
