//! Questions to a running Postgres, over its Unix socket.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::endpoint::connect_unix;
use multidb_actors::ports::{BackendActivity, Endpoint, RuntimeError, ServerProbe};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{Client, Config, Connection, NoTls, Row};

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a question may take, its connection included.
const PATIENCE: Duration = Duration::from_secs(2);
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
    let mut config = Config::new();
    config
        .user(superuser)
        .dbname(database)
        .application_name("multidb")
        .connect_timeout(CONNECT_PATIENCE);
    // Not by the driver's own way to a socket, which follows links.
    match endpoint {
        Endpoint::Unix(path) => {
            let socket = connect_unix(path).await?;
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

/// The answer to a question about one backend.
async fn ask(
    endpoint: &Endpoint,
    superuser: &str,
    question: &str,
    process_id: i32,
) -> Result<Option<Row>, RuntimeError> {
    let asked = async {
        let client = match connect(endpoint, superuser, DATABASES[0]).await {
            Ok(client) => client,
            Err(_) => connect(endpoint, superuser, DATABASES[1]).await?,
        };
        // The server gives up too, when nobody waits for the answer any more.
        client.batch_execute(STATEMENT_TIMEOUT).await?;
        Ok(client.query_opt(question, &[&process_id]).await?)
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

#[async_trait]
impl ServerProbe for PgProbe {
    async fn backend_activity(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
        process_id: i32,
    ) -> Result<Option<BackendActivity>, RuntimeError> {
        let question = "select state from pg_stat_activity where pid = $1";
        let Some(row) = ask(endpoint, superuser, question, process_id).await? else {
            return Ok(None);
        };
        let state: Option<String> = row.get(0);
        Ok(Some(match state.as_deref() {
            Some("idle") => BackendActivity::Idle,
            Some("idle in transaction" | "idle in transaction (aborted)") => {
                BackendActivity::IdleInTransaction
            }
            _ => BackendActivity::Active,
        }))
    }

    async fn terminate_backend(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
        process_id: i32,
    ) -> Result<(), RuntimeError> {
        let question = "select pg_terminate_backend($1)";
        ask(endpoint, superuser, question, process_id).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
