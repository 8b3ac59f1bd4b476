//! Snapshots that are made from instances.

use std::fs;
use std::time::Duration;

use multidb_integration_tests::{Daemon, RandomDelays, Session, poll};
use serde_json::Value;

use crate::daemon;

/// How long an import or its clean-up may take, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The kills of a daemon that publishes an instance.
const KILLS: usize = 3;

const MIGRATE: &str = "insert into django_migrations (app, name) values ('polls', '0003_tags')";

fn execute(session: &Session, sql: &str) {
    session.query(sql).expect("it is executed");
}

fn import<'a>(id: &'a str, instance: &'a str) -> Vec<&'a str> {
    Daemon::import_args(id, &["--from-instance", instance])
}

fn ids(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.json(&["snapshot", "ls"]);
    let ids = listed.as_array().into_iter().flatten();
    ids.filter_map(|snapshot| snapshot["id"].as_str().map(str::to_owned))
        .collect()
}

/// An instance is migrated and published while its sessions go on.
pub(crate) fn publish(daemon: &Daemon) {
    let session = daemon.connect("instance:pr-1,gitref:feature/tags");
    let other = daemon.connect("instance:pr-1");
    execute(&session, MIGRATE);
    execute(
        &session,
        "create table tags as select generate_series(1, 1000) as n",
    );
    execute(&session, "alter system set datestyle = 'ISO, DMY'");
    execute(&other, "begin");
    execute(&other, "insert into tags values (-1)");
    daemon.cli(&import("tags", "pr-1")).ok();

    let shown = daemon.json(&["snapshot", "show", "tags"]);
    let commit = daemon.repository().rev_parse("feature/tags");
    let source = format!("instance pr-1, from snapshot tuesday for commit {commit}");
    assert_eq!(shown["source"], source, "{shown}");
    assert_eq!(shown["from_instance"], "pr-1", "{shown}");
    assert_eq!(shown["migrations"], 4, "{shown}");
    execute(&other, "commit");
    assert_eq!(
        session.one("select count(*) from pg_replication_slots"),
        "0"
    );
    assert_eq!(session.one("select count(*) from tags"), "1001");

    // The next one of that revision begins with it, and one of another revision does not.
    let next = daemon.connect("instance:pr-2,gitref:feature/tags");
    assert_eq!(daemon.instance("pr-2")["snapshot"], "tags");
    assert_eq!(next.one("select count(*) from tags where n > 0"), "1000");
    assert_eq!(next.one("select count(*) from tags where n < 0"), "0");
    assert_eq!(next.one("show datestyle"), "ISO, DMY");
    daemon.connect("instance:main,gitref:main");
    assert_eq!(daemon.instance("main")["snapshot"], "tuesday");

    // It outlives the instance, and a restart.
    drop((session, other, next));
    daemon.cli(&["instance", "rm", "pr-1", "--yes"]).ok();
    daemon.restart();
    let next = daemon.connect("instance:pr-3,gitref:feature/tags");
    assert_eq!(next.one("select count(*) from tags"), "1000");
    let shown = daemon.json(&["snapshot", "show", "tags"]);
    assert_eq!(shown["source"], source, "{shown}");
}

#[test]
fn stopped_and_scratch_instances_become_snapshots() {
    let daemon = daemon()
        .set("postgres.settings", "max_prepared_transactions", "5")
        .set_raw(
            "project.demo.refresh",
            "rename_database",
            "{ absent = \"other\" }",
        )
        .start();
    daemon.expect_log("prepared transactions are rolled back");
    for class in ["durable", "scratch"] {
        let user = format!("instance:{class},snapshot:tuesday,class:{class}");
        let session = daemon.connect(&user);
        execute(&session, "create table t as select 7 as n");
        execute(&session, "begin");
        execute(&session, "insert into t values (8)");
        execute(&session, "prepare transaction 'left'");
        drop(session);
        daemon.cli(&["instance", "stop", class]).ok();
        let told = daemon.cli(&import(class, class));
        assert!(told.ok().contains("imported: taken at"), "{told:?}");
        let warnings = told.stderr.matches("warning").count();
        assert_eq!(warnings, 1, "{told:?}");
        assert!(
            told.stderr
                .contains("prepared transactions are rolled back"),
            "{told:?}"
        );
        let copy = format!("instance:of-{class},snapshot:{class}");
        let copy = daemon.connect(&copy);
        assert_eq!(copy.one("select string_agg(n::text, ' ') from t"), "7");
        assert_eq!(copy.one("select count(*) from pg_prepared_xacts"), "0");
        // The transaction that was cut off in the snapshot is there in the instance.
        let session = daemon.connect(&format!("instance:{class}"));
        execute(&session, "commit prepared 'left'");
    }
}

