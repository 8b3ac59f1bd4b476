//! Questions to a running Postgres, over its Unix socket.

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

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a question may take, its connection included.
const PATIENCE: Duration = Duration::from_secs(2);
/// What an answer may be long, its connection's login included: whoever is superuser in an instance
/// can put a program of his in its Postgres' place.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
const STATEMENT_TIMEOUT: &str = "set statement_timeout = '2s'";
/// Databases that every cluster has, unless somebody dropped them.
const DATABASES: [&str; 2] = ["postgres", "template1"];

/// Asks by ordinary connections.
#[derive(Debug, Default, Clone, Copy)]
pub struct PgProbe;

/// Why a server of ours does not let us in.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its socket cannot be connected to.
    #[error("no connection to its socket")]
    Socket(#[from] io::Error),
    /// It refused, or broke off.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
}

/// Connects to a server of ours as this superuser.
///
/// # Errors
///
/// The server does not let us in.
pub async fn connect(
    endpoint: &Endpoint,
    superuser: &str,
    database: &str,
) -> Result<Client, ConnectError> {
    connect_within(endpoint, superuser, database, u64::MAX).await
}

/// Connects, to read so many bytes at most.
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
        .connect_timeout(CONNECT_PATIENCE);
    // Not by the driver's own way to a socket, which follows links.
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

/// Lets a connection of ours do its work until its client is dropped.
fn spawn<S, T>(connection: Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of multidb's own ended");
        }
    });
}

/// The answer to a question.
async fn ask(
    endpoint: &Endpoint,
    superuser: &str,
    question: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, RuntimeError> {
    let asked = async {
        let connect = |database| connect_within(endpoint, superuser, database, ANSWER_BYTES_MAX);
        let client = match connect(DATABASES[0]).await {
            Ok(client) => client,
            Err(_) => connect(DATABASES[1]).await?,
        };
        // The server gives up too, when nobody waits for the answer any more.
        client.batch_execute(STATEMENT_TIMEOUT).await?;
        Ok(client.query(question, parameters).await?)
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let failed = |message: String| RuntimeError {
        message: format!("cannot ask postgres: {message}"),
        hint: None,
    };
    answer
        .map_err(|_| failed(format!("no answer within {PATIENCE:?}")))?
        .map_err(|error: ConnectError| failed(multidb_store::error_chain(&error)))
}

/// What Postgres does of its own accord. A background worker is whatever is none of its own
/// processes; a WAL sender is known by its slot, or has a session.
const AWAKE_QUESTION: &str = "\
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

/// That a session listens is known to itself alone; its last statement tells nearly as well. One that
/// waits for its client in the middle of a statement is in a COPY, as a rule; the progress of a COPY is
/// reported since Postgres 14 (its documentation, "COPY Progress Reporting").
const ACTIVITY_QUESTION: &str = "\
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
    let (process_id, what): (i32, &str) = (row.get(0), row.get(1));
    let activity = match what {
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
    let (kind, what): (&str, String) = (row.get(0), row.get(1));
    match kind {
        "autovacuum" => AwakeReason::Autovacuum(what),
        "logical worker" => AwakeReason::LogicalWorker(what),
        "replication slot" => AwakeReason::ReplicationSlot(what),
        "prepared transaction" => AwakeReason::PreparedTransaction(what),
        _ => AwakeReason::BackgroundWorker(what),
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
        let rows = ask(endpoint, superuser, ACTIVITY_QUESTION, &[&process_ids]).await?;
        Ok(rows.iter().map(activity).collect())
    }

    async fn awake_reasons(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
    ) -> Result<Vec<AwakeReason>, RuntimeError> {
        let rows = ask(endpoint, superuser, AWAKE_QUESTION, &[]).await?;
        Ok(rows.iter().map(awake_reason).collect())
    }

    async fn terminate_backend(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
        process_id: i32,
    ) -> Result<(), RuntimeError> {
        let question = "select pg_terminate_backend($1)";
        ask(endpoint, superuser, question, &[&process_id]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
