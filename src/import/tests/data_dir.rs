//! Data directories: imported, or refused with a hint.

use std::fs;
use std::path::PathBuf;

use super::fixture::Fixture;
use crate::import::{ImportError, ImportSource, Progress};

async fn import(
    fixture: &Fixture,
    data: PathBuf,
) -> Result<multidb_store::SnapshotRecord, ImportError> {
    fixture
        .import(fixture.request("s", ImportSource::DataDir(data)))
        .await
}

/// Asserts that an import is refused with these words and a hint, and leaves nothing.
async fn refused(fixture: &Fixture, data: PathBuf, words: &str) {
    let error = import(fixture, data).await.unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.hint().is_some(), "{error:?}");
    fixture.assert_nothing_left(&[]).await;
}

#[tokio::test]
async fn clean_data_directory_becomes_a_snapshot() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    source
        .run("proj", "ALTER SYSTEM SET archive_mode = 'on'")
        .await;
    source
        .run(
            "proj",
            "SELECT pg_create_physical_replication_slot('standby', true)",
        )
        .await;
    let text = fixture.dump_text(&source, "proj").await;
    let data = source.stop().await;
    let before = fs::read(data.join("global/pg_control")).unwrap();
    let snapshot = import(&fixture, data.clone()).await.unwrap();
    assert_eq!(snapshot.migrations.len(), 3);
    let age = jiff::Timestamp::now().duration_since(snapshot.taken_at);
    assert!((0..300).contains(&age.as_secs()), "{age}");
    assert!(
        before == fs::read(data.join("global/pg_control")).unwrap(),
        "the source is not changed"
    );
    let events = fixture.events.lock().unwrap().clone();
    let warned = |event: &Progress| matches!(event, Progress::Warning(text) if text.contains("archive_mode"));
    assert!(events.iter().any(warned), "{events:?}");
    fixture.assert_owner(&fixture.snapshot_data(&snapshot.id));
    let copy = fixture.start_copy(&snapshot, "copy").await;
    assert!(fixture.dump_text(&copy, "proj").await == text);
    assert_eq!(
        copy.ask("proj", "SELECT count(*)::text FROM pg_replication_slots")
            .await,
        "0"
    );
    copy.stop().await;
    let error = import(&fixture, data).await.unwrap_err();
    assert!(matches!(error, ImportError::Exists { .. }), "{error}");
    fixture.assert_nothing_left(&["s"]).await;
}

#[tokio::test]
async fn data_directory_in_use_is_refused() {
    let fixture = Fixture::new();
    let data = fixture.init("source").await;
    let source = fixture.start(&data).await;
    refused(&fixture, data.clone(), "Postgres is running on it").await;
    // As after a crash of the machine: no process, and the control file says "in production".
    let crashed = fixture.path("crashed");
    let status = std::process::Command::new("cp")
        .arg("--archive")
        .arg(&data)
        .arg(&crashed)
        .status();
    assert!(status.unwrap().success());
    fs::remove_file(crashed.join("postmaster.pid")).unwrap();
    refused(
        &fixture,
        crashed,
        "not shut down cleanly: its state is \"in production\"",
    )
    .await;
    source.stop().await;
}

#[tokio::test]
async fn unusable_data_directory_is_refused() {
    let fixture = Fixture::new();
    refused(
        &fixture,
        fixture.own_dir("empty"),
        "it is not a Postgres data directory",
    )
    .await;
    let data = fixture.init("source").await;
    refused(&fixture, data.clone(), "it has no database \"proj\"").await;
    for (name, words) in [
        ("standby.signal", "it is a standby"),
        ("pg_twophase/00000001", "prepared transactions"),
    ] {
        fs::write(data.join(name), "").unwrap();
        refused(&fixture, data.clone(), words).await;
        fs::remove_file(data.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/tmp", data.join("pg_tblspc/1234")).unwrap();
    refused(&fixture, data.clone(), "tablespace").await;
    fs::remove_file(data.join("pg_tblspc/1234")).unwrap();
    fs::rename(data.join("pg_wal"), fixture.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(fixture.path("elsewhere"), data.join("pg_wal")).unwrap();
    refused(&fixture, data, "pg_wal is a symbolic link").await;
}
