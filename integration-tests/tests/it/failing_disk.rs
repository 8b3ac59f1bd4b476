//! A disk that is read-only or fails is told of by its name, is no damage, and loses nothing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{Daemon, eventually, kill_all_using, run};
use serde_json::Value;

use crate::daemon;

/// The smallest XFS that mkfs makes is 300 MB.
const SMALL_DISK_BYTES: u64 = 512 << 20;

/// How long killed processes may hold a file system, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon on a disk of its own with two instances, the second one stopped.
fn daemon_with_instances() -> Daemon {
    let daemon = daemon()
        .small_disk(SMALL_DISK_BYTES)
        .limit("disk_reserve", "1MiB")
        .start();
    for name in ["runs", "stopped"] {
        let session = daemon.connect(&format!("instance:{name},gitref:main"));
        session
            .query("create table kept as select 42 as x")
            .expect("it is writable");
    }
    daemon.cli(&["instance", "stop", "stopped"]).ok();
    daemon
}

/// Makes the root read-only, or writable again, for everything that is started later in its place.
fn remount(daemon: &Daemon, how: &str) {
    let mut mount = Command::new("mount");
    mount.args(["-o", &format!("remount,bind,{how}")]);
    run(mount.arg(daemon.root())).ok();
}

/// The fault of the disk by `status`.
fn fault(daemon: &Daemon) -> Value {
    daemon.json(&["status"])["disk_fault"].clone()
}

/// The databases of records that were moved aside.
fn moved_aside(daemon: &Daemon) -> Vec<PathBuf> {
    let entries = fs::read_dir(daemon.root().join("state")).expect("it can be listed");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    paths
        .filter(|path| path.display().to_string().contains("damaged"))
        .collect()
}

#[test]
fn read_only_disk_is_served_told_of_and_written_again_without_a_restart() {
    let daemon = daemon_with_instances();
    daemon.kill9();
    // The servers keep the mount, so the daemon sees a second one over it.
    let mut bind = Command::new("mount");
    run(bind.arg("--bind").arg(daemon.root()).arg(daemon.root())).ok();
    remount(&daemon, "ro");
    daemon
        .expect_log("ead-only")
        .expect_log("observed time was not written");
    daemon.start();
    daemon.wait_log("the records cannot be written");
    assert_eq!(fault(&daemon), "read_only_disk");
    let doctor = daemon.cli(&["doctor"]);
    assert!(
        doctor.stdout.contains("running, but the disk is read-only"),
        "{doctor:?}"
    );
    let served = daemon.connect("instance:runs");
    assert_eq!(served.one("select x from kept"), "42");

    let failure = daemon.refused("instance:new,gitref:main");
    assert_eq!(failure.sqlstate(), "58030", "{failure:?}");
    let failure = daemon.refused("instance:stopped");
    assert_eq!(failure.sqlstate(), "58030", "{failure:?}");
    for command in [
        ["instance", "rm", "stopped", "--yes"],
        ["instance", "reset", "stopped", "--yes"],
    ] {
        let failed = daemon.cli(&command);
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(
            failed.stderr.contains("Read-only file system"),
            "{failed:?}"
        );
        assert!(failed.stderr.contains("hint: "), "{failed:?}");
    }
    assert!(!daemon.log().contains("File exists"));

    remount(&daemon, "rw");
    assert_eq!(
        daemon.connect("instance:stopped").one("select x from kept"),
        "42"
    );
    drop(daemon.connect("instance:new,gitref:main"));
    daemon.cli(&["instance", "rm", "new", "--yes"]).ok();
    assert_eq!(fault(&daemon), Value::Null);
    assert_eq!(moved_aside(&daemon), [] as [PathBuf; 0]);
    drop(served);
    daemon.stop();
    run(Command::new("umount").arg(daemon.root())).ok();
    daemon.start();
    for name in ["runs", "stopped"] {
        let session = daemon.connect(&format!("instance:{name}"));
        assert_eq!(session.one("select x from kept"), "42");
    }
}

#[test]
fn disk_that_fails_is_named_and_nothing_is_lost() {
    let daemon = daemon_with_instances();
    for expected in [
        "nput/output error",
        "closed the connection",
        "exited unexpectedly",
        "clone failed",
        "postgres did not start",
    ] {
        daemon.expect_log(expected);
    }
    // The snapshots of the fixture are copies that were not made durable.
    let mut sync = Command::new("sync");
    run(sync.arg("--file-system").arg(daemon.root())).ok();
    // Every access to the file system gives EIO from now on.
    let mut shutdown = Command::new("xfs_io");
    run(shutdown.args(["-x", "-c", "shutdown"]).arg(daemon.root())).ok();
    let failure = daemon.refused("instance:new,gitref:main");
    assert_eq!(failure.sqlstate(), "58030", "{failure:?}");
    assert_eq!(fault(&daemon), "disk_failed");
    let failed = daemon.cli(&["instance", "rm", "stopped", "--yes"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("Input/output error"), "{failed:?}");
    daemon.kill9();

    let serve = daemon.cli(&["serve"]);
    assert_eq!(serve.code, Some(1), "{serve:?}");
    let named = format!("cannot read {}/", daemon.root().display());
    assert!(serve.stderr.contains(&named), "{serve:?}");
    assert!(serve.stderr.contains("Input/output error"), "{serve:?}");
    assert!(
        serve.stderr.contains("hint: Look at the kernel's log"),
        "{serve:?}"
    );
    assert!(!daemon.log().contains("File exists"));

    kill_all_using(&daemon.root());
    // A server that was killed may hold the file system for a moment.
    eventually("the disk is unmounted", TIMEOUT, || {
        run(Command::new("umount").arg(daemon.root())).code == Some(0)
    });
    let mut mount = Command::new("mount");
    mount
        .args(["-o", "loop", "--make-shared"])
        .arg(daemon.dir().join("small.img"));
    run(mount.arg(daemon.root())).ok();
    daemon.start();
    assert_eq!(moved_aside(&daemon), [] as [PathBuf; 0]);
    assert_eq!(daemon.state("new"), "");
    for name in ["runs", "stopped"] {
        let session = daemon.connect(&format!("instance:{name}"));
        assert_eq!(session.one("select x from kept"), "42");
    }
}