#[test]
fn instance_that_cannot_become_a_snapshot_is_refused_and_leaves_nothing() {
    let daemon = daemon()
        .set_raw("limits", "max_running", "1")
        .limit("start_timeout", "2s")
        .set_raw("project.other", "git", "\"/nowhere\"")
        .set("project.other", "migrations", "django")
        .set("project.other", "database", "other")
        .start();
    let refused = |args: &[&str], text: &str| {
        let refused = daemon.cli(args);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(text), "{refused:?}");
    };
    let session = daemon.connect("instance:pr,gitref:main,project:demo");
    refused(&import("none", "absent"), "\"absent\" does not exist");
    refused(&import("monday", "pr"), "\"monday\" exists");
    let mut of_other = import("none", "pr");
    of_other[4] = "other";
    refused(&of_other, "belongs to project \"demo\", not \"other\"");

    // Over limits.
    let busy = daemon.refused("instance:waiting,gitref:main,project:demo");
    assert_eq!(busy.sqlstate(), "53300", "{busy:?}");
    refused(
        &import("none", "waiting"),
        "cannot copy from instance waiting",
    );

    // Its server cannot be copied.
    execute(&session, "alter system set wal_level = 'minimal'");
    execute(&session, "alter system set max_wal_senders = 0");
    drop(session);
    daemon.cli(&["instance", "stop", "pr"]).ok();
    refused(&import("none", "pr"), "wal_level = replica");
    assert_eq!(daemon.state("pr"), "running");

    daemon.expect_log("postgres did not start");
    // It is failed, and then deleted.
    daemon.cli(&["instance", "stop", "pr"]).ok();
    fs::remove_file(daemon.data_dir("pr").join("PG_VERSION")).expect("it can be removed");
    refused(&import("none", "pr"), "cannot copy from instance pr");
    daemon.cli(&["instance", "rm", "pr", "--yes"]).ok();
    refused(&import("none", "pr"), "\"pr\" does not exist");
    assert_eq!(ids(&daemon), ["monday", "tuesday"]);
    let left = fs::read_dir(daemon.root().join("snapshots")).expect("it can be read");
    assert_eq!(left.count(), 2);
}

/// Preparations run where the snapshot of the instance had none yet.
#[test]
fn import_that_is_cancelled_or_killed_leaves_nothing_and_its_instance_unharmed() {
    let daemon = daemon().prepare();
    let wait = daemon.dir().join("wait.sql");
    fs::write(&wait, "select pg_sleep(1000)").expect("it can be written");
    let text = fs::read_to_string(daemon.config_file()).expect("it can be read");
    let text = format!("{text}\n[[project.demo.prepare]]\nsql = {wait:?}\n");
    fs::write(daemon.config_file(), text).expect("it can be written");
    daemon.start();
    let session = daemon.connect("instance:pr,gitref:main");
    execute(&session, "create table t as select 7 as n");
    let started = session.one("select pg_postmaster_start_time()");
    let begin = || -> String {
        let mut args = import("none", "pr").to_vec();
        args.push("--detach");
        let job = daemon.json(&args);
        let id = job["id"].to_string();
        poll("the copy is being prepared", TIMEOUT, || {
            let job = daemon.json(&["job", "show", &id]);
            let step = job["step"].as_str().unwrap_or_default();
            if step.starts_with("preparation") {
                Ok(())
            } else {
                Err(job)
            }
        });
        id
    };
    let left = || -> Vec<String> {
        let left = fs::read_dir(daemon.root().join("snapshots")).expect("it can be read");
        let names = left.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    };
    let id = begin();
    daemon.cli(&["job", "cancel", &id]).ok();
    assert_eq!(left(), ["monday", "tuesday"]);
    assert_eq!(session.one("select n from t"), "7");

    begin();
    daemon.kill9();
    daemon.start();
    assert_eq!(left(), ["monday", "tuesday"]);
    let session = daemon.connect("instance:pr");
    assert_eq!(session.one("select pg_postmaster_start_time()"), started);
    assert_eq!(session.one("select n from t"), "7");
    assert_eq!(
        session.one("select count(*) from pg_replication_slots"),
        "0"
    );

    // Prepared once, and not again.
    fs::write(&wait, "create table prepared as select 1 as n").expect("it can be written");
    daemon.cli(&import("first", "pr")).ok();
    let child = daemon.connect("instance:child,snapshot:first");
    assert_eq!(child.one("select n from prepared"), "1");
    daemon.cli(&import("second", "child")).ok();
    let prepared_by =
        |id: &str| -> Value { daemon.json(&["snapshot", "show", id])["prepared_by"].clone() };
    assert_eq!(prepared_by("first").as_array().map(Vec::len), Some(1));
    assert_eq!(prepared_by("second"), prepared_by("first"));
}

