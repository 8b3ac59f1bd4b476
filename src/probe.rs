//! Queries of multidb itself to a running Postgres.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::awake::AwakeReason;
use multidb_actors::endpoint::connect_unix;
use multidb_actors::ports::{BackendActivity, Endpoint, RuntimeError, ServerProbe};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, NoTls, Row};

/// The time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for a query, including its connection.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum of bytes that are read for a query, including the login. A superuser of an instance can
/// replace its Postgres by another program.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
const STATEMENT_TIMEOUT: &str = "set statement_timeout = '2s'";
/// The databases that a cluster has unless they were dropped, in the order in which they are tried.
const DATABASES: [&str; 2] = ["postgres", "template1"];

/// Queries servers by ordinary connections.
#[derive(Debug, Default, Clone, Copy)]
pub struct PgProbe;

/// The error of a connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection to its socket failed.
    #[error("no connection to its socket")]
    Socket(#[from] io::Error),
    /// Postgres refused or closed the connection.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
}

/// Connects to a server that multidb started, as this superuser.
///
/// # Errors
///
/// The socket or Postgres refuses the connection.
pub async fn connect(
    endpoint: &Endpoint,
    superuser: &str,
    database: &str,
) -> Result<Client, ConnectError> {
    connect_within(endpoint, superuser, database, u64::MAX).await
}

/// Connects, and reads at most `bytes_max` bytes.
async fn connect_within(
    endpoint: &Endpoint,
    superuser: &str,
    database: &str,
    bytes_max: u64,
) -> Result<Client, ConnectError> {
    let mut config = Config::new();
    config
        .user(superuser)
        .dbname(database)
        .application_name("multidb")
        .connect_timeout(CONNECT_TIMEOUT);
    // connect_unix instead of the driver, which follows links.
    match endpoint {
        Endpoint::Unix(path) => {
            let (read, write) = connect_unix(path).await?.into_split();
            let socket = tokio::io::join(read.take(bytes_max), write);
            let (client, connection) = config.connect_raw(socket, NoTls).await?;
            spawn(connection);
            Ok(client)
        }
        Endpoint::Tcp(address) => {
            config.host(address.ip().to_string()).port(address.port());
            let (client, connection) = config.connect(NoTls).await?;
            spawn(connection);
            Ok(client)
        }
    }
}

/// Runs a connection until its client is dropped.
fn spawn<S, T>(connection: Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection of a query ended");
        }
    });
}

/// Runs a query.
async fn query(
    endpoint: &Endpoint,
    superuser: &str,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, RuntimeError> {
    let queried = async {
        let connect = |database| connect_within(endpoint, superuser, database, ANSWER_BYTES_MAX);
        let client = match connect(DATABASES[0]).await {
            Ok(client) => client,
            Err(_) => connect(DATABASES[1]).await?,
        };
        // Ends the query on the server, too, after the timeout here.
        client.batch_execute(STATEMENT_TIMEOUT).await?;
        Ok(client.query(statement, parameters).await?)
    };
    let answer = tokio::time::timeout(QUERY_TIMEOUT, queried).await;
    let failed = |message: String| RuntimeError {
        message: format!("cannot query postgres: {message}"),
        hint: None,
    };
    answer
        .map_err(|_| failed(format!("no answer within {QUERY_TIMEOUT:?}")))?
        .map_err(|error: ConnectError| failed(multidb_store::error_chain(&error)))
}

/// The activities of Postgres without a client. A background worker is every process that is not one of
/// Postgres' own. A WAL sender has a slot, or a session.
const AWAKE_QUERY: &str = "\
    select case when backend_type = 'autovacuum worker' then 'autovacuum' \
                when backend_type like 'logical replication % worker' \
                  or backend_type = 'logical replication worker' then 'logical worker' \
                else 'background worker' end, \
           coalesce(case when backend_type = 'autovacuum worker' then query else backend_type end, '') \
      from pg_catalog.pg_stat_activity \
     where backend_type not in ('client backend', 'parallel worker', 'walsender', 'walreceiver', \
           'autovacuum launcher', 'logical replication launcher', 'background writer', \
           'checkpointer', 'walwriter', 'archiver', 'startup', 'logger', 'walsummarizer', \
           'slotsync worker', 'io worker', 'standalone backend') \
    union all \
    select 'replication slot', slot_name::text from pg_catalog.pg_replication_slots where active \
    union all \
    select 'prepared transaction', gid from pg_catalog.pg_prepared_xacts \
    limit 100";

/// The activities of backends. Only a session itself knows that it listens, so its last statement has to
/// do. A backend that waits for its client within a statement is usually in a COPY, whose progress is
/// reported since Postgres 14 (its documentation, "COPY Progress Reporting").
const ACTIVITY_QUERY: &str = "\
    select pid, \
           case when state like 'idle in transaction%' then 'transaction' \
                when state = 'idle' and query ~* '(^|;)\\s*listen\\M' then 'listening' \
                when state = 'idle' then 'idle' \
                when backend_type = 'walsender' then 'replicating' \
                when wait_event_type = 'Client' and wait_event = 'ClientRead' then 'waits' \
                when current_setting('server_version_num')::int >= 140000 \
                    and exists (select from pg_catalog.pg_stat_get_progress_info('COPY') copy \
                                where copy.pid = activity.pid) then 'copy' \
                else 'active' end \
      from pg_catalog.pg_stat_activity activity \
     where pid = any ($1)";

fn activity(row: &Row) -> (i32, BackendActivity) {
    let (process_id, state): (i32, &str) = (row.get(0), row.get(1));
    let activity = match state {
        "transaction" => BackendActivity::IdleInTransaction,
        "listening" => BackendActivity::Listening,
        "idle" => BackendActivity::Idle,
        "replicating" => BackendActivity::Replicating,
        "waits" => BackendActivity::InCopy { waits: true },
        "copy" => BackendActivity::InCopy { waits: false },
        _ => BackendActivity::Active,
    };
    (process_id, activity)
}

fn awake_reason(row: &Row) -> AwakeReason {
    let (kind, name): (&str, String) = (row.get(0), row.get(1));
    match kind {
        "autovacuum" => AwakeReason::Autovacuum(name),
        "logical worker" => AwakeReason::LogicalWorker(name),
        "replication slot" => AwakeReason::ReplicationSlot(name),
        "prepared transaction" => AwakeReason::PreparedTransaction(name),
        _ => AwakeReason::BackgroundWorker(name),
    }
}

#[async_trait]
impl ServerProbe for PgProbe {
    async fn backend_activities(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
        process_ids: &[i32],
    ) -> Result<HashMap<i32, BackendActivity>, RuntimeError> {
        let rows = query(endpoint, superuser, ACTIVITY_QUERY, &[&process_ids]).await?;
        Ok(rows.iter().map(activity).collect())
    }

    async fn awake_reasons(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
    ) -> Result<Vec<AwakeReason>, RuntimeError> {
        let rows = query(endpoint, superuser, AWAKE_QUERY, &[]).await?;
        Ok(rows.iter().map(awake_reason).collect())
    }

    async fn terminate_backend(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
        process_id: i32,
    ) -> Result<(), RuntimeError> {
        let statement = "select pg_terminate_backend($1)";
        query(endpoint, superuser, statement, &[&process_id]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
