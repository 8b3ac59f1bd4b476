//! Snapshots from running servers: by pg_basebackup, by pg_dump and by a command, once or by the configured refresh.

mod faults;
mod half_way;
mod renamed;
mod scheduled;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use multidb_integration_tests::{
    Daemon, DaemonBuilder, Disk, Engine, PlainPostgres, other_postgres_bin, path_with,
};
use serde_json::Value;

use crate::{daemon, daemon_on};

const SECTION: &str = "project.demo.refresh";

/// A small project's database.
const DATA: &str = "
    create table django_migrations (id serial primary key, app text not null, name text not null);
    insert into django_migrations (app, name) values ('polls', '0001_initial');
    create table polls_question (id serial primary key, question_text text not null);
    insert into polls_question (question_text) select 'question ' || n from generate_series(1, 1000) n;
    create unlogged table cache (k int); insert into cache values (1);
    create table audit (what text); insert into audit values ('seen');";

/// Majors beside Debian's.
const MAJORS: [u16; 2] = [16, 18];

const COUNT: &str = "select count(*) from polls_question";

/// A server with the project's data.
fn source() -> PlainPostgres {
    let source = PlainPostgres::start();
    source.psql("app", DATA).ok();
    source
}

fn url(source: &PlainPostgres) -> String {
    format!("postgres://postgres@127.0.0.1:{}/app", source.port())
}

/// A daemon without snapshots whose project is refreshed from this server.
fn daemon_of(source: &PlainPostgres, method: &str) -> DaemonBuilder {
    daemon()
        .without_snapshots()
        .set(SECTION, "source", &url(source))
        .set(SECTION, "method", method)
}

fn refresh(daemon: &Daemon) -> Value {
    daemon.json(&["snapshot", "refresh", "--project", "demo"])
}

fn import<'a>(id: &'a str, url: &'a str) -> Vec<&'a str> {
    Daemon::import_args(id, &["--from-url", url])
}

/// The answer of a new instance of this snapshot.
fn answer(daemon: &Daemon, snapshot: &str, sql: &str) -> String {
    let user = format!("instance:of-{snapshot},snapshot:{snapshot}");
    daemon.psql(&user, sql).ok().to_owned()
}

#[test]
fn project_is_refreshed_by_a_physical_copy_of_a_running_server() {
    let source = source();
    let tablespace = tempfile::tempdir_in("/var/tmp").expect("a directory can be made");
    let place = tablespace.path().join("space");
    fs::create_dir(&place).expect("a directory can be made");
    for path in [tablespace.path(), &place] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("a mode can be set");
    }
    let owned = std::process::Command::new("chown")
        .arg("postgres")
        .arg(&place)
        .status();
    assert!(owned.expect("chown runs").success());
    let create = format!("create tablespace far location '{}'", place.display());
    source.psql("app", &create).ok();
    source
        .psql(
            "app",
            "create table far_away tablespace far as select 7 as n",
        )
        .ok();
    source.psql("app", "alter system set work_mem = '7MB'").ok();
    let daemon = daemon_of(&source, "physical").start();
    let snapshot = refresh(&daemon);
    let id = snapshot["id"].as_str().expect("it has an id");
    assert!(id.starts_with("demo-2"), "{id}");
    let expected = format!("physical copy of {}", url(&source));
    assert_eq!(snapshot["source"], expected);
    assert_eq!(answer(&daemon, id, COUNT), "1000");
    assert_eq!(answer(&daemon, id, "select n from far_away"), "7");
    // As after any recovery.
    assert_eq!(answer(&daemon, id, "select count(*) from cache"), "0");
    let jobs = daemon.json(&["job", "ls"]);
    assert_eq!(jobs[0]["kind"], "refresh");
}

#[test]
fn project_is_refreshed_by_a_dump_of_a_running_server() {
    let source = source();
    let daemon = daemon_of(&source, "logical")
        .set_raw(SECTION, "exclude_table", "[\"cache\"]")
        .set_raw(SECTION, "exclude_table_data", "[\"audit\"]")
        .start();
    let snapshot = refresh(&daemon);
    let id = snapshot["id"].as_str().expect("it has an id");
    assert_eq!(snapshot["source"], format!("dump of {}", url(&source)));
    assert_eq!(answer(&daemon, id, COUNT), "1000");
    assert_eq!(answer(&daemon, id, "select count(*) from audit"), "0");
    let gone = answer(&daemon, id, "select to_regclass('cache') is null");
    assert_eq!(gone, "t");
    let shown = daemon.json(&["snapshot", "show", id]);
    assert_eq!(shown["migrations"], 1);
}

