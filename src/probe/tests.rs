//! Questions to a real server, and to a program in its place.

mod forged;

use std::sync::LazyLock;

use multidb_actors::ports::Endpoint;
use multidb_store::Layout;
use tokio_postgres::Client;

use super::*;
use crate::runtime::PostgresHost;
use crate::runtime::process::ProcessHost;
use crate::runtime::process::tests::fixture::{Fixture, client, connect, uid};

/// The newest installed major, which the fixture runs.
static NEWEST: LazyLock<u16> = LazyLock::new(|| {
    let majors = ProcessHost::new(Layout::new("/"), (0, 0), Vec::new());
    *majors.binaries().majors().last().unwrap()
});

/// The access to a server of the newest installed major.
pub(super) fn access(endpoint: &Endpoint) -> SuperuserAccess {
    SuperuserAccess {
        endpoint: endpoint.clone(),
        superuser: "postgres".into(),
        postgres_major: *NEWEST,
        database: None,
    }
}

async fn process_id(client: &Client) -> i32 {
    let row = client.query_one("select pg_backend_pid()", &[]);
    row.await.unwrap().get(0)
}

pub(super) async fn activity_of(
    endpoint: &Endpoint,
    pid: i32,
) -> Result<Option<BackendActivity>, ProbeError> {
    let server = access(endpoint);
    let process_ids = [pid, 1];
    let queried = PgProbe.backend_activities(&server, &process_ids);
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
        .terminate_backend(&access(&endpoint), pid)
        .await
        .unwrap();
    let error = sleeping.await.unwrap().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57P01");
    while queried().await.unwrap().is_some() {}
    // Terminating a backend that is gone is not an error.
    PgProbe
        .terminate_backend(&access(&endpoint), pid)
        .await
        .unwrap();
    fixture.stop().await;
}

#[tokio::test]
async fn server_without_the_database_postgres_can_be_queried() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = connect(&endpoint, "template1").await;
    session
        .batch_execute("drop database postgres")
        .await
        .unwrap();
    let pid = process_id(&session).await;
    let activity = activity_of(&endpoint, pid).await;
    assert_eq!(activity.unwrap(), Some(BackendActivity::Idle));
    // Only a database of the session's is left.
    session
        .batch_execute("create database other")
        .await
        .unwrap();
    let session = connect(&endpoint, "other").await;
    session
        .batch_execute("alter database template1 allow_connections false")
        .await
        .unwrap();
    let pid = process_id(&session).await;
    activity_of(&endpoint, pid).await.unwrap_err();
    let server = SuperuserAccess {
        database: Some("other".into()),
        ..access(&endpoint)
    };
    let known = PgProbe.backend_activities(&server, &[pid]).await.unwrap();
    assert_eq!(known.get(&pid), Some(&BackendActivity::Idle));
    fixture.stop().await;
}

#[tokio::test]
async fn settings_of_roles_and_databases_do_not_touch_a_question() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = connect(&endpoint, "template1").await;
    let pid = process_id(&session).await;
    for statement in [
        "create role nobody",
        "create view pg_stat_activity as select 'x'::text as pid",
        "create function lies(text, text) returns bool language sql as 'select false'",
        "create operator ~* (function = lies, leftarg = text, rightarg = text)",
        "drop database postgres",
        "create database postgres template template1",
        "alter role postgres set search_path = public, pg_catalog",
        "alter role postgres set statement_timeout = 1",
        "alter role postgres set lock_timeout = 1",
        "alter role postgres set default_transaction_read_only = on",
        "alter role postgres set default_transaction_deferrable = on",
        "alter role postgres set default_transaction_isolation = serializable",
        "alter role postgres set standard_conforming_strings = off",
        "alter role postgres set client_min_messages = debug5",
        "alter role postgres set client_encoding = latin1",
        "alter role postgres set row_security = off",
        "alter role postgres set role = nobody",
        "alter role postgres set session_preload_libraries = 'nothing'",
        "alter role postgres set local_preload_libraries = 'nothing'",
        "alter database postgres set search_path = public",
        "alter role postgres in database postgres set statement_timeout = 1",
    ] {
        let done = session.batch_execute(statement).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    session.batch_execute("listen changes").await.unwrap();
    let activity = activity_of(&endpoint, pid).await;
    assert_eq!(activity.unwrap(), Some(BackendActivity::Listening));
    let server = access(&endpoint);
    assert_eq!(PgProbe.awake_reasons(&server).await, Ok(Vec::new()));
    PgProbe.terminate_backend(&server, pid).await.unwrap();
    fixture.stop().await;
}

