//! The time to live and the class of an instance, which serve at its creation.

use multidb_integration_tests::{Daemon, Disk, Engine, Session, kill_servers_of};

use crate::{daemon, daemon_on};

#[test]
fn ttl_and_class_are_given_at_creation_and_kept() {
    let daemon = daemon().limit("retention", "3d").start();
    let session = daemon.connect("instance:t,snapshot:monday,ttl:2h,class:scratch");
    session.one("select 1");
    let notices = format!("{:?}", session.notices());
    assert!(!notices.contains("lifetime"), "{notices}");
    drop(session);
    let lifetime = || {
        let shown = daemon.instance("t");
        assert!(shown["parent"].is_null(), "{shown}");
        (shown["class"].clone(), shown["ttl_seconds"].clone())
    };
    let given = ("scratch".into(), 7200.into());
    assert_eq!(lifetime(), given);
    drop(daemon.connect("instance:d,snapshot:monday"));
    let at = |name: &str| daemon.instance(name)["expires_at"].to_string();
    assert!(at("t") < at("d"), "{} {}", at("t"), at("d"));
    assert_eq!(daemon.instance("d")["class"], "durable");

    // A stack that restarts with the same words is told nothing, with others it is told of the difference.
    let same = daemon.connect("instance:t,ttl:120m,class:scratch");
    same.one("select 1");
    assert!(same.notices().is_empty(), "{:?}", same.notices());
    let other = daemon.connect("instance:t,ttl:1h,class:durable");
    other.one("select 1");
    let notices = format!("{:?}", other.notices());
    for expected in [
        "with another lifetime",
        "Its ttl is 2 hours, not 1 hour. Its class is scratch, not durable.",
    ] {
        assert!(notices.contains(expected), "{notices}");
    }
    drop((same, other));
    daemon.cli(&["instance", "reset", "t", "--yes"]).ok();
    daemon.restart();
    assert_eq!(lifetime(), given);
}

#[test]
fn ttl_beyond_the_retention_is_refused_at_creation_alone() {
    let daemon = daemon().limit("retention", "1d").start();
    let refusal = daemon.refused("instance:t,snapshot:monday,ttl:2d");
    assert_eq!(refusal.sqlstate(), "22023");
    let text = format!("{refusal:?}");
    assert!(text.contains("at most 1 day (limits.retention)"), "{text}");
    drop(daemon.connect("instance:t,snapshot:monday"));
    drop(daemon.connect("instance:t,ttl:2d"));
}

#[test]
fn instance_is_created_by_command() {
    let daemon = daemon().limit("retention", "1d").start();
    let create = |args: &[&str]| daemon.cli(&[&["instance", "create"], args].concat());
    let told = create(&["c", "--gitref", "v1", "--ttl", "2h", "--class", "scratch"]);
    assert!(
        told.ok()
            .contains("instance c is running, a clone of snapshot monday"),
        "{told:?}"
    );
    let shown = daemon.instance("c");
    assert_eq!(
        (&shown["ttl_seconds"], &shown["gitref"]),
        (&7200.into(), &"v1".into())
    );
    for (args, message) in [
        (&["c", "--snapshot", "latest"][..], "instance \"c\" exists"),
        (
            &["l", "--snapshot", "latest", "--ttl", "2d"],
            "longer than the retention",
        ),
        (&["n", "--snapshot", "none"], "has no snapshot \"none\""),
        (&["g", "--gitref", "none"], "none"),
    ] {
        let refused = create(args);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(message), "{refused:?}");
    }
    drop(daemon.connect("instance:c"));
}

/// The notice for the client of a scratch instance after an unclean end.
const RENEWED: &str = "ended uncleanly and was cloned afresh from snapshot";

fn told(session: &Session) -> String {
    session.one("select 1");
    format!("{:?}", session.notices())
}

/// Kills the server of an instance with one of its sessions, as a fault of the machine would.
fn kill_server(daemon: &Daemon, session: &Session) {
    session.one("create table lost (x int); insert into lost values (1); select 1");
    let killed = format!(
        "kill -9 $(head -1 {}/postmaster.pid)",
        daemon.data_dir("s").display()
    );
    let copy = format!("copy (select 1) to program '{killed}'");
    let _ended = session.query(&copy);
}

