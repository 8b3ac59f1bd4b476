//! A full disk is an error for one client, and no data is lost.

use std::fs::File;
use std::io::Write;

use multidb_integration_tests::Daemon;

use crate::daemon;

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
    daemon.connect("instance:old").one("select 1");
    assert_eq!(daemon.state("new"), "");
}