#[tokio::test]
async fn replaced_catalog_views_are_an_error_and_bounded() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = client(&endpoint).await;
    let pid = process_id(&session).await;
    for statement in [
        "set allow_system_table_mods = on",
        "alter view pg_catalog.pg_stat_activity rename to activity",
        "alter view pg_catalog.pg_prepared_xacts rename to xacts",
    ] {
        session.batch_execute(statement).await.unwrap();
    }
    let columns = "'idle'::text state, ''::text query, 'client backend'::text backend_type, \
                   ''::text wait_event_type, ''::text wait_event";
    let server = access(&endpoint);
    for view in [
        &format!("select 'x'::text pid, {columns}"),
        "select 1 pid, 7 state, now() query, 1.5 backend_type",
        &format!("select 1 pid, {columns} from generate_series(1, 1000000000)"),
        &format!("select 1 pid, {columns} where pg_sleep(60) is null"),
        "select 1 pid, repeat('x', 100000000) state, '' query, 'x' backend_type",
    ] {
        let replaced = format!(
            "create or replace view pg_catalog.pg_stat_activity as {view}; \
             create or replace view pg_catalog.pg_prepared_xacts as select x gid from pg_catalog.generate_series(1, 100000) x"
        );
        session.batch_execute(&replaced).await.unwrap();
        let asked = PgProbe.backend_activities(&server, &[pid, 1]).await;
        assert!(asked.is_err(), "{view}: {asked:?}");
        // At most a hundred reasons of a bounded length, regardless of the views.
        if let Ok(reasons) = PgProbe.awake_reasons(&server).await {
            assert!(reasons.len() <= 100, "{view}");
            assert!(reasons.iter().all(|reason| reason.to_string().len() < 2000));
        }
        let dropped =
            "drop view pg_catalog.pg_stat_activity; drop view pg_catalog.pg_prepared_xacts";
        session.batch_execute(dropped).await.unwrap();
    }
    fixture.stop().await;
}

#[tokio::test]
async fn server_whose_connections_are_all_in_use_says_so() {
    let fixture = Fixture::new().await;
    let mut spec = fixture.spec();
    spec.settings = [
        ("max_connections", "5"),
        ("superuser_reserved_connections", "2"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let endpoint = fixture.host.start_server(&spec).await.unwrap().endpoint;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(client(&endpoint).await);
    }
    let (pid, other) = (
        process_id(&sessions[0]).await,
        process_id(&sessions[1]).await,
    );
    let activity = activity_of(&endpoint, pid).await;
    assert_eq!(activity, Err(ProbeError::NoFreeConnection));
    // It waits until the process is gone, and with it its connection.
    let terminate = "select pg_terminate_backend($1, 60000)";
    let row = sessions[2].query_one(terminate, &[&other]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    let activity = activity_of(&endpoint, pid).await;
    assert_eq!(activity.unwrap(), Some(BackendActivity::Idle));
    fixture.host.stop_server(uid(), TIMEOUT).await.unwrap();
}

#[tokio::test]
async fn awake_reasons_include_logical_workers() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.start().await.endpoint;
    let session = client(&endpoint).await;
    let queried = async || PgProbe.awake_reasons(&access(&endpoint)).await.unwrap();
    assert_eq!(
        queried().await,
        Vec::new(),
        "its own processes are not a reason"
    );
    // A subscription to a publisher that accepts connections and sends nothing. The server must reach it
    // inside its sandbox, where a worker that cannot connect would end at once.
    let Endpoint::Unix(socket) = &endpoint else {
        panic!("{endpoint:?}");
    };
    let directory = socket.parent().unwrap();
    let path = directory.join(".s.PGSQL.7777");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&path, mode).unwrap();
    for statement in [
        &format!(
            "create subscription s connection 'host={} port=7777' publication p with (connect = false, slot_name = none)",
            directory.display()
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
