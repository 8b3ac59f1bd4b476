//! A full disk is an error for one client, and no data is lost.

use std::fs::File;
use std::io::Write;

use multidb_integration_tests::{Daemon, Disk, Engine, Fixture};

use crate::{daemon, daemon_on};

/// The warning of the watch on growth, if it looks while the disk is full.
const BELOW_RESERVE: &str = "the disk is below its reserve";
/// The smallest XFS that mkfs makes is 300 MB.
const SMALL_DISK_BYTES: u64 = 512 << 20;

/// Writes a file until no byte is free.
fn fill(daemon: &Daemon) -> std::path::PathBuf {
    let path = daemon.root().join("filler");
    let mut file = File::create(&path).expect("it can be made");
    for size in [1 << 20, 4096, 1] {
        let zeros = vec![0; size];
        while file.write_all(&zeros).is_ok() {}
        let _ = file.sync_all();
    }
    path
}

/// Writes a file until exactly so many bytes are free.
///
/// XFS gives space that it preallocated for other files back some seconds after they are closed, or at once when the
/// disk is full (fs/xfs/xfs_icache.c, `xfs_blockgc_flush_all`), so that a difference of two measurements would not
/// hold.
fn fill_except(daemon: &Daemon, free_bytes: u64) -> std::path::PathBuf {
    let path = fill(daemon);
    let file = File::options().write(true).open(&path);
    let file = file.expect("it exists");
    let size = file.metadata().expect("it has a size").len();
    file.set_len(size - free_bytes)
        .and_then(|()| file.sync_all())
        .expect("it can be shortened");
    path
}

#[test]
fn full_disk_refuses_a_clone_and_leaves_nothing_of_it() {
    let daemon = daemon()
        .small_disk(SMALL_DISK_BYTES)
        .limit("disk_reserve", "1MiB")
        .start();
    let session = daemon.connect("instance:old,gitref:main");
    session
        .query("create table kept as select 42 as x")
        .expect("it is writable");
    let filler = fill(&daemon);
    daemon
        .expect_log("space")
        .expect_log("disk")
        .expect_log("clone");
    let failure = daemon.refused("instance:new,gitref:main");
    assert_eq!(failure.sqlstate(), "53100", "{failure:?}");
    assert_eq!(session.one("select x from kept"), "42");
    std::fs::remove_file(filler).expect("it can be removed");
    assert_eq!(
        daemon.connect("instance:new,gitref:main").one("select 1"),
        "1"
    );
    assert_eq!(
        daemon.connect("instance:old").one("select x from kept"),
        "42"
    );
}

#[test]
fn reserve_that_is_reached_refuses_new_instances_and_keeps_old_ones() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:old,gitref:main");
    session.one("select 1");
    drop(session);
    daemon.stop();
    let config = std::fs::read_to_string(daemon.config_file()).expect("it is there");
    let config = config.replace("disk_reserve = \"64MiB\"", "disk_reserve = \"1TiB\"");
    std::fs::write(daemon.config_file(), config).expect("it can be written");
    daemon.expect_log("disk").expect_log("space");
    daemon.start();
    let failure = daemon.refused("instance:new,gitref:main");
    assert_eq!(failure.sqlstate(), "53100", "{failure:?}");
    assert!(
        format!("{failure:?}").contains("are missing."),
        "{failure:?}"
    );
    daemon.connect("instance:old").one("select 1");
    assert_eq!(daemon.state("new"), "");
}

/// Makes a small file for each block that is free, then removes one after another until `enough`.
fn let_crumbs_go(daemon: &Daemon, mut enough: impl FnMut() -> bool) {
    let crumbs: Vec<_> = (0..CRUMBS)
        .map(|n| daemon.root().join(format!("crumb{n}")))
        .collect();
    for crumb in &crumbs {
        std::fs::write(crumb, [1; 4096]).expect("the disk is not full yet");
    }
    let filler = fill(daemon);
    let mut left = crumbs.iter();
    while !enough() {
        let crumb = left
            .next()
            .expect("room for one more file is enough at some time");
        std::fs::remove_file(crumb).expect("it can be removed");
    }
    for path in left.chain([&filler]) {
        std::fs::remove_file(path).expect("it can be removed");
    }
}

/// The files of a block each that are removed one by one.
const CRUMBS: usize = 200;

/// A daemon that was killed, with three instances, the first of which runs and the last of which has data of its own
/// alone, and then a disk without room for one more file.
fn killed_on_a_full_disk() -> Daemon {
    let daemon = daemon()
        .small_disk(SMALL_DISK_BYTES)
        .limit("disk_reserve", "1MiB")
        .start();
    for name in ["stopped", "large", "runs"] {
        let session = daemon.connect(&format!("instance:{name},gitref:main"));
        session
            .query("create table kept as select 42 as x")
            .expect("it is writable");
        if name == "large" {
            session
                .query("create table large as select generate_series(1, 500000)")
                .expect("it is writable");
        }
    }
    for name in ["stopped", "large"] {
        daemon.cli(&["instance", "stop", name]).ok();
    }
    daemon.kill9();
    daemon
}

