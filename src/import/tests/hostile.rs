//! Dumps and data directories of an attacker who wants the daemon to reach out of them, or to hang.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::fixture::Fixture;
use crate::import::ImportSource;

/// Imports a dump whose last statement runs a program in the data directory.
async fn import_after(fixture: &Fixture, program: &str) -> Result<(), String> {
    let script = format!(
        "CREATE TABLE django_migrations (app text, name text);\n\
         COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; {}';\n",
        program.replace('\'', "''")
    );
    let dump = fixture.write("the dump", script.as_bytes());
    let imported = fixture.import_dump("s", &dump).await;
    imported
        .map(|_| ())
        .map_err(|error| multidb_store::error_chain(&error))
}

/// A directory outside, whose files all users can write.
fn outside(fixture: &Fixture) -> PathBuf {
    let outside = fixture.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(outside.join("precious"), "x = y\n").unwrap();
    outside
}

fn assert_untouched(outside: &Path) {
    let precious = fs::read_to_string(outside.join("precious"));
    assert_eq!(precious.unwrap(), "x = y\n");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
}

#[tokio::test]
async fn what_a_dump_puts_into_the_data_directory_reaches_nothing_outside() {
    let fixture = Fixture::new();
    let outside = outside(&fixture);
    let shown = outside.display();
    let cases = [
        (
            format!("rmdir pg_wal/archive_status; ln -s {shown} pg_wal/archive_status"),
            "archive_status is a symbolic link",
        ),
        (
            "rmdir pg_wal/archive_status; mkfifo pg_wal/archive_status".to_owned(),
            "archive_status is a FIFO",
        ),
        (
            format!("ln -sf {shown}/precious postgresql.auto.conf"),
            "postgresql.auto.conf is a symbolic link",
        ),
        (
            "ln -sf /dev/zero postgresql.auto.conf".to_owned(),
            "postgresql.auto.conf is a symbolic link",
        ),
        (
            "rm postgresql.auto.conf; mkfifo postgresql.auto.conf".to_owned(),
            "postgresql.auto.conf is a FIFO",
        ),
        (
            "truncate -s 1T postgresql.auto.conf".to_owned(),
            "postgresql.auto.conf is longer than 1048576 bytes",
        ),
        ("mkfifo base/fifo".to_owned(), "base/fifo is a FIFO"),
        (
            "mkdir -p base/$(printf \"d/%.0s\" $(seq 50))".to_owned(),
            "is nested more than 32 directories deep",
        ),
    ];
    for (program, words) in cases {
        let error = import_after(&fixture, &program).await.unwrap_err();
        assert!(error.contains(words), "{program}: {error}");
        assert_untouched(&outside);
        fixture.assert_nothing_left(&[]).await;
    }
}

#[tokio::test]
async fn nested_directories_of_a_dump_are_an_error_and_removed() {
    let fixture = Fixture::new();
    // In the sandbox each call walks up all of them, so more would take a minute.
    let program = "perl -e 'for (1..3000) { mkdir \"d\"; chdir \"d\" or die }'";
    let error = import_after(&fixture, program).await.unwrap_err();
    assert!(
        error.contains("is nested more than 32 directories deep"),
        "{error}"
    );
    fixture.assert_nothing_left(&[]).await;
}

#[tokio::test]
async fn what_a_data_directory_contains_hangs_no_import() {
    let fixture = Fixture::new();
    let data = fixture.init("source").await;
    for name in ["PG_VERSION", "postmaster.pid", "global/pg_control"] {
        let path = data.join(name);
        let kept = fs::read(&path).ok();
        for target in [None, Some("/dev/zero")] {
            let _missing = fs::remove_file(&path);
            match target {
                Some(target) => symlink(target, &path).unwrap(),
                None => {
                    let mode = rustix::fs::Mode::RUSR;
                    let fifo = rustix::fs::FileType::Fifo;
                    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
                }
            }
            let request = fixture.request("s", ImportSource::DataDir(data.clone()));
            let error = fixture.import(request).await.unwrap_err();
            let text = error.to_string();
            let kind = target.map_or("is a FIFO", |_| "is a symbolic link");
            assert!(text.contains(name) && text.contains(kind), "{text}");
            assert!(error.hint().is_some(), "{error:?}");
            fixture.assert_nothing_left(&[]).await;
        }
        fs::remove_file(&path).unwrap();
        if let Some(kept) = kept {
            fs::write(&path, kept).unwrap();
        }
    }
}
