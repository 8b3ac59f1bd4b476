//! Instances that are clones of other instances.

use std::path::Path;
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Engine, RandomDelays, Session, eventually};

use crate::{daemon, daemon_on};

const LIMIT: Duration = Duration::from_secs(60);
/// The kills of a daemon that clones an instance.
const KILLS: usize = 8;

fn execute(session: &Session, sql: &str) {
    session.query(sql).expect("it is executed");
}

/// A parent is cloned while sessions write to it.
pub(crate) fn branch(daemon: &Daemon) {
    let parent = daemon.connect("instance:live,gitref:main");
    execute(
        &parent,
        "create table notes as select generate_series(1, 10000) as n",
    );
    let writer = daemon.connect("instance:live");
    let writing = writer.start(
        "do $$ begin for i in 1..1000000 loop insert into notes values (0); commit; end loop; end $$",
    );
    execute(&parent, "begin");
    execute(&parent, "insert into notes values (-1)");

    let child = daemon.connect("instance:branch,from:live");
    assert_eq!(child.one("select pg_is_in_recovery()"), "f");
    let notices = format!("{:?}", child.notices());
    let expected = "created instance \\\"branch\\\" from instance \\\"live\\\"";
    assert!(notices.contains(expected), "{notices}");
    let count = "select count(*) from notes where n";
    assert_eq!(child.one(&format!("{count} > 0")), "10000");
    assert_eq!(
        child.one(&format!("{count} < 0")),
        "0",
        "it was not committed"
    );
    let zeros = child.one(&format!("{count} = 0"));
    assert_eq!(child.one("select count(*) from pg_replication_slots"), "0");

    execute(&parent, "commit");
    assert!(!writing.is_done(), "the parent's sessions go on");
    writer.cancel();
    assert_eq!(
        writing.wait().expect_err("it was cancelled").sqlstate(),
        "57014"
    );
    assert_eq!(parent.one("select count(*) from pg_replication_slots"), "0");
    let shown = daemon.instance("branch");
    assert_eq!(shown["parent"], "live", "{shown}");
    assert!(shown["gitref"].is_null(), "{shown}");
    assert_eq!(shown["snapshot"], daemon.instance("live")["snapshot"]);

    // It outlives its parent, and goes back to the state that it began with, again and again.
    drop((parent, writer));
    daemon.cli(&["instance", "rm", "live", "--yes"]).ok();
    execute(&child, "delete from notes");
    drop(child);
    for _ in 0..2 {
        daemon.cli(&["instance", "reset", "branch", "--yes"]).ok();
        daemon.restart();
        let child = daemon.connect("instance:branch");
        assert_eq!(child.one(&format!("{count} > 0")), "10000");
        assert_eq!(child.one(&format!("{count} = 0")), zeros);
        execute(&child, "drop table notes");
    }
}