/// So that the next day's copy shares its blocks.
#[test]
fn rows_of_a_dumped_server_are_in_the_order_of_their_keys() {
    let source = source();
    let tables = ["plain", "\"Odd \"\"Name\""];
    for table in tables {
        let create = format!("create table {table} (n int, \"I d\" int primary key)");
        source.psql("app", &create).ok();
        let fill = format!("insert into {table} select n, 1000 - n from generate_series(1, 999) n");
        source.psql("app", &fill).ok();
    }
    source
        .psql("app", "alter database app set quote_all_identifiers = on")
        .ok();
    let daemon = daemon().without_snapshots().start();
    let url = url(&source);
    let mut logical = import("logical", &url);
    logical.push("--logical");
    daemon.cli(&logical).ok();
    for table in tables {
        let is_sorted = format!(
            "select array_agg(\"I d\" order by ctid) = array_agg(\"I d\" order by \"I d\") from {table}"
        );
        assert_eq!(answer(&daemon, "logical", &is_sorted), "t", "{table}");
    }
}

#[test]
fn standby_is_copied_both_ways() {
    let primary = source();
    let standby = primary.start_standby();
    let daemon = daemon().without_snapshots().start();
    let url = url(&standby);
    daemon.cli(&import("physical", &url)).ok();
    let mut logical = import("logical", &url);
    logical.push("--logical");
    daemon.cli(&logical).ok();
    for snapshot in ["physical", "logical"] {
        assert_eq!(answer(&daemon, snapshot, COUNT), "1000");
        let state = answer(&daemon, snapshot, "select pg_is_in_recovery()");
        assert_eq!(state, "f");
    }
    drop(standby);
}

#[test]
fn containers_copy_a_server_of_the_machines_network() {
    let source = source();
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .without_snapshots()
        .start();
    let url = url(&source);
    daemon.cli(&import("physical", &url)).ok();
    let mut logical = import("logical", &url);
    logical.push("--logical");
    daemon.cli(&logical).ok();
    for snapshot in ["physical", "logical"] {
        assert_eq!(answer(&daemon, snapshot, COUNT), "1000");
    }
}

#[test]
fn extensions_that_postgres_lacks_are_named_at_the_import_at_a_start_and_by_doctor() {
    let source = source();
    // As if it had been created where its files are.
    let created = "update pg_extension set extname = 'acme' where extname = 'plpgsql'";
    source.psql("app", created).ok();
    let said = "snapshots need an extension that Postgres lacks here";
    for engine in [Engine::Process, Engine::Docker] {
        let daemon = daemon_on(Disk::Xfs, engine).without_snapshots().start();
        daemon.expect_log("the snapshot needs what Postgres lacks here");
        let imported = daemon.cli(&import("a", &url(&source)));
        let named = "extensions that Postgres lacks here: \"acme\" of \"app\"; ";
        assert!(imported.stderr.contains(named), "{imported:?}");
        daemon.expect_log(said).restart();
        daemon.wait_log(said);
        if engine == Engine::Process {
            let doctor = daemon.cli(&["doctor"]).stdout;
            let named = "lacks the extension acme, which is needed for a";
            assert!(doctor.contains(named), "{doctor}");
        }
    }
}

#[test]
fn servers_of_several_majors_are_copied() {
    let daemon = daemon().without_snapshots().prepare();
    daemon.start_with(&[("PATH", &path_with(MAJORS.map(other_postgres_bin)))]);
    for major in MAJORS {
        let source = PlainPostgres::start_other(major);
        source.psql("app", DATA).ok();
        let (id, url) = (format!("of-{major}"), url(&source));
        daemon.cli(&import(&id, &url)).ok();
        assert_eq!(answer(&daemon, &id, COUNT), "1000");
        let shown = daemon.json(&["snapshot", "show", &id]);
        assert_eq!(shown["postgres_major"], major);
    }
}

#[test]
fn output_of_a_command_becomes_a_snapshot() {
    let source = source();
    let script = script(&format!(
        "#!/bin/sh\nexec pg_dump --format=custom --dbname={}\n",
        url(&source)
    ));
    let command = format!("{{ command = [{:?}] }}", script.1);
    let daemon = daemon()
        .without_snapshots()
        .set_raw(SECTION, "source", &command)
        .start();
    let snapshot = refresh(&daemon);
    let id = snapshot["id"].as_str().expect("it has an id");
    assert_eq!(answer(&daemon, id, COUNT), "1000");

    // Half of a dump is none.
    let failing = format!(
        "#!/bin/sh\nid -un >&2\npg_dump --dbname={} | head -c 1000\necho 'the backup is away' >&2\nexit 3\n",
        url(&source)
    );
    fs::write(&script.1, failing).expect("it can be written");
    let failed = daemon.cli(&["snapshot", "refresh", "--project", "demo"]);
    assert_eq!(failed.code, Some(1));
    let expected = "it failed with exit status: 3: postgres; the backup is away";
    assert!(failed.stderr.contains(expected), "{failed:?}");
    let job = daemon.json(&["job", "ls"]);
    let last = job
        .as_array()
        .and_then(|jobs| jobs.last())
        .expect("there is a job");
    assert_eq!(last["error"]["code"], "source_command_failed");
    assert_eq!(
        daemon.json(&["snapshot", "ls"]).as_array().map(Vec::len),
        Some(1)
    );
}

/// A program that Postgres' user can run, and its directory.
fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("dump");
    fs::write(&path, text).expect("it can be written");
    for path in [directory.path(), &path] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    }
    (directory, path)
}
