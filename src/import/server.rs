//! The server of an import: its settings, its start and its stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::ports::{Endpoint, RuntimeError};
use multidb_store::{InstanceUid, SnapshotId, error_chain};

use super::error::ImportError;
use crate::runtime::{PostgresHost, Purpose, ServerSpec};
use crate::sql::{Ended, Login, Privileges, SearchPath, Session, SqlError};

/// The time for a fast shutdown, in which the server writes all its buffers.
const STOP_TIMEOUT: Duration = Duration::from_secs(600);
/// The limit for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The lines of its log in the error when it ends by itself.
const LOG_LINES: usize = 5;
/// The superuser of clusters that an import initializes.
pub(super) const SUPERUSER: &str = "postgres";

/// Settings that make a restore fast and deterministic.
///
/// Blocks of two restores are equal only if transaction ids, WAL positions and hint bits are. So
/// nothing runs in the background (autovacuum, timed checkpoints), and WAL does not depend on the
/// size of a table. One `syncfs` at the end makes the data durable: a failed import is removed as a whole.
const SETTINGS: [(&str, &str); 23] = [
    ("autovacuum", "off"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    // Hint bits are set only once the WAL record of the commit is written.
    ("synchronous_commit", "on"),
    ("wal_level", "minimal"),
    ("wal_skip_threshold", "0"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1d"),
    ("archive_mode", "off"),
    ("hot_standby", "off"),
    ("bgwriter_lru_maxpages", "0"),
    ("max_parallel_workers_per_gather", "0"),
    ("max_logical_replication_workers", "0"),
    ("synchronize_seqscans", "off"),
    ("maintenance_work_mem", "256MB"),
    ("shared_buffers", "128MB"),
    ("jit", "off"),
    ("restart_after_crash", "off"),
    // The scheduler of pg_cron, if it is preloaded.
    ("cron.launch_active_jobs", "off"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("track_commit_timestamp", "off"),
];

/// The settings of parallel workers. Indexes are built by as many as Postgres' default has: a B-tree is the same
/// whoever sorts its parts, and a BRIN index (in parallel since 17) is small. GIN indexes, which Postgres builds in parallel
/// since 18, depend on which worker meets which rows.
fn parallel_workers(postgres_major: u16) -> [(&'static str, &'static str); 2] {
    let count = if postgres_major < 18 { "2" } else { "0" };
    [
        ("max_parallel_workers", count),
        ("max_parallel_maintenance_workers", count),
    ]
}

/// The files of a server.
pub(super) struct ServerFiles {
    pub(super) data_dir: PathBuf,
    pub(super) log: PathBuf,
}

/// A server on the data directory of the snapshot.
pub(super) struct ImportServer {
    pub(super) host: Arc<dyn PostgresHost>,
    pub(super) uid: InstanceUid,
    pub(super) endpoint: Endpoint,
    postgres_major: u16,
    log: PathBuf,
}

impl ImportServer {
    /// Starts it, with some settings more. After an error or a cancellation, the caller stops it by its uid.
    pub(super) async fn start(
        host: Arc<dyn PostgresHost>,
        uid: InstanceUid,
        id: &SnapshotId,
        postgres_major: u16,
        files: ServerFiles,
        more: Vec<(&str, String)>,
    ) -> Result<Self, ImportError> {
        let to_owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let all = SETTINGS.into_iter().chain(parallel_workers(postgres_major));
        let mut settings: Vec<_> = all.map(to_owned).collect();
        let more = more
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        settings.extend(more);
        let ServerFiles { data_dir, log } = files;
        let spec = ServerSpec {
            uid,
            name: format!("import-{id}"),
            purpose: Purpose::Import,
            postgres_major,
            data_dir,
            log: log.clone(),
            settings,
        };
        let running = host.start_server(&spec).await?;
        let endpoint = running.endpoint;
        let exited = running.exited;
        tokio::spawn(async move {
            let status = exited.await;
            tracing::debug!(%uid, status, "the server of an import ended");
        });
        Ok(Self {
            host,
            uid,
            endpoint,
            postgres_major,
            log,
        })
    }

    /// Connects as a superuser.
    pub(super) async fn connect(
        &self,
        superuser: &str,
        database: &str,
        search_path: SearchPath,
    ) -> Result<Session, ImportError> {
        let login = Login {
            search_path,
            ..self.login(superuser, Privileges::Superuser, database)
        };
        let connected = Session::connect(&login, CONNECT_TIMEOUT).await;
        connected.map_err(|error| server_error("connect to the server of the import", &error))
    }

    /// Connects as the superuser for a script: as psql would, but for settings of roles and databases that could keep it
    /// from running.
    pub(super) async fn connect_for_script(&self, database: &str) -> Result<Session, SqlError> {
        // As for a client that says no encoding.
        const ENCODING: &str = "SELECT pg_catalog.set_config('client_encoding', \
            pg_catalog.getdatabaseencoding()::pg_catalog.text, false)";
        let login = Login {
            search_path: SearchPath::Configured,
            ..self.login(SUPERUSER, Privileges::Superuser, database)
        };
        let mut session = Session::connect(&login, CONNECT_TIMEOUT).await?;
        match session.run(ENCODING.as_bytes(), None).await? {
            Ended::Failed(message) => Err(SqlError::Server(message)),
            Ended::Done | Ended::WantsRows => Ok(session),
        }
    }

    /// Connects as a role that may be no superuser.
    pub(super) async fn connect_as(
        &self,
        role: &str,
        privileges: Privileges,
        database: &str,
    ) -> Result<Session, SqlError> {
        let login = self.login(role, privileges, database);
        Session::connect(&login, CONNECT_TIMEOUT).await
    }

    fn login<'a>(&'a self, role: &'a str, privileges: Privileges, database: &'a str) -> Login<'a> {
        Login {
            endpoint: &self.endpoint,
            role,
            privileges,
            database,
            postgres_major: self.postgres_major,
            search_path: SearchPath::Catalog,
            statement_timeout: None,
        }
    }

    /// Adds the last lines of the server's log to an error that says that the server ended.
    pub(super) async fn explain(&self, error: ImportError) -> ImportError {
        let ImportError::Server { action, message } = error else {
            return error;
        };
        let log = self.host.server_logs(self.uid, &self.log, LOG_LINES).await;
        let log = log.unwrap_or_default().join("; ");
        ImportError::Server {
            action,
            message: format!("{message}; the server's log ends with: {log}"),
        }
    }

    /// Stops it cleanly.
    pub(super) async fn stop(&self) -> Result<(), RuntimeError> {
        self.host.stop_server(self.uid, STOP_TIMEOUT).await
    }
}

/// The error of a statement on the server of the import.
pub(super) fn server_error(action: impl Into<String>, error: &SqlError) -> ImportError {
    ImportError::Server {
        action: action.into(),
        message: error_chain(error),
    }
}