#[test]
fn daemon_starts_on_a_full_disk_and_a_deletion_makes_room() {
    let daemon = killed_on_a_full_disk();
    let filler = fill(&daemon);
    File::create(daemon.root().join("more")).expect_err("the disk is full");
    daemon
        .expect_log("postgres did not start instance=stopped")
        .expect_log("disk")
        .expect_log("clone failed");
    daemon.start();
    daemon.wait_log("the records cannot be written");
    daemon.wait_log("hint=\"Remove instances or snapshots");
    assert_eq!(daemon.json(&["status"])["disk_fault"], "no_disk_space");
    let status = daemon.cli(&["status"]);
    assert!(status.stdout.contains("but the disk is full"), "{status:?}");
    let doctor = daemon.cli(&["doctor"]);
    assert!(
        doctor.stdout.contains("running, but the disk is full"),
        "{doctor:?}"
    );

    let served = daemon.connect("instance:runs");
    assert_eq!(served.one("select x from kept"), "42");
    let failure = daemon.refused("instance:stopped");
    assert_eq!(failure.sqlstate(), "53100", "{failure:?}");
    let failure = daemon.refused("instance:new,gitref:main");
    assert_eq!(failure.sqlstate(), "53100", "{failure:?}");
    // A pin that cannot be stored is not acknowledged.
    let pinned = daemon.cli(&["instance", "pin", "stopped"]);
    assert_eq!(pinned.code, Some(1), "{pinned:?}");
    assert!(pinned.stderr.contains("no disk space"), "{pinned:?}");
    let reset = daemon.cli(&["instance", "reset", "stopped", "--yes"]);
    assert_eq!(reset.code, Some(1), "{reset:?}");
    assert!(reset.stderr.contains("no disk space"), "{reset:?}");

    daemon.cli(&["instance", "rm", "large", "--yes"]).ok();
    drop(daemon.connect("instance:new,gitref:main"));
    let session = daemon.connect("instance:stopped");
    assert_eq!(session.one("select x from kept"), "42");
    drop(session);
    daemon.cli(&["instance", "pin", "stopped"]).ok();
    assert_eq!(
        daemon.json(&["status"])["disk_fault"],
        serde_json::Value::Null
    );
    daemon.kill9();
    daemon.start();
    for name in ["stopped", "runs"] {
        let session = daemon.connect(&format!("instance:{name}"));
        assert_eq!(session.one("select x from kept"), "42");
    }
    assert_eq!(daemon.state("large"), "");
    assert_ne!(daemon.state("new"), "");
    std::fs::remove_file(filler).expect("it can be removed");
}

#[test]
fn start_without_room_is_told_with_the_log_of_postgres() {
    for engine in [Engine::Process, Engine::Docker] {
        let daemon = daemon_on(Disk::Xfs, engine)
            .small_disk(SMALL_DISK_BYTES)
            .limit("disk_reserve", "1MiB")
            .start();
        drop(daemon.connect("instance:a,gitref:main"));
        daemon.cli(&["instance", "stop", "a"]).ok();
        daemon
            .expect_log(BELOW_RESERVE)
            .expect_log("postgres did not start");
        let mut told = false;
        let_crumbs_go(&daemon, || match daemon.try_connect("instance:a") {
            Ok(_) => true,
            Err(failure) => {
                assert_eq!(failure.sqlstate(), "53100", "{failure:?}");
                told |= format!("{failure:?}").contains("The last lines of Postgres' log");
                told
            }
        });
        assert!(told, "{engine:?}");
        daemon.connect("instance:a").one("select 1");
    }
}

#[test]
fn import_that_fills_the_disk_fails_and_leaves_nothing() {
    let daemon = daemon()
        .small_disk(SMALL_DISK_BYTES)
        .limit("disk_reserve", "16MiB")
        .start();
    daemon.expect_log(BELOW_RESERVE);
    let filler = fill_except(&daemon, 40 << 20);
    let dump = Fixture::of(Disk::Xfs, std::path::Path::new(crate::PROGRAM)).dump("tuesday.sql");
    let dump = dump.display().to_string();
    let import = [
        "snapshot",
        "import",
        "next",
        "--project",
        "demo",
        "--dump",
        &dump,
    ];
    let failed = daemon.cli(&import);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("no disk space"), "{failed:?}");
    assert!(!daemon.root().join("snapshots/.staging-next").exists());
    std::fs::remove_file(filler).expect("it can be removed");
    daemon.cli(&import).ok();
}
