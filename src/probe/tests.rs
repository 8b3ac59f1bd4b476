//! Questions to a real server.

use super::*;
use crate::runtime::process::tests::fixture::{Fixture, client};

async fn process_id(client: &Client) -> i32 {
    let row = client.query_one("select pg_backend_pid()", &[]);
    row.await.unwrap().get(0)
}

async fn activity_of(
    endpoint: &Endpoint,
    pid: i32,
) -> Result<Option<BackendActivity>, RuntimeError> {
    let process_ids = [pid, 1];
    let asked = PgProbe.backend_activities(endpoint, "postgres", &process_ids);
    asked.await.map(|known| known.get(&pid).copied())
}

#[tokio::test]
async fn a_backend_is_what_postgres_says_of_it() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = client(&endpoint).await;
    let pid = process_id(&session).await;
    let asked = || activity_of(&endpoint, pid);
    assert_eq!(asked().await.unwrap(), Some(BackendActivity::Idle));
    for (statement, activity) in [
        ("listen changes", BackendActivity::Listening),
        ("select 1; LISTEN changes", BackendActivity::Listening),
        ("unlisten *", BackendActivity::Idle),
        ("select 'a listener'", BackendActivity::Idle),
    ] {
        session.batch_execute(statement).await.unwrap();
        assert_eq!(asked().await.unwrap(), Some(activity), "{statement}");
    }
    session.batch_execute("begin").await.unwrap();
    let in_transaction = Some(BackendActivity::IdleInTransaction);
    assert_eq!(asked().await.unwrap(), in_transaction);
    session.batch_execute("select nonsense").await.unwrap_err();
    // The error is sent before the backend rests.
    while asked().await.unwrap() == Some(BackendActivity::Active) {}
    assert_eq!(asked().await.unwrap(), in_transaction);
    session.batch_execute("rollback").await.unwrap();
    let sleeping = tokio::spawn(async move { session.batch_execute("select pg_sleep(60)").await });
    while asked().await.unwrap() != Some(BackendActivity::Active) {}
    PgProbe
        .terminate_backend(&endpoint, "postgres", pid)
        .await
        .unwrap();
    let error = sleeping.await.unwrap().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57P01");
    while asked().await.unwrap().is_some() {}
    // Ending one that is gone is no error.
    PgProbe
        .terminate_backend(&endpoint, "postgres", pid)
        .await
        .unwrap();
    fixture.stop().await;
}

#[tokio::test]
async fn a_server_without_the_database_postgres_is_asked_all_the_same() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = connect(&endpoint, "postgres", "template1").await.unwrap();
    session
        .batch_execute("drop database postgres")
        .await
        .unwrap();
    let pid = process_id(&session).await;
    let activity = activity_of(&endpoint, pid).await;
    assert_eq!(activity.unwrap(), Some(BackendActivity::Idle));
    fixture.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".s.PGSQL.5432");
    // It takes connections and says nothing.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let endpoint = Endpoint::Unix(path);
    let asked = activity_of(&endpoint, 1);
    let answer = tokio::time::timeout(2 * PATIENCE, asked).await.unwrap();
    assert!(answer.is_err());
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".s.PGSQL.5432");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        for _ in DATABASES {
            let (mut socket, _) = listener.accept().await.unwrap();
            // A notice of almost 2 GiB.
            let mut bytes = vec![b'x'; 64 << 10];
            bytes[..5].copy_from_slice(b"N\x7f\xff\xff\xff");
            while let Ok(count) = tokio::io::AsyncWriteExt::write(&mut socket, &bytes).await {
                sent += count;
            }
        }
        sent
    });
    let answer = PgProbe
        .awake_reasons(&Endpoint::Unix(path), "postgres")
        .await;
    assert!(answer.is_err());
    // What the kernel's buffers take is sent, too.
    assert!(flood.await.unwrap() < 4 << 20);
}

#[tokio::test]
async fn what_would_be_cut_by_a_stop_is_told() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = client(&endpoint).await;
    let asked = async || PgProbe.awake_reasons(&endpoint, "postgres").await.unwrap();
    assert_eq!(asked().await, Vec::new(), "its own processes are no reason");
    // A subscription to a publisher that takes connections and says nothing.
    let publisher = tempfile::tempdir().unwrap();
    let path = publisher.path().join(".s.PGSQL.5432");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    for (path, mode) in [(publisher.path(), 0o755), (&path, 0o777)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).unwrap();
    }
    for statement in [
        &format!(
            "create subscription s connection 'host={}' publication p with (connect = false, slot_name = none)",
            publisher.path().display()
        ),
        "alter subscription s set (slot_name = 's')",
        "alter subscription s enable",
    ] {
        session.batch_execute(statement).await.unwrap();
    }
    let seen = async {
        loop {
            let reasons = asked().await;
            if let Some(AwakeReason::LogicalWorker(what)) = reasons.first() {
                return what.clone();
            }
        }
    };
    let what = tokio::time::timeout(Duration::from_secs(60), seen).await;
    assert!(what.unwrap().starts_with("logical replication"));
    fixture.stop().await;
}
