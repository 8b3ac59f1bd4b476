//! Queries to a real server.

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
    let queried = PgProbe.backend_activities(endpoint, "postgres", &process_ids);
    queried.await.map(|known| known.get(&pid).copied())
}

#[tokio::test]
async fn activities_are_those_of_pg_stat_activity() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = client(&endpoint).await;
    let pid = process_id(&session).await;
    let queried = || activity_of(&endpoint, pid);
    assert_eq!(queried().await.unwrap(), Some(BackendActivity::Idle));
    for (statement, activity) in [
        ("listen changes", BackendActivity::Listening),
        ("select 1; LISTEN changes", BackendActivity::Listening),
        ("unlisten *", BackendActivity::Idle),
        ("select 'a listener'", BackendActivity::Idle),
    ] {
        session.batch_execute(statement).await.unwrap();
        assert_eq!(queried().await.unwrap(), Some(activity), "{statement}");
    }
    session.batch_execute("begin").await.unwrap();
    let in_transaction = Some(BackendActivity::IdleInTransaction);
    assert_eq!(queried().await.unwrap(), in_transaction);
    session.batch_execute("select nonsense").await.unwrap_err();
    // The error is sent before the backend is idle.
    while queried().await.unwrap() == Some(BackendActivity::Active) {}
    assert_eq!(queried().await.unwrap(), in_transaction);
    session.batch_execute("rollback").await.unwrap();
    let sleeping = tokio::spawn(async move { session.batch_execute("select pg_sleep(60)").await });
    while queried().await.unwrap() != Some(BackendActivity::Active) {}
    PgProbe
        .terminate_backend(&endpoint, "postgres", pid)
        .await
        .unwrap();
    let error = sleeping.await.unwrap().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57P01");
    while queried().await.unwrap().is_some() {}
    // Terminating a backend that is gone is not an error.
    PgProbe
        .terminate_backend(&endpoint, "postgres", pid)
        .await
        .unwrap();
    fixture.stop().await;
}

#[tokio::test]
async fn server_without_the_database_postgres_can_be_queried() {
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
async fn query_to_a_silent_server_times_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".s.PGSQL.5432");
    // Accepts connections and sends nothing.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let endpoint = Endpoint::Unix(path);
    let queried = activity_of(&endpoint, 1);
    let answer = tokio::time::timeout(2 * QUERY_TIMEOUT, queried)
        .await
        .unwrap();
    assert!(answer.is_err());
}

#[tokio::test]
async fn endless_answer_is_cut_off() {
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
    // The kernel's buffers count as sent, too.
    assert!(flood.await.unwrap() < 4 << 20);
}

#[tokio::test]
async fn awake_reasons_include_logical_workers() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = client(&endpoint).await;
    let queried = async || PgProbe.awake_reasons(&endpoint, "postgres").await.unwrap();
    assert_eq!(
        queried().await,
        Vec::new(),
        "its own processes are not a reason"
    );
    // A subscription to a publisher that accepts connections and sends nothing.
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
            let reasons = queried().await;
            if let Some(AwakeReason::LogicalWorker(name)) = reasons.first() {
                return name.clone();
            }
        }
    };
    let name = tokio::time::timeout(Duration::from_secs(60), seen).await;
    assert!(name.unwrap().starts_with("logical replication"));
    fixture.stop().await;
}
