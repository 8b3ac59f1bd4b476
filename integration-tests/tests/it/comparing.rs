//! `instance diff`: the changes of a migration, against the snapshot or between two instances.

use multidb_integration_tests::{Daemon, Disk, Engine};
use serde_json::{Value, json};

use crate::{daemon, daemon_on};

const CHANGES: &str = "
    insert into django_migrations (app, name, applied) values ('polls', '0099_votes', now());
    create table votes (id int primary key, note text); insert into votes select n, 'x' from generate_series(1, 7) n;
    alter table polls_question add column weight int;
    delete from polls_choice where id <= 2";

fn rows<'a>(diff: &'a Value, name: &str) -> &'a Value {
    let tables = diff["tables"].as_array().into_iter().flatten();
    let mut found = tables.filter(|table| table["name"] == name);
    found.next().unwrap_or(&Value::Null)
}

fn objects(diff: &Value) -> Vec<&str> {
    let schema = diff["schema"].as_array().into_iter().flatten();
    schema
        .filter_map(|object| object["object"].as_str())
        .collect()
}

/// Nothing of a copy of a snapshot is left.
fn assert_no_copy(daemon: &Daemon) {
    let entries = std::fs::read_dir(daemon.root().join("snapshots")).expect("it can be read");
    let names = entries.flatten().map(|entry| entry.file_name());
    let names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    assert!(!names.iter().any(|name| name.contains("diff")), "{names:?}");
}

#[test]
fn changes_of_an_instance_are_told_against_its_snapshot_and_another_instance() {
    let daemon = daemon().start();
    let changed = daemon.connect("instance:changed,gitref:main");
    changed.query(CHANGES).expect("it runs");
    drop(changed);
    drop(daemon.connect("instance:fresh,gitref:main"));
    for name in ["changed", "fresh"] {
        daemon.cli(&["instance", "stop", name, "--yes"]).ok();
    }
    let by_snapshot = daemon.json(&["instance", "diff", "changed"]);
    // It was woken for this alone.
    daemon.wait_state("changed", "stopped");
    let by_instance = daemon.json(&["instance", "diff", "changed", "fresh"]);
    for (diff, kind) in [(&by_snapshot, "snapshot"), (&by_instance, "instance")] {
        assert_eq!(diff["b"]["kind"], kind);
        let migrations = json!({"only_a": ["polls.0099_votes"], "only_b": []});
        assert_eq!(diff["migrations"], migrations);
        let votes = rows(diff, "public.votes");
        assert_eq!(
            (&votes["rows_a"], &votes["rows_b"]),
            (&json!(7), &Value::Null)
        );
        assert_eq!(votes["estimated_a"], false);
        let choices = rows(diff, "public.polls_choice");
        let count = |side: &str| choices[side].as_u64().expect("it is a number");
        assert_eq!(count("rows_a") + 2, count("rows_b"));
        let found = objects(diff);
        assert!(found.contains(&"TABLE public.votes"), "{found:?}");
        assert!(found.contains(&"TABLE public.polls_question"), "{found:?}");
        let weighted = diff["schema"].as_array().into_iter().flatten();
        let mut weighted = weighted.filter(|one| one["object"] == "TABLE public.polls_question");
        let text = weighted.next().map(|one| one["a"].to_string());
        assert!(
            text.is_some_and(|text| text.contains("weight integer")),
            "{diff}"
        );
    }
    let shown = daemon.cli(&["instance", "diff", "changed", "fresh", "--timeout", "0s"]);
    let shown = shown.ok();
    assert!(shown.contains("weight integer"), "{shown}");
    assert!(shown.contains("~ is an estimate"), "{shown}");
    let estimated = daemon.json(&["instance", "diff", "fresh", "--timeout", "0s"]);
    let questions = rows(&estimated, "public.polls_question");
    assert_eq!(questions["estimated_b"], true);
    assert_eq!(
        questions["rows_b"],
        rows(&by_snapshot, "public.polls_question")["rows_b"]
    );
    assert_eq!(estimated["schema"], json!([]));
    daemon.wait_state("changed", "stopped");
    daemon.wait_state("fresh", "stopped");
    assert_no_copy(&daemon);
}

#[test]
fn clone_is_compared_with_the_state_that_it_began_with() {
    let daemon = daemon_on(Disk::Btrfs, Engine::Process).start();
    let parent = daemon.connect("instance:parent,gitref:main");
    parent.query("create table of_parent ()").expect("it runs");
    let child = daemon.connect("instance:child,from:parent");
    child.query("create table of_child ()").expect("it runs");
    let diff = daemon.json(&["instance", "diff", "child"]);
    assert_eq!(diff["b"]["kind"], "base");
    assert_eq!(objects(&diff), ["TABLE public.of_child"]);
    // Its session goes on.
    assert_eq!(daemon.state("child"), "running");
    child.query("select 1").expect("it runs");
    assert_no_copy(&daemon);
}

#[test]
fn instances_in_containers_are_compared() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).start();
    let changed = daemon.connect("instance:changed,gitref:main");
    changed.query("create table added ()").expect("it runs");
    let diff = daemon.json(&["instance", "diff", "changed"]);
    assert_eq!(objects(&diff), ["TABLE public.added"]);
    assert_eq!(rows(&diff, "public.added")["rows_a"], 0);
    assert_no_copy(&daemon);
}

#[test]
fn comparison_that_cannot_be_made_says_why_and_leaves_nothing() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    let failed = daemon.cli(&["instance", "diff", "a", "a"]);
    assert!(
        failed.stderr.contains("not compared with itself"),
        "{failed:?}"
    );
    let failed = daemon.cli(&["instance", "diff", "a", "missing"]);
    assert!(
        failed
            .stderr
            .contains("instance \"missing\" does not exist"),
        "{failed:?}"
    );
    session
        .query("alter table django_migrations rename column name to other")
        .expect("it runs");
    let failed = daemon.cli(&["instance", "diff", "a"]);
    assert!(
        failed
            .stderr
            .contains("cannot read the migrations of instance \"a\""),
        "{failed:?}"
    );
    assert_no_copy(&daemon);
}
