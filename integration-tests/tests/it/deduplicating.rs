//! Snapshots come to share the blocks that they have in common, in the background.

use multidb_integration_tests::{Daemon, DaemonBuilder, Disk, Engine, PlainPostgres, poll};
use serde_json::Value;
use std::time::Duration;

use crate::{PROGRAM, daemon};

const TIMEOUT: Duration = Duration::from_secs(60);

fn with_dedup(builder: DaemonBuilder) -> DaemonBuilder {
    builder.set_raw("dedup", "enabled", "true")
}

fn import(daemon: &Daemon, id: &str, taken_at: &str) {
    let fixture = multidb_integration_tests::Fixture::of(Disk::Xfs, PROGRAM.as_ref());
    let data_dir = fixture.data_dir().display().to_string();
    let args = Daemon::import_args(id, &["--data-dir", &data_dir, "--taken-at", taken_at]);
    daemon.cli(&args).ok();
}

/// The row of a snapshot in `dedup status`.
fn of_snapshot(daemon: &Daemon, id: &str) -> Value {
    let status = daemon.json(&["dedup", "status"]);
    let snapshots = status["snapshots"].as_array().cloned().unwrap_or_default();
    let found = snapshots.into_iter().find(|one| one["id"] == id);
    found.unwrap_or_else(|| panic!("{id} is not in {status}"))
}

fn wait_complete(daemon: &Daemon, id: &str, onto: &str) -> Value {
    poll("the comparison is complete", TIMEOUT, || {
        let shown = of_snapshot(daemon, id);
        if shown["onto"] == onto && !shown["finished_at"].is_null() {
            Ok(shown)
        } else {
            Err(shown)
        }
    })
}

#[test]
fn import_is_followed_by_a_job_that_shares_blocks() {
    for disk in [Disk::Xfs, Disk::Btrfs] {
        let builder = DaemonBuilder::new(PROGRAM, disk, Engine::Process);
        let daemon = with_dedup(builder).without_snapshots().start();
        // From another file system the second copy shares nothing at first.
        import(&daemon, "first", "2026-01-01T00:00:00Z");
        let rows = daemon.psql(
            "instance:before,snapshot:first",
            "select count(*) from polls_choice",
        );
        import(&daemon, "second", "2026-01-02T00:00:00Z");
        let shown = wait_complete(&daemon, "first", "second");
        let bytes = shown["bytes"].as_u64().expect("it is a number");
        let shared = shown["bytes_shared"].as_u64().expect("it is a number");
        let examined = shown["bytes_examined"].as_u64().expect("it is a number");
        // On XFS the copies of one directory share their blocks from the beginning.
        assert!(examined - shared < bytes / 10, "{shown}");
        for (name, snapshot) in [("one", "first"), ("two", "second")] {
            let user = format!("instance:{name},snapshot:{snapshot}");
            let again = daemon.psql(&user, "select count(*) from polls_choice");
            assert_eq!(again.ok(), rows.ok());
        }
        let again = daemon.cli(&["dedup", "run"]);
        assert!(again.ok().contains("all snapshots share"), "{again:?}");
    }
}

/// A preparation writes each relation anew, so that its file has another name each day.
#[test]
fn prepared_snapshots_share_the_blocks_of_relations_whose_files_have_other_names() {
    let source = PlainPostgres::start();
    let create = "create table django_migrations (id serial primary key, app text not null, name text not null);
        create table people (id int primary key, letter text);
        insert into people select n, repeat('letter ' || n, 20) from generate_series(1, 60000) n";
    source.psql("app", create).ok();
    let daemon = with_dedup(daemon()).without_snapshots().prepare();
    let mask = daemon.dir().join("mask.sql");
    std::fs::write(
        &mask,
        "update people set letter = upper(letter) where id % 2 = 0",
    )
    .expect("it can be written");
    let config = std::fs::read_to_string(daemon.config_file()).expect("it can be read");
    let config = format!("{config}\n[[project.demo.prepare]]\nsql = {mask:?}\n");
    std::fs::write(daemon.config_file(), config).expect("it can be written");
    daemon.start();
    let url = format!("postgres://postgres@127.0.0.1:{}/app", source.port());
    let import = |id| {
        daemon
            .cli(&Daemon::import_args(id, &["--from-url", &url]))
            .ok();
        let user = format!("instance:of-{id},snapshot:{id}");
        daemon
            .psql(&user, "select pg_relation_filenode('people')")
            .ok()
            .to_owned()
    };
    let first = import("first");
    for sql in [
        "create table more (id int primary key)",
        "vacuum full django_migrations",
    ] {
        source.psql("app", sql).ok();
    }
    let second = import("second");
    assert_ne!(first, second);
    let shown = wait_complete(&daemon, "first", "second");
    let number = |key: &str| shown[key].as_u64().expect("it is a number");
    // The rest are blocks that one of the two has alone, and the WAL, which is not compared.
    assert!(number("bytes_shared") > number("bytes") / 2, "{shown}");
}

#[test]
fn pause_survives_a_kill_and_the_work_goes_on_after_it() {
    let daemon = with_dedup(daemon()).start();
    wait_complete(&daemon, "monday", "tuesday");
    daemon.cli(&["dedup", "pause"]).ok();
    import(&daemon, "wednesday", "2026-01-07T00:00:00Z");
    let status = daemon.json(&["dedup", "status"]);
    assert_eq!(status["paused"], true);
    daemon.kill9();
    daemon.start();
    let status = daemon.json(&["dedup", "status"]);
    assert_eq!(status["paused"], true);
    let shown = of_snapshot(&daemon, "tuesday");
    assert!(shown["onto"].is_null(), "{shown}");
    daemon.cli(&["dedup", "resume"]).ok();
    wait_complete(&daemon, "tuesday", "wednesday");
    wait_complete(&daemon, "monday", "wednesday");
}

#[test]
fn kill_while_blocks_are_shared_loses_no_byte_and_the_work_is_completed() {
    let slow = "bandwidth = \"1MiB\"";
    let daemon = with_dedup(daemon())
        .set("dedup", "bandwidth", "1MiB")
        .start();
    poll("some files are compared", TIMEOUT, || {
        let jobs = daemon.json(&["job", "ls"]);
        let jobs = jobs.as_array().cloned().unwrap_or_default();
        let is_under_way = |job: &Value| {
            job["kind"] == "dedup"
                && job["state"] == "running"
                && job["bytes_done"].as_u64() > Some(0)
        };
        match jobs.iter().any(is_under_way) {
            true => Ok(()),
            false => Err(jobs),
        }
    });
    daemon.kill9();
    daemon.reconfigure(slow, "bandwidth = \"200MiB\"");
    daemon.start();
    wait_complete(&daemon, "monday", "tuesday");
    for snapshot in ["monday", "tuesday"] {
        let user = format!("instance:of-{snapshot},snapshot:{snapshot}");
        daemon.psql(&user, "create extension amcheck").ok();
        // Reads all of it, its indexes too.
        let check = "select count(bt_index_check(oid, true)) > 0 from pg_class \
            where relkind = 'i' and relam = (select oid from pg_am where amname = 'btree')";
        assert_eq!(daemon.psql(&user, check).ok(), "t");
    }
}