#[test]
fn stopped_instance_is_cloned_by_command() {
    let daemon = daemon().start();
    execute(
        &daemon.connect("instance:live,gitref:main"),
        "create table t as select 7 as n",
    );
    daemon.cli(&["instance", "stop", "live"]).ok();
    let told = daemon.cli(&[
        "instance", "create", "branch", "--from", "live", "--ttl", "1h",
    ]);
    let told = told.ok();
    assert!(
        told.contains("branch is running, a clone of instance live"),
        "{told}"
    );
    assert_eq!(
        daemon.connect("instance:branch").one("select n from t"),
        "7"
    );
    assert_eq!(daemon.instance("branch")["ttl_seconds"], 3600);
    let refused = daemon.cli(&["instance", "create", "other", "--from", "none"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("\"none\""), "{refused:?}");
}

#[test]
fn clone_of_what_cannot_be_cloned_is_refused_and_leaves_nothing() {
    let daemon = daemon().start();
    let parent = daemon.connect("instance:live,gitref:main");
    assert_eq!(
        daemon.refused("instance:branch,from:none").sqlstate(),
        "3D000"
    );
    assert_eq!(
        daemon.refused("instance:branch,from:branch").sqlstate(),
        "3D000"
    );
    let both = daemon.refused("instance:branch,from:live,gitref:main");
    assert_eq!(both.sqlstate(), "22023");
    execute(&parent, "alter system set wal_level = 'minimal'");
    execute(&parent, "alter system set max_wal_senders = 0");
    drop(parent);
    daemon.cli(&["instance", "stop", "live"]).ok();
    let refused = daemon.refused("instance:branch,from:live");
    let text = format!("{refused:?}");
    assert_eq!(refused.sqlstate(), "58000", "{text}");
    assert!(
        text.contains("WAL level") && text.contains("wal_level = replica"),
        "{text}"
    );
    assert_eq!(daemon.state("live"), "running");
    assert_eq!(
        daemon.json(&["instance", "ls"]).as_array().map(Vec::len),
        Some(1)
    );

    daemon.expect_log("clone failed");

    // A stack that restarts with its words, and one with others.
    let other = daemon.connect("instance:other,gitref:main,ttl:1h");
    drop(other);
    let told = daemon.connect("instance:other,from:live");
    told.one("select 1");
    let notices = format!("{:?}", told.notices());
    assert!(
        notices.contains("exists already, from snapshot"),
        "{notices}"
    );
}

/// The number of a directory's entries, without the hidden ones.
fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .count()
}

/// The clone of a running instance: its checkpoint, the copy, the WAL, the start.
fn kill_in_any_phase_on(disk: Disk) {
    let daemon = daemon_on(disk, Engine::Process).start();
    let parent = daemon.connect("instance:live,gitref:main");
    execute(&parent, "create table notes (n int)");
    let started = parent.one("select pg_postmaster_start_time()");
    drop(parent);
    let mut delays = RandomDelays::new();
    for kill in 1..=KILLS {
        let parent = daemon.connect("instance:live");
        execute(&parent, &format!("insert into notes values ({kill})"));
        let name = format!("branch-{kill}");
        let args = ["instance", "create", &name, "--from", "live"];
        let mut command = daemon.cli_command(&args).spawn().expect("it can be run");
        std::thread::sleep(delays.milliseconds(0, 700));
        daemon.kill9();
        let told = command.wait().expect("it can be waited for");
        daemon.start();

        // The parent is as before: its server runs, in no backup, and keeps no WAL for one.
        let parent = daemon.connect("instance:live");
        assert_eq!(parent.one("select pg_postmaster_start_time()"), started);
        assert_eq!(parent.one("select count(*) from notes"), kill.to_string());
        eventually("the backup has ended", LIMIT, || {
            let of_clone = "select count(*) from pg_stat_activity where query like '%backup_start%' \
                            and pid <> pg_backend_pid()";
            parent.one("select count(*) from pg_replication_slots") == "0"
                && parent.one(of_clone) == "0"
        });
        let listed = daemon.json(&["instance", "ls"]);
        let names: Vec<_> = listed
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["name"])
            .collect();
        let is_there = names.iter().any(|one| **one == name.as_str());
        assert!(is_there || !told.success(), "{listed}");
        if is_there {
            let child = daemon.connect(&format!("instance:{name}"));
            assert_eq!(child.one("select count(*) from notes"), kill.to_string());
            assert_eq!(daemon.instance(&name)["parent"], "live");
        }
        assert_eq!(count(&daemon.root().join("instances")), names.len());
        assert_eq!(count(&daemon.root().join("quarantine")), 0);
    }
    eventually("the trash is empty", LIMIT, || {
        count(&daemon.root().join("trash")) == 0
    });
    let last = daemon.connect("instance:last,from:live");
    assert_eq!(last.one("select max(n) from notes"), KILLS.to_string());
}

#[test]
fn kill_in_any_phase_of_a_clone_of_an_instance_loses_and_leaves_nothing_on_xfs() {
    kill_in_any_phase_on(Disk::Xfs);
}

#[test]
fn kill_in_any_phase_of_a_clone_of_an_instance_loses_and_leaves_nothing_on_btrfs() {
    kill_in_any_phase_on(Disk::Btrfs);
}
