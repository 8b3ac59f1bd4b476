//! Instances that are clones of other instances.

use multidb_integration_tests::{Daemon, Session};

use crate::daemon;

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