#[test]
fn instance_that_ran_migrations_and_stopped_becomes_a_derived_snapshot_once() {
    let daemon = daemon().set("project.demo", "publish", "auto").start();
    let migrate = |user: &str| {
        let session = daemon.connect(user);
        execute(&session, MIGRATE);
        execute(&session, "create table tags as select 7 as n");
    };
    migrate("instance:pr-1,gitref:feature/tags");
    daemon.connect("instance:unchanged,gitref:main");
    daemon.cli(&["instance", "stop", "unchanged"]).ok();
    daemon.cli(&["instance", "stop", "pr-1"]).ok();
    let is_derived = |snapshot: &Value| snapshot["derived"] == true;
    let derived = poll("it becomes a snapshot", TIMEOUT, || {
        let all = daemon.json(&["snapshot", "ls"]);
        let found = all
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| is_derived(one));
        found.cloned().ok_or(all.clone())
    });
    let id = derived["id"].as_str().expect("it has an id").to_owned();
    let source = derived["source"].as_str().unwrap_or_default();
    assert!(
        source.starts_with("derived from instance pr-1, from snapshot tuesday"),
        "{derived}"
    );
    let tuesday = daemon.json(&["snapshot", "show", "tuesday"]);
    assert_eq!(derived["taken_at"], tuesday["taken_at"]);
    let reason = "derived (until a fresh one has its migrations)";
    let reasons = derived["kept_because"].as_array();
    let is_kept = reasons.is_some_and(|reasons| reasons.iter().any(|one| one == reason));
    assert!(is_kept, "{derived}");
    assert_eq!(daemon.state("pr-1"), "stopped", "it was not woken");

    let next = daemon.connect("instance:pr-2,gitref:feature/tags");
    assert_eq!(daemon.instance("pr-2")["snapshot"], id);
    assert_eq!(next.one("select n from tags"), "7");
    daemon.connect("instance:latest,snapshot:latest");
    assert_eq!(daemon.instance("latest")["snapshot"], "tuesday");

    // Another one with the same migrations.
    migrate("instance:pr-3,snapshot:tuesday");
    daemon.cli(&["instance", "stop", "pr-3"]).ok();
    daemon.wait_log("a snapshot has the migrations of a stopped instance already");
    assert_eq!(ids(&daemon).len(), 3);

    // A fresh one takes its place.
    daemon.cli(&import("fresh", "pr-3")).ok();
    daemon.connect("instance:pr-4,gitref:feature/tags");
    assert_eq!(daemon.instance("pr-4")["snapshot"], "fresh");
    let explained = daemon.json(&["snapshot", "explain", "--gitref", "feature/tags"]);
    let verdicts = explained["snapshots"].as_array().into_iter().flatten();
    let passed_over = verdicts.filter(|one| !one["passed_over_for"].is_null());
    let passed_over: Vec<_> = passed_over
        .map(|one| (&one["id"], &one["passed_over_for"]))
        .collect();
    assert_eq!(
        passed_over,
        [(&Value::from(id.as_str()), &Value::from("fresh"))]
    );
    let kept = || daemon.json(&["snapshot", "show", &id])["kept_because"].clone();
    assert_eq!(kept()[0], "1 instance needs it");
    drop(next);
    daemon.cli(&["instance", "rm", "pr-2", "--yes"]).ok();
    assert_eq!(kept().as_array().map(Vec::len), Some(0));
    daemon.restart();
    daemon.wait_log("it is derived, and another one has its migrations");
    poll("it goes", TIMEOUT, || match ids(&daemon) {
        ids if ids == ["fresh", "monday", "tuesday"] => Ok(()),
        ids => Err(ids),
    });
}

/// The look at the migrations of a stopped instance, and the job that makes the snapshot.
#[test]
fn kill_while_a_stopped_instance_is_published_loses_and_leaves_nothing() {
    let daemon = daemon().set("project.demo", "publish", "auto").start();
    let staging = || {
        let entries = fs::read_dir(daemon.root().join("snapshots"));
        let mut names = entries.into_iter().flatten().flatten();
        names.any(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(b".staging-")
        })
    };
    let mut delays = RandomDelays::new();
    for kill in 0..KILLS {
        let name = format!("pr-{kill}");
        let session = daemon.connect(&format!("instance:{name},gitref:main"));
        let migrate =
            format!("insert into django_migrations (app, name) values ('polls', '1_{name}')");
        execute(&session, &migrate);
        drop(session);
        daemon.cli(&["instance", "stop", &name]).ok();
        poll("it is looked at", TIMEOUT, || match staging() {
            true => Ok(()),
            false => Err("nothing is being imported"),
        });
        std::thread::sleep(delays.milliseconds(0, 1500));
        daemon.kill9();
        daemon.start();
        assert!(!staging(), "an import is left");
        let of_it = || {
            let all = daemon.json(&["snapshot", "ls"]);
            let all = all.as_array().into_iter().flatten();
            all.filter(|one| one["from_instance"] == name.as_str())
                .count()
        };
        assert!(of_it() <= 1);
        // It is looked at again once it was used.
        let session = daemon.connect(&format!("instance:{name}"));
        let applied = "select count(*) from django_migrations where name like '1_pr-%'";
        assert_eq!(session.one(applied), "1");
        drop(session);
        daemon.cli(&["instance", "stop", &name]).ok();
        poll("it becomes a snapshot", TIMEOUT, || match of_it() {
            1 => Ok(()),
            count => Err(count),
        });
    }
    assert_eq!(ids(&daemon).len(), 2 + KILLS);
}
