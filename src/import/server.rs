//! The server of an import, and what is asked of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::ports::{Endpoint, RuntimeError};
use multidb_store::{InstanceUid, SnapshotId, error_chain};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::ProjectImport;
use super::error::{ImportError, refused};
use crate::probe::{ConnectError, connect};
use crate::runtime::{PostgresHost, Purpose, ServerSpec};

/// How long a server may take to write what it has in memory when it is stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(600);
/// The lines of its log that are shown when it ends on its own.
const LOG_LINES: usize = 5;
/// The superuser of clusters that an import makes.
pub(super) const SUPERUSER: &str = "postgres";

/// Settings that make a restore fast and deterministic.
///
/// Blocks of two restores are equal only if transaction ids, log positions and hint bits are:
/// nothing may happen on its own (autovacuum, checkpoints by time, parallel workers), and tables
/// must not be logged according to their size. Durability comes from one `syncfs` at the end: a
/// failed import is thrown away as a whole.
const SETTINGS: [(&str, &str); 25] = [
    ("autovacuum", "off"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    // Hint bits wait for the commit's log record to be written, so it is written at once.
    ("synchronous_commit", "on"),
    ("wal_level", "minimal"),
    ("wal_skip_threshold", "0"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1d"),
    ("archive_mode", "off"),
    ("hot_standby", "off"),
    ("bgwriter_lru_maxpages", "0"),
    ("max_parallel_workers", "0"),
    ("max_parallel_workers_per_gather", "0"),
    ("max_parallel_maintenance_workers", "0"),
    ("max_logical_replication_workers", "0"),
    ("synchronize_seqscans", "off"),
    ("maintenance_work_mem", "256MB"),
    ("shared_buffers", "128MB"),
    ("jit", "off"),
    ("restart_after_crash", "off"),
    ("shared_preload_libraries", ""),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("track_commit_timestamp", "off"),
];

/// A server on the data directory that is being prepared.
pub(super) struct ImportServer {
    pub(super) host: Arc<dyn PostgresHost>,
    pub(super) uid: InstanceUid,
    pub(super) endpoint: Endpoint,
    log: PathBuf,
}

impl ImportServer {
    /// Starts it. Whoever drops the future, or the server, stops it by [`Self::stop`].
    pub(super) async fn start(
        host: Arc<dyn PostgresHost>,
        uid: InstanceUid,
        id: &SnapshotId,
        postgres_major: u16,
        staging: &Path,
    ) -> Result<Self, ImportError> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let log = staging.join("postgres.log");
        let spec = ServerSpec {
            uid,
            name: format!("import-{id}"),
            purpose: Purpose::Import,
            postgres_major,
            data_dir: staging.join("data"),
            log: log.clone(),
            settings: SETTINGS.into_iter().map(own).collect(),
        };
        let running = host.start_server(&spec).await?;
        let endpoint = running.endpoint;
        let watched = running.exited;
        tokio::spawn(async move {
            let status = watched.await;
            tracing::debug!(%uid, status, "the server of an import ended");
        });
        Ok(Self {
            host,
            uid,
            endpoint,
            log,
        })
    }

    /// Connects as this superuser.
    pub(super) async fn connect(
        &self,
        superuser: &str,
        database: &str,
    ) -> Result<Client, ImportError> {
        connect(&self.endpoint, superuser, database)
            .await
            .map_err(|error| {
                let action = "connect to the server of the import";
                match error {
                    ConnectError::Postgres(error) => server_error(action, &error),
                    error @ ConnectError::Socket(_) => ImportError::Server {
                        action,
                        message: error_chain(&error),
                    },
                }
            })
    }

    /// Adds the last lines of its log to a failure, where the server itself ended.
    pub(super) async fn explain(&self, error: ImportError) -> ImportError {
        let (program, message) = match error {
            ImportError::Program { program, message }
                if message.contains("server closed the connection")
                    || message.contains("connection to server was lost") =>
            {
                (program, message)
            }
            other => return other,
        };
        let log = self.host.server_logs(self.uid, &self.log, LOG_LINES).await;
        let log = log.unwrap_or_default().join("; ");
        ImportError::Program {
            program,
            message: format!("{message}; the server's log ends in: {log}"),
        }
    }

    /// Stops it cleanly.
    pub(super) async fn stop(&self) -> Result<(), RuntimeError> {
        self.host.stop_server(self.uid, STOP_PATIENCE).await
    }
}

pub(super) fn server_error(action: &'static str, error: &tokio_postgres::Error) -> ImportError {
    let message = match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => error_chain(error),
    };
    ImportError::Server { action, message }
}

/// Makes the project's role and its database in an empty cluster.
pub(super) async fn make_database(
    server: &ImportServer,
    project: &ProjectImport,
) -> Result<(), ImportError> {
    let client = server.connect(SUPERUSER, "postgres").await?;
    let run =
        async |statement: String, known: SqlState| match client.batch_execute(&statement).await {
            Err(error) if error.code() == Some(&known) => Ok(()),
            other => other,
        };
    let (role, database) = (identifier(&project.role), identifier(&project.database));
    run(
        format!("CREATE ROLE {role} LOGIN"),
        SqlState::DUPLICATE_OBJECT,
    )
    .await
    .map_err(|error| server_error("make the project's role", &error))?;
    run(
        format!("CREATE DATABASE {database} OWNER {role}"),
        SqlState::DUPLICATE_DATABASE,
    )
    .await
    .map_err(|error| server_error("make the project's database", &error))
}

