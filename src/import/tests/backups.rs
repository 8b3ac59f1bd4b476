//! Backups of data directories that no server has recovered yet.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::fixture::{Fixture, Server};
use crate::import::{ImportError, ImportSource};

async fn base_backup(fixture: &Fixture, source: &Server, name: &str, wal: &str) -> PathBuf {
    let backup = fixture.own_dir(name);
    let to = format!("--pgdata={}", backup.display());
    let args = source.args(&[&to, wal, "--checkpoint=fast", "--no-sync"]);
    fixture.program("pg_basebackup", &args).await;
    backup
}

async fn refused(fixture: &Fixture, backup: PathBuf) -> ImportError {
    let request = fixture.request("refused", ImportSource::DataDir(backup));
    fixture.import(request).await.unwrap_err()
}

#[tokio::test]
async fn backup_that_no_server_has_recovered_is_recovered_and_left_as_it_is() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    // A backup has no rows of unlogged tables.
    source.run("proj", "TRUNCATE scratch").await;
    let text = fixture.dump_text(&source, "proj").await;
    let backup = base_backup(&fixture, &source, "backup", "--wal-method=stream").await;
    let later = "CREATE TABLE later (id int)";
    source.run("proj", later).await;
    let mut settings = OpenOptions::new()
        .append(true)
        .open(backup.join("postgresql.conf"))
        .unwrap();
    settings.write_all(b"datestyle = 'SQL, DMY'\n").unwrap();
    // As pg_basebackup --write-recovery-conf leaves it.
    fs::write(backup.join("standby.signal"), "").unwrap();
    let auto_conf = "primary_conninfo = 'host=127.0.0.1 port=1'\n";
    fs::write(backup.join("postgresql.auto.conf"), auto_conf).unwrap();
    let before = fs::read(backup.join("global/pg_control")).unwrap();
    let request = fixture.request("s", ImportSource::DataDir(backup.clone()));
    let snapshot = fixture.import(request).await.unwrap();
    assert_eq!(snapshot.migrations.len(), 3);
    let age = jiff::Timestamp::now().duration_since(snapshot.taken_at);
    assert!((0..300).contains(&age.as_secs()), "{age}");
    assert!(before == fs::read(backup.join("global/pg_control")).unwrap());
    assert!(backup.join("backup_label").exists() && backup.join("standby.signal").exists());
    let warnings = fixture.warnings().join("; ");
    assert!(warnings.contains("primary_conninfo"), "{warnings}");
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let found = fixture.dump_text(&copy, "proj").await;
    let mut lines = found.lines().zip(text.lines());
    assert_eq!(lines.find(|(found, expected)| found != expected), None);
    assert_eq!(found.len(), text.len());
    let date = "SELECT '01/02/2026'::date::text";
    assert_eq!(copy.ask("proj", date).await, "01/02/2026");
    copy.stop().await;
    source.stop().await;
    fixture.assert_nothing_left(&["s"]).await;
}

#[tokio::test]
async fn backup_without_its_wal_is_refused_with_what_it_needs() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let backup = base_backup(&fixture, &source, "backup", "--wal-method=none").await;
    let error = refused(&fixture, backup.clone()).await;
    let said = "it is a backup without all of the WAL that it needs in pg_wal: \"could not locate required checkpoint record";
    assert!(error.to_string().contains(said), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("Put the WAL files"), "{hint}");
    let whole = base_backup(&fixture, &source, "whole", "--wal-method=stream").await;
    let mut wal: Vec<PathBuf> = fs::read_dir(whole.join("pg_wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    wal.sort();
    let label = fs::read_to_string(whole.join("backup_label")).unwrap();
    let begin = label
        .lines()
        .find_map(|line| line.strip_prefix("CHECKPOINT LOCATION: 0/"))
        .unwrap();
    let begin = u64::from_str_radix(begin, 16).unwrap() % (16 << 20);
    // Behind the record of the checkpoint, which has less than this, is that of the backup's end.
    let file = fs::File::options().write(true).open(&wal[0]).unwrap();
    let bytes = file.metadata().unwrap().len();
    file.set_len(begin + 128).unwrap();
    file.set_len(bytes).unwrap();
    let error = refused(&fixture, whole).await;
    assert!(error.to_string().contains("WAL ends before"), "{error}");
    source.stop().await;
    fixture.assert_nothing_left(&[]).await;
}
