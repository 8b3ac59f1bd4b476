//! Makes snapshots: of a stopped data directory, or of a dump.
//!
//! | module | owns |
//! | --- | --- |
//! | `data_dir` | what a data directory must be to be imported |
//! | `dump` | a dump's format, its version and its bytes |
//! | `script` | the rewriting of a dump on its way to psql |
//! | `restore` | pg_restore, psql and the FIFOs between them and us |
//! | `template` | the empty cluster that restores start from |
//! | `server` | the server of an import, and what is asked of it |
//! | `control`, `files`, `trim`, `program` | `pg_controldata`, trees of files, what no clone needs, messages |
//!
//! Everything happens in `snapshots/.staging-<id>`, which is renamed into place when all of it is
//! durable. So an import is there or it is not; whatever ends it early, the staging directory goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use multidb_store::{Layout, ProjectName, SnapshotId, SnapshotRecord};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clone::TreeCloner;
use crate::migrations::MigrationsQuery;
use crate::runtime::PostgresHost;

mod control;
mod data_dir;
mod dump;
mod error;
mod files;
mod job;
mod program;
mod restore;
mod script;
mod server;
mod template;
#[cfg(test)]
mod tests;
mod trim;

pub use self::error::ImportError;
pub use self::script::ScriptError;

use self::job::Job;

/// The progress events that are queued for a slow caller.
const EVENTS_MAX: usize = 64;

/// How long the end of all imports may take.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// A snapshot to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRequest {
    /// Its id, which must be free.
    pub id: SnapshotId,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// What it is made of.
    pub source: ImportSource,
    /// When the data was taken from the source database; without it, what the source says.
    pub taken_at: Option<Timestamp>,
    /// The Postgres major to restore a dump with; without it, the one that it was made from.
    pub postgres_major: Option<u16>,
    /// What the import must know of the project.
    pub settings: ProjectImport,
}

/// The settings of the project that an import needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectImport {
    /// The database that a dump is restored into.
    pub database: String,
    /// The owner of that database, and the role that clients log in as.
    pub role: String,
    /// The query for the applied migrations.
    pub migrations: MigrationsQuery,
}

/// What a snapshot is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportSource {
    /// A data directory whose server was stopped cleanly.
    DataDir(PathBuf),
    /// A dump: plain SQL, or pg_dump's custom, directory or tar format.
    Dump(PathBuf),
}

/// What an import does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It looks at the source.
    Check,
    /// It copies the data directory, or the empty cluster.
    Copy,
    /// It restores the dump.
    Restore,
    /// It reads the applied migrations.
    Migrations,
    /// It freezes and analyses all tables.
    Vacuum,
    /// It stops the server, trims the data and makes it durable.
    Finish,
}

impl Step {
    /// The step in words, for a progress bar.
    pub fn label(self) -> &'static str {
        match self {
            Self::Check => "checking the source",
            Self::Copy => "copying files",
            Self::Restore => "restoring the dump",
            Self::Migrations => "reading migrations",
            Self::Vacuum => "vacuuming",
            Self::Finish => "finishing",
        }
    }
}

/// News of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// A step has begun.
    Step(Step),
    /// How far the step is, in bytes of the source.
    Bytes {
        /// The bytes that are done.
        done: u64,
        /// All bytes of the step, where they are known.
        total: Option<u64>,
    },
    /// Something that whoever asked for the import should know.
    Warning(String),
}

/// Who is told of each snapshot as soon as it is there, whether anybody still waits for its import or not.
pub type Announce = Arc<dyn Fn(SnapshotRecord) -> BoxFuture<'static, ()> + Send + Sync>;

/// Makes snapshots.
#[derive(Clone)]
pub struct Importer {
    host: Arc<dyn PostgresHost>,
    cloner: Arc<TreeCloner>,
    layout: Layout,
    announce: Announce,
    /// The imports that go on, or are being cleaned up.
    jobs: TaskTracker,
    /// Cancelled when the daemon stops.
    stopping: CancellationToken,
}

impl Importer {
    /// Imports under this root, by this host.
    pub fn new(
        host: Arc<dyn PostgresHost>,
        cloner: Arc<TreeCloner>,
        layout: Layout,
        announce: Announce,
    ) -> Self {
        Self {
            host,
            cloner,
            layout,
            announce,
            jobs: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Makes a snapshot. It is complete and durable when this returns.
    ///
    /// When `cancelled` fires, the import stops, removes everything that it made, and then returns
    /// [`ImportError::Cancelled`]. Dropping the future cancels it as well, but the removal then
    /// runs in the background, and the id counts as under way until it is done.
    ///
    /// # Errors
    ///
    /// The id is taken, the source cannot be imported, the import was cancelled or a step failed.
    /// Nothing is left of the import.
    pub async fn import(
        &self,
        request: ImportRequest,
        progress: impl Fn(Progress) + Send,
        cancelled: CancellationToken,
    ) -> Result<SnapshotRecord, ImportError> {
        let (events, mut received) = mpsc::channel(EVENTS_MAX);
        let cancel = self.stopping.child_token();
        let _cancel_on_drop = cancel.clone().drop_guard();
        let job = Job::new(self.clone(), request, events);
        let task = self.jobs.spawn(job.run(cancel.clone()));
        loop {
            tokio::select! {
                event = received.recv() => match event {
                    Some(event) => progress(event),
                    None => break,
                },
                () = cancelled.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
            }
        }
        task.await.unwrap_or_else(|error| Err(error.into()))
    }

    /// Interrupts all imports, and returns when nothing is left of them: neither a server nor a file would
    /// otherwise go before the next start.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.jobs.close();
        if tokio::time::timeout(STOP_PATIENCE, self.jobs.wait())
            .await
            .is_err()
        {
            tracing::error!(
                "an import was not cleaned up after, the next start of multidb does it"
            );
        }
    }
}
