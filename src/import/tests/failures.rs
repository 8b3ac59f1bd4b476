//! Imports that fail or are cancelled return the cause and leave nothing.

use std::time::Duration;

use multidb_actors::ports::CloneError;
use tokio_util::sync::CancellationToken;

use super::fixture::Fixture;
use crate::import::{ImportError, ImportSource, Progress, Step};
use crate::runtime::{PostgresHost, Purpose};

/// Asserts that a dump is refused with these words, and leaves nothing.
async fn refused(fixture: &Fixture, bytes: &[u8], words: &str) {
    let path = fixture.write("the dump", bytes);
    let error = fixture.import_dump("s", &path).await.unwrap_err();
    let text = multidb_store::error_chain(&error);
    assert!(text.contains(words), "{text}");
    fixture.assert_nothing_left(&[]).await;
}

#[tokio::test]
async fn damaged_dump_is_refused_with_the_cause() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let dump = async |format: &str| {
        let args = source.args(&["--dbname=proj", "--format", format]);
        fixture.program("pg_dump", &args).await
    };
    let (plain, custom, tar) = (dump("plain").await, dump("custom").await, dump("tar").await);
    source.stop().await;

    let broken = [&plain[..], b"\n\nSELECT nonsense;\n"].concat();
    let lines = 3 + plain.iter().filter(|b| **b == b'\n').count();
    let error = format!("line {lines}: column \"nonsense\" does not exist");
    refused(&fixture, &broken, &error).await;
    let tail = plain
        .windows(8)
        .rposition(|window| window == b"complete")
        .unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for (bytes, words) in [
        (&plain[..plain.len() / 2], "truncated"),
        (
            &plain[..tail - 31],
            "\"PostgreSQL database dump complete\", is missing",
        ),
        (&custom[..custom.len() / 2], "pg_restore failed"),
        (&tar[..tar.len() / 2], "the tar archive is truncated"),
        (&zstd[..zstd.len() - 10], "cannot read"),
    ] {
        refused(&fixture, bytes, words).await;
    }
}

#[tokio::test]
async fn script_that_fails_is_refused_with_the_cause() {
    let fixture = Fixture::new();
    for (script, words) in [
        ("", "it is empty"),
        (
            "\\! touch /tmp/owned\n",
            "line 1: the dump has the psql command \"\\!\", which is not run",
        ),
        (
            "SELECT 1;\n",
            "relation \"django_migrations\" does not exist",
        ),
        (
            "COPY nothing FROM stdin;\n1\n\\.\n",
            "line 1: relation \"nothing\" does not exist",
        ),
        (
            "SELECT pg_terminate_backend(pg_backend_pid());\nSELECT 1;\n",
            "terminating connection",
        ),
    ] {
        refused(&fixture, script.as_bytes(), words).await;
    }
}

#[tokio::test]
async fn missing_major_is_named_in_the_error() {
    let fixture = Fixture::new();
    let path = fixture.write("the dump", b"SELECT 1;\n");
    let mut request = fixture.request("s", ImportSource::Dump(path));
    request.postgres_major = Some(12);
    let error = fixture.import(request).await.unwrap_err();
    assert!(error.to_string().contains("PostgreSQL 12"), "{error}");
    assert!(error.hint().is_some());
    fixture.assert_nothing_left(&[]).await;
}

#[tokio::test]
async fn import_ends_when_the_reserve_is_reached() {
    let fixture = Fixture::new().with_reserve(u64::MAX);
    let path = fixture.write("the dump", b"SELECT 1;\n");
    let error = fixture.import_dump("s", &path).await.unwrap_err();
    let ImportError::Clone(CloneError::NoSpace { reserve_bytes, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(reserve_bytes, u64::MAX);
    assert!(error.hint().is_some());
    fixture.assert_nothing_left(&[]).await;
}

#[tokio::test]
async fn cancelled_import_returns_after_its_cleanup() {
    let fixture = Fixture::new();
    let path = fixture.write("the dump", b"SELECT pg_sleep(600);\n");
    let request = fixture.request("s", ImportSource::Dump(path));
    let cancelled = CancellationToken::new();
    let progress = |event| {
        if event == Progress::Step(Step::Restore) {
            cancelled.cancel();
        }
    };
    let import = fixture
        .importer
        .import(request, progress, cancelled.clone());
    let error = import.await.unwrap_err();
    assert!(matches!(error, ImportError::Cancelled), "{error}");
    // Looked at once: the cleanup does not go on in the background.
    let left = std::fs::read_dir(fixture.layout.snapshots())
        .unwrap()
        .count();
    assert_eq!(left, 0);
    let servers = fixture.host.running_servers().await.unwrap().found;
    let is_import = |(purpose, _): &(Purpose, _)| *purpose == Purpose::Import;
    assert!(!servers.iter().any(is_import));
}

#[tokio::test]
async fn dropped_import_leaves_nothing() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let bytes = fixture
        .program(
            "pg_dump",
            &source.args(&["--dbname=proj", "--format=custom"]),
        )
        .await;
    let data = source.stop().await;
    let dump = fixture.write("the dump", &bytes);
    for source in [ImportSource::Dump(dump), ImportSource::DataDir(data)] {
        for step in [
            Step::Check,
            Step::Copy,
            Step::Restore,
            Step::Migrations,
            Step::Vacuum,
            Step::Finish,
        ] {
            drop_at(&fixture, &source, step).await;
            fixture.assert_nothing_left(&[]).await;
        }
    }
}

/// Drops an import shortly after a step began.
async fn drop_at(fixture: &Fixture, source: &ImportSource, step: Step) {
    let request = fixture.request("s", source.clone());
    let (began, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let progress = move |event| {
        if event == Progress::Step(step) {
            let _ = began.send(());
        }
    };
    tokio::select! {
        result = fixture.importer.import(request, progress, CancellationToken::new()) => {
            // The source has no such step, or the step was too fast.
            let snapshot = result.unwrap();
            std::fs::remove_dir_all(fixture.layout.snapshot(&snapshot.id)).unwrap();
        }
        () = async {
            if begun.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        } => {}
    }
}

#[tokio::test]
async fn second_import_of_an_id_is_refused() {
    let fixture = Fixture::new();
    let sql = b"CREATE TABLE django_migrations AS SELECT 'a'::text AS app, 'b'::text AS name;\n";
    let path = fixture.write("the dump", sql);
    let request = fixture.request("s", ImportSource::Dump(path));
    let never = CancellationToken::new();
    let (first, second) = tokio::join!(
        fixture
            .importer
            .import(request.clone(), |_| (), never.clone()),
        fixture.importer.import(request, |_| (), never),
    );
    let (good, bad) = if first.is_ok() {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(good.unwrap().migrations, ["a.b"]);
    assert!(
        matches!(bad, Err(ImportError::InProgress { .. })),
        "{bad:?}"
    );
    fixture.assert_nothing_left(&["s"]).await;
}

#[tokio::test]
async fn import_of_a_dump_without_data_can_be_dropped() {
    let fixture = Fixture::new();
    let fifo = fixture.path("slow.sql");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Held open and never written to.
    let keeper = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo);
    let import = fixture.import_dump("s", &fifo);
    let timed_out = tokio::time::timeout(Duration::from_millis(300), import).await;
    timed_out.unwrap_err();
    fixture.assert_nothing_left(&[]).await;
    // Ends the thread that reads it.
    drop(keeper);
}