/// Finds a superuser that can log in. Every role can see them all, so any that exists will do to
/// ask.
pub(super) async fn find_superuser(
    server: &ImportServer,
    role: &str,
    path: &Path,
) -> Result<String, ImportError> {
    const QUESTION: &str = "SELECT rolname::text FROM pg_catalog.pg_roles \
        WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1";
    let mut last = None;
    for candidate in [SUPERUSER, role] {
        for database in ["postgres", "template1"] {
            let client = match connect(&server.endpoint, candidate, database).await {
                Ok(client) => client,
                Err(error) => {
                    last = Some(error_chain(&error));
                    continue;
                }
            };
            let answer = client.query_opt(QUESTION, &[]).await;
            let answer = answer.map_err(|error| server_error("find a superuser", &error))?;
            if let Some(row) = answer {
                return Ok(row.get(0));
            }
        }
    }
    Err(refused(
        path,
        format!(
            "no superuser of it is known: {}",
            last.unwrap_or_else(|| "none can log in".to_owned())
        ),
        "Start Postgres on it, make a superuser named \"postgres\" that can log in (CREATE ROLE \
         postgres SUPERUSER LOGIN), stop it cleanly, then import again.",
    ))
}

/// The databases that accept connections. `-2` marks one whose DROP DATABASE was interrupted.
pub(super) async fn databases(
    server: &ImportServer,
    superuser: &str,
) -> Result<Vec<String>, ImportError> {
    const QUESTION: &str = "SELECT datname::text FROM pg_catalog.pg_database \
        WHERE datallowconn AND datconnlimit <> -2 ORDER BY oid";
    let client = match server.connect(superuser, "postgres").await {
        Ok(client) => client,
        Err(_) => server.connect(superuser, "template1").await?,
    };
    let rows = client.query(QUESTION, &[]).await;
    let rows = rows.map_err(|error| server_error("list the databases", &error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Refuses a cluster that the project's clients could not use.
pub(super) async fn check_project(
    server: &ImportServer,
    superuser: &str,
    databases: &[String],
    project: &ProjectImport,
    path: &Path,
) -> Result<(), ImportError> {
    if !databases.contains(&project.database) {
        return Err(refused(
            path,
            format!("it has no database \"{}\"", project.database),
            format!(
                "It has: {}. Set the project's database to one of them.",
                databases.join(", ")
            ),
        ));
    }
    let client = server.connect(superuser, &project.database).await?;
    let found = client
        .query_opt(
            "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND rolcanlogin",
            &[&project.role],
        )
        .await
        .map_err(|error| server_error("look for the project's role", &error))?;
    match found {
        Some(_) => Ok(()),
        None => Err(refused(
            path,
            format!("it has no role \"{}\" that can log in", project.role),
            "Set the project's role to one that it has.",
        )),
    }
}

/// Leaves nothing for a clone to do: rows are frozen, hint bits set, statistics gathered.
pub(super) async fn vacuum(
    server: &ImportServer,
    superuser: &str,
    databases: &[String],
) -> Result<(), ImportError> {
    for database in databases {
        let client = server.connect(superuser, database).await?;
        client
            .batch_execute("VACUUM (FREEZE, ANALYZE)")
            .await
            .map_err(|error| server_error("vacuum", &error))?;
        // What the analysis of each table wrote came after this table's own turn.
        client
            .batch_execute(
                "VACUUM (FREEZE) pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data",
            )
            .await
            .map_err(|error| server_error("vacuum", &error))?;
    }
    let client = server.connect(superuser, &databases[0]).await?;
    client
        .batch_execute("CHECKPOINT")
        .await
        .map_err(|error| server_error("make a checkpoint", &error))
}

/// Reads the applied migrations, sorted, each once.
pub(super) async fn migrations(
    server: &ImportServer,
    superuser: &str,
    databases: &[String],
    project: &ProjectImport,
) -> Result<Vec<String>, ImportError> {
    let database = project.migrations.database().unwrap_or(&project.database);
    let failed = |problem: String, hint: String| ImportError::Migrations {
        database: database.to_owned(),
        problem,
        hint,
    };
    let client = server.connect(superuser, database).await.map_err(|error| {
        let hint = format!("The databases are: {}.", databases.join(", "));
        failed(error_chain(&error), hint)
    })?;
    let asked = async {
        client.batch_execute("BEGIN READ ONLY").await?;
        client.simple_query(project.migrations.sql()).await
    };
    let answer = asked.await.map_err(|error| {
        let message = match error.as_db_error() {
            Some(error) => error.message().to_owned(),
            None => error_chain(&error),
        };
        let hint = if error.code() == Some(&SqlState::UNDEFINED_TABLE) {
            format!(
                "Is \"{database}\" the project's database, and does its tool keep this table? The \
                 databases are: {}. Set the project's `database` or `migrations`.",
                databases.join(", ")
            )
        } else {
            "Correct the project's `migrations`.".to_owned()
        };
        failed(message, hint)
    })?;
    let mut migrations = BTreeSet::new();
    for message in &answer {
        let SimpleQueryMessage::Row(row) = message else {
            continue;
        };
        match (row.len(), row.try_get(0)) {
            (1, Ok(Some(text))) => migrations.insert(text.to_owned()),
            _ => {
                return Err(failed(
                    "the query does not return one column of text without nulls".to_owned(),
                    "Correct the project's `migrations`.".to_owned(),
                ));
            }
        };
    }
    Ok(migrations.into_iter().collect())
}

/// A name as SQL wants it.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
