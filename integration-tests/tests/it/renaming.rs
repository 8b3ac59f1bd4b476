//! An instance gets another name, and its sessions go on.

use multidb_integration_tests::{Daemon, RandomDelays, Session};

use crate::daemon;

/// The kills of a daemon that renames.
const KILLS: usize = 6;

fn execute(session: &Session, sql: &str) {
    session.query(sql).expect("it is executed");
}

fn names(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.json(&["instance", "ls"]);
    let names = listed.as_array().into_iter().flatten();
    names
        .filter_map(|one| one["name"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn running_instance_is_renamed_while_its_session_is_in_a_transaction() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:old,gitref:main");
    execute(&session, "create table t (n int)");
    let started = session.one("select pg_postmaster_start_time()");
    let child = daemon.connect("instance:child,from:old");
    execute(&session, "begin");
    execute(&session, "insert into t values (1)");
    daemon.cli(&["instance", "pin", "old"]).ok();
    let epoch = daemon.instance("old")["epoch"].as_u64();

    let told = daemon.cli(&["instance", "rename", "old", "new"]);
    assert_eq!(told.ok().trim(), "old is now new and is running");
    execute(&session, "insert into t values (2)");
    execute(&session, "commit");
    let other = daemon.connect("instance:new");
    assert_eq!(other.one("select count(*) from t"), "2");
    assert_eq!(other.one("select pg_postmaster_start_time()"), started);
    assert_eq!(names(&daemon), ["child", "new"]);
    let shown = daemon.instance("new");
    assert_eq!(shown["pinned"], true, "{shown}");
    assert_eq!(shown["connections"], 2, "{shown}");
    assert!(shown["epoch"].as_u64() > epoch, "{shown}");
    assert_eq!(daemon.instance("child")["parent"], "new");
    drop(child);

    // The old name is like any unknown one.
    assert_eq!(daemon.refused("instance:old").sqlstate(), "3D000");
    let again = daemon.connect("instance:old,gitref:main");
    assert_eq!(again.one("select to_regclass('t') is null"), "t");
    drop((session, other, again));
    daemon.kill9();
    daemon.start();
    assert_eq!(names(&daemon), ["child", "new", "old"]);
    let session = daemon.connect("instance:new");
    assert_eq!(session.one("select count(*) from t"), "2");
    assert_eq!(session.one("select pg_postmaster_start_time()"), started);
    assert_eq!(daemon.instance("child")["parent"], "new");
    assert_eq!(daemon.instance("new")["pinned"], true);
}

#[test]
fn stopped_instance_is_renamed_and_a_taken_name_is_refused() {
    let daemon = daemon().start();
    for name in ["one", "two"] {
        let session = daemon.connect(&format!("instance:{name},gitref:main"));
        execute(
            &session,
            &format!("create table t as select '{name}'::text as n"),
        );
        drop(session);
        daemon.cli(&["instance", "stop", name]).ok();
    }
    let refused = |args: &[&str], text: &str| {
        let refused = daemon.cli(args);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(text), "{refused:?}");
    };
    refused(&["instance", "rename", "one", "two"], "\"two\" exists");
    refused(&["instance", "rename", "one", "one"], "\"one\" exists");
    refused(
        &["instance", "rename", "none", "three"],
        "\"none\" does not exist",
    );
    daemon.cli(&["instance", "rename", "one", "three"]).ok();
    assert_eq!(daemon.state("three"), "stopped");
    daemon.restart();
    // A name that was used, and one that never was.
    daemon.cli(&["instance", "rename", "two", "one"]).ok();
    daemon.cli(&["instance", "rename", "three", "four"]).ok();
    assert_eq!(names(&daemon), ["four", "one"]);
    for (name, data) in [("one", "two"), ("four", "one")] {
        let session = daemon.connect(&format!("instance:{name}"));
        assert_eq!(session.one("select n from t"), data);
    }
    daemon.cli(&["instance", "reset", "four", "--yes"]).ok();
    daemon.cli(&["instance", "rm", "one", "--yes"]).ok();
    daemon.restart();
    assert_eq!(names(&daemon), ["four"]);
}

#[test]
fn kill_during_a_rename_leaves_one_name_with_the_data() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    execute(&session, "create table t as select 7 as n");
    drop(session);
    daemon.cli(&["instance", "pin", "a"]).ok();
    let mut name = "a".to_owned();
    let mut delays = RandomDelays::new();
    for kill in 0..KILLS {
        let next = format!("b{kill}");
        let args = ["instance", "rename", &name, &next];
        let mut command = daemon.cli_command(&args).spawn().expect("it can be run");
        std::thread::sleep(delays.milliseconds(0, 40));
        daemon.kill9();
        let told = command.wait().expect("it can be waited for");
        daemon.start();
        let found = names(&daemon);
        let is_either = found == [name.as_str()] || found == [next.as_str()];
        assert!(is_either, "{found:?}");
        assert!(!told.success() || found == [next.as_str()], "{found:?}");
        name.clone_from(&found[0]);
        assert_eq!(daemon.instance(&name)["pinned"], true);
        let session = daemon.connect(&format!("instance:{name}"));
        assert_eq!(session.one("select n from t"), "7");
    }
}