fn scratch_is_renewed(engine: Engine, disk: Disk) {
    let daemon = daemon_on(disk, engine).start();
    daemon.expect_log("scratch instance ended uncleanly, and is cloned afresh");
    daemon.expect_log("postgres exited unexpectedly");
    let session = daemon.connect("instance:s,snapshot:monday,class:scratch");
    for (setting, value) in [
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
    ] {
        assert_eq!(session.one(&format!("show {setting}")), value);
    }
    // After a clean stop it has its data.
    session.one("create table kept (x int); select 1");
    daemon.cli(&["instance", "stop", "s", "--yes"]).ok();
    let session = daemon.connect("instance:s");
    session.one("select count(*) from kept");
    let notices = told(&session);
    assert!(!notices.contains(RENEWED), "{notices}");

    let uid = daemon.instance("s")["uid"].clone();
    kill_server(&daemon, &session);
    drop(session);
    let session = daemon.connect("instance:s");
    let notices = told(&session);
    assert!(notices.contains(RENEWED), "{notices}");
    assert_eq!(
        session.one("select count(*) from pg_class where relname in ('kept', 'lost')"),
        "0"
    );
    let after = daemon.instance("s");
    assert_ne!(after["uid"], uid);
    assert_eq!(after["class"], "scratch");
}

#[test]
fn scratch_instance_is_cloned_afresh_after_an_unclean_end() {
    scratch_is_renewed(Engine::Process, Disk::Xfs);
}

#[test]
fn scratch_instance_in_a_container_is_cloned_afresh_after_an_unclean_end() {
    scratch_is_renewed(Engine::Docker, Disk::Btrfs);
}

#[test]
fn scratch_instance_is_decided_on_after_the_daemon_was_killed_too() {
    let daemon = daemon().start();
    daemon.expect_log("scratch instance ended uncleanly, and is cloned afresh");
    daemon.expect_log("postgres exited unexpectedly");
    let session = daemon.connect("instance:s,snapshot:monday,class:scratch");
    session.one("create table kept (x int); select 1");
    daemon.kill9();
    daemon.start();
    // Its server went on, and nothing is lost.
    daemon
        .connect("instance:s")
        .one("select count(*) from kept");
    let data_dir = daemon.data_dir("s");
    daemon.kill9();
    kill_servers_of(&data_dir.to_string_lossy());
    daemon.start();
    // A start by command does as a client's.
    daemon.cli(&["instance", "start", "s"]).ok();
    let session = daemon.connect("instance:s");
    assert_eq!(
        session.one("select count(*) from pg_class where relname = 'kept'"),
        "0"
    );
}

#[test]
fn scratch_instance_whose_snapshot_is_gone_says_so_and_comes_back_with_it() {
    let daemon = daemon().start();
    daemon.expect_log("scratch instance ended uncleanly, and is cloned afresh");
    daemon.expect_log("postgres exited unexpectedly");
    daemon.expect_log("clone failed");
    let session = daemon.connect("instance:s,snapshot:monday,class:scratch");
    kill_server(&daemon, &session);
    let snapshots = daemon.root().join("snapshots");
    let (there, away) = (snapshots.join("monday"), daemon.dir().join("away"));
    std::fs::rename(&there, &away).expect("it moves away");
    let refusal = format!("{:?}", daemon.refused("instance:s"));
    assert!(refusal.contains("that snapshot is gone"), "{refusal}");
    assert_eq!(daemon.instance("s")["state"], "failed");
    std::fs::rename(&away, &there).expect("it moves back");
    let notices = told(&daemon.connect("instance:s"));
    assert!(notices.contains(RENEWED), "{notices}");
}

#[test]
fn client_is_told_the_age_of_the_snapshot_and_the_time_that_its_instance_took() {
    let daemon = daemon().start();
    let notices = told(&daemon.connect("instance:n,snapshot:monday"));
    for expected in [
        "from snapshot \\\"monday\\\", taken ",
        " days ago (clone ",
        " ms, start ",
    ] {
        assert!(notices.contains(expected), "{expected}: {notices}");
    }
}
