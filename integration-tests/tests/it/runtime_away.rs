//! A runtime that is away: an engine that is slow at the start or goes, a kind that was changed by hand, a root that
//! was moved. Nothing is started by another runtime, and no data is touched before it is known whether a server runs on
//! it.

use std::fs;
use std::path::Path;

use multidb_integration_tests::{Daemon, Disk, Engine, EngineRelay, eventually};

use crate::daemon_on;
use crate::docker::containers;

const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Creates an instance with a row, and returns whether its data is still there.
fn keep_a_row(daemon: &Daemon, name: &str) {
    let session = daemon.connect(&format!("instance:{name},gitref:main"));
    let made = session.query("create table kept as select 42 as x");
    made.expect("it is writable");
}

#[track_caller]
fn assert_row(daemon: &Daemon, name: &str) {
    let session = daemon.connect(&format!("instance:{name}"));
    assert_eq!(session.one("select x from kept"), "42");
}

/// Checks that an instance is unavailable for clients and for commands, which leave it alone.
#[track_caller]
fn assert_unavailable(daemon: &Daemon, name: &str) {
    assert_eq!(daemon.state(name), "unavailable");
    let listed = daemon.json(&["instance", "ls", "--state", "unavailable"]);
    let listed = listed.as_array().expect("it is a list").iter();
    assert!(listed.clone().any(|one| one["name"] == name), "{listed:?}");
    let failure = daemon.refused(&format!("instance:{name}"));
    assert_eq!(failure.sqlstate(), "57P03", "{failure:?}");
    for command in ["start", "reset"] {
        let yes: &[&str] = if command == "reset" { &["--yes"] } else { &[] };
        let output = daemon.cli(&[&["instance", command, name], yes].concat());
        assert_eq!(output.code, Some(1), "{output:?}");
    }
    let data = daemon.data_dir(name);
    assert!(data.join("PG_VERSION").exists());
    assert_eq!(daemon.state(name), "unavailable");
}

#[test]
fn daemon_starts_without_its_engine_and_serves_as_soon_as_it_answers() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).prepare();
    daemon.expect_log("");
    daemon.start();
    keep_a_row(&daemon, "running");
    keep_a_row(&daemon, "deleted");
    daemon.kill9();
    let relay = EngineRelay::open(&daemon.dir().join("engine.sock"));
    relay.cut();
    let staging = daemon.root().join("snapshots/.staging-half");
    fs::create_dir_all(staging.join("data")).expect("it can be made");

    daemon.start_with(&[("DOCKER_HOST", &relay.host())]);
    assert_eq!(daemon.json(&["status"])["snapshots"], 2);
    assert_unavailable(&daemon, "running");
    let failure = daemon.refused("instance:new,gitref:main");
    assert_eq!(failure.sqlstate(), "57P03", "{failure:?}");
    assert_eq!(daemon.state("new"), "");
    let removed = daemon.cli(&["instance", "rm", "--yes", "deleted"]);
    assert_eq!(removed.code, Some(1), "{removed:?}");
    assert!(daemon.data_dir("deleted").join("PG_VERSION").exists());
    assert!(staging.exists());

    relay.mend();
    assert_row(&daemon, "running");
    daemon.connect("instance:new,gitref:main").one("select 1");
    // The command has failed, so it is not carried out later.
    assert_row(&daemon, "deleted");
    daemon.cli(&["instance", "rm", "--yes", "deleted"]).ok();
    eventually("the staging directory is gone", LIMIT, || !staging.exists());
    daemon.stop();
}

#[test]
fn kind_of_a_root_is_detected_once() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).prepare();
    daemon.expect_log("");
    daemon.reconfigure("kind = \"docker\"\n", "");
    daemon.start();
    keep_a_row(&daemon, "a");
    assert_eq!(daemon.instance("a")["runtime"], "docker");
    daemon.stop();
    // The engine is slow at boot.
    let relay = EngineRelay::open(&daemon.dir().join("engine.sock"));
    relay.cut();
    daemon.start_with(&[("DOCKER_HOST", &relay.host())]);
    assert_unavailable(&daemon, "a");
    relay.mend();
    assert_row(&daemon, "a");
    assert_eq!(containers(&daemon).len(), 1);
    daemon.stop();
    // It accepts, and does not answer for some time.
    relay.hold();
    daemon.launch_only_with(&[("DOCKER_HOST", &relay.host())]);
    eventually("the engine is asked", LIMIT, || relay.waiting() > 0);
    relay.mend();
    daemon.wait_ready();
    assert_row(&daemon, "a");
    assert_eq!(containers(&daemon).len(), 1);
    daemon.stop();
}

#[test]
fn kind_that_was_changed_by_hand_leaves_the_data_and_the_server_alone() {
    for (engine, other) in [(Engine::Docker, "process"), (Engine::Process, "docker")] {
        let daemon = daemon_on(Disk::Xfs, engine).prepare();
        daemon.expect_log("");
        daemon.start();
        keep_a_row(&daemon, "a");
        let own = daemon.instance("a")["runtime"].clone();
        let own = own.as_str().expect("it is a text");
        let (own, other) = (format!("kind = {own:?}"), format!("kind = {other:?}"));
        daemon.kill9();

        daemon.reconfigure(&own, &other);
        daemon.start();
        assert_unavailable(&daemon, "a");
        let removed = daemon.cli(&["instance", "rm", "--yes", "a"]);
        assert_eq!(removed.code, Some(1), "{removed:?}");
        assert_unavailable(&daemon, "a");
        daemon.stop();

        daemon.reconfigure(&other, &own);
        daemon.start();
        assert_eq!(daemon.state("a"), "running");
        assert_row(&daemon, "a");
    }
}

#[test]
fn root_that_was_moved_or_is_reached_by_a_link_finds_its_containers() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).prepare();
    daemon.expect_log("");
    daemon.start();
    keep_a_row(&daemon, "a");
    let root = daemon.root();
    let moved = daemon.dir().join("moved");
    let root_line = |path: &Path| format!("root = {path:?}");
    let before = containers(&daemon);

    daemon.kill9();
    fs::rename(&root, &moved).expect("it can be moved");
    std::os::unix::fs::symlink(&moved, &root).expect("a link can be made");
    daemon.start();
    assert_eq!(daemon.state("a"), "running");
    assert_row(&daemon, "a");
    assert_eq!(containers(&daemon), before);

    daemon.kill9();
    fs::remove_file(&root).expect("the link can be removed");
    daemon.reconfigure(&root_line(&root), &root_line(&moved));
    daemon.start();
    assert_eq!(daemon.state("a"), "running");
    assert_row(&daemon, "a");
    assert_eq!(containers(&daemon), before);
    daemon.cli(&["instance", "rm", "--yes", "a"]).ok();
    assert_eq!(containers(&daemon), Vec::<String>::new());
}
