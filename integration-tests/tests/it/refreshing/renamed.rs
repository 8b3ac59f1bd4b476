//! Databases that get another name on the way, from each kind of source.

use std::fs;
use std::time::Duration;

use multidb_integration_tests::{Daemon, PlainPostgres, poll};

use super::{DATA, SECTION, daemon, import};

const TIMEOUT: Duration = Duration::from_secs(60);

/// The names of all databases that clients may enter, as a new instance of this snapshot has them.
fn databases(daemon: &Daemon, snapshot: &str) -> String {
    let names =
        "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate";
    super::answer(daemon, snapshot, names)
}

#[test]
fn no_copy_carries_the_name_of_its_source() {
    let source = PlainPostgres::start();
    let rename = "alter database app rename to app_production";
    source.psql("postgres", rename).ok();
    source.psql("app_production", DATA).ok();
    source.psql("postgres", "create database other").ok();
    let url = format!("postgres://postgres@127.0.0.1:{}", source.port());
    let folder = tempfile::tempdir().expect("a directory can be made");
    let daemon = daemon()
        .without_snapshots()
        .set(SECTION, "source", &url)
        .set(SECTION, "incoming", &folder.path().display().to_string())
        .set_raw(SECTION, "rename_database", "{ app_production = \"app\" }")
        .start();

    let refreshed = daemon.json(&["snapshot", "refresh", "--project", "demo"]);
    let physical = refreshed["id"].as_str().expect("it has an id");
    assert_eq!(databases(&daemon, physical), "app other postgres");

    // The database of the source becomes the project's.
    let mut logical = import("logical", &url);
    logical.push("--logical");
    daemon.cli(&logical).ok();
    assert_eq!(databases(&daemon, "logical"), "app postgres");

    let whole = source.client("pg_dumpall").output().expect("it runs");
    let dump = folder.path().join("whole.sql");
    fs::write(&dump, &whole.stdout).expect("it can be written");
    fs::write(folder.path().join("whole.sql.done"), "").expect("it can be written");
    let incoming = poll("the folder is imported", TIMEOUT, || {
        let listed = daemon.json(&["snapshot", "ls"]);
        let mut all = listed.as_array().into_iter().flatten();
        let found = all.find(|one| one["source"].to_string().contains("whole.sql"));
        let id = found.and_then(|one| one["id"].as_str()).map(str::to_owned);
        id.ok_or_else(|| daemon.log())
    });
    assert_eq!(databases(&daemon, &incoming), "app other postgres");

    source.stop();
    let data = source.data_dir().display().to_string();
    let imported = daemon.cli(&[
        "snapshot",
        "import",
        "stopped",
        "--project",
        "demo",
        "--data-dir",
        &data,
    ]);
    imported.ok();
    assert_eq!(databases(&daemon, "stopped"), "app other postgres");
    assert_eq!(super::answer(&daemon, "stopped", super::COUNT), "1000");
}
