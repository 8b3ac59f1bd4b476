//! Makes snapshots from stopped data directories, from dumps and from running servers.
//!
//! | module | owns |
//! | --- | --- |
//! | `workflow` | the order of the steps |
//! | `context` | the resources that the steps share, and the cleanup |
//! | `staging` | the directory in which a snapshot is prepared, and its publication |
//! | `progress` | steps, bytes and warnings, and their way to the caller |
//! | `source` | the data directory, dump or running server: opened, checked, loaded |
//! | `upload` | a dump that a client sends while it is imported |
//! | `dump` | the format, versions and bytes of a dump |
//! | `major` | the choice of the Postgres major for a dump |
//! | `template` | the empty cluster in which restores start |
//! | `restore` | pg_restore, and the run of its script or of a plain dump |
//! | `script` | the parts of a script, and the adaptation of its statements |
//! | `server` | the server of an import |
//! | `cluster` | superuser, databases and their names, migrations and vacuum of the cluster on it |
//! | `prepare` | the preparations, and the rewriting of the changed cluster |
//! | `control`, `tree`, `copy`, `trim` | `pg_controldata`, and the files of data directories |
//! | `program` | the errors of Postgres' programs |
//!
//! An import prepares its snapshot in `snapshots/.staging-<id>`, which is renamed to its final name
//! once everything in it is durable. So a snapshot exists completely or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use multidb_store::{Layout, ProjectName, SnapshotId, SnapshotRecord};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clone::TreeCloner;
use crate::runtime::PostgresHost;

mod cluster;
mod context;
mod control;
mod copy;
mod dump;
mod early_write;
mod error;
mod major;
mod prepare;
mod program;
mod progress;
mod restore;
mod script;
mod server;
mod source;
mod staging;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod trim;
mod upload;
mod workflow;

pub use self::error::ImportError;
pub use self::prepare::{Preparation, PreparationRun};
pub use self::progress::{Progress, Step};
pub use self::restore::{ErrorPolicy, release_programs};
pub use self::script::ScriptError;
pub use self::source::{
    AttachInstance, AttachedInstance, DumpCommand, ImportSource, InstanceFault, LogicalSource,
    SourceInstance, SourceServer, StoppedInstance,
};
pub use self::upload::{Sent, Upload, UploadSender};

use self::context::Context;
use self::progress::ProgressSender;

/// The request for a snapshot.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// Its id, which must be unused.
    pub id: SnapshotId,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// Its source.
    pub source: ImportSource,
    /// When the data was taken from the source database; by default the time that the source has.
    pub taken_at: Option<Timestamp>,
    /// The Postgres major that restores a dump; by default that of its server.
    pub postgres_major: Option<u16>,
    /// The policy for an error of a dump's statement.
    pub errors: ErrorPolicy,
    /// The settings of that project.
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
    /// The encoding of the database, where a dump does not say.
    pub encoding: Option<String>,
    /// The locale of the database, where a dump does not say, or says one that is not available.
    pub locale: Option<String>,
    /// The preparations, in the order in which they run on the data before it becomes a snapshot.
    #[serde(default)]
    pub prepare: Vec<Preparation>,
    /// The databases that get another name, and that name.
    #[serde(default)]
    pub rename_database: BTreeMap<String, String>,
}

impl ProjectImport {
    /// Leaves out the steps that were done before the data was an instance's.
    pub fn of_instance(&mut self, is_prepared: bool) {
        // Its databases have their new names already.
        self.rename_database.clear();
        if is_prepared {
            // Its users have changed the prepared data since.
            self.prepare.clear();
        }
    }

    /// The name that the project's database has at its source.
    fn source_database(&self) -> &str {
        let mut renamed = self.rename_database.iter();
        let found = renamed.find(|(_, new)| **new == self.database);
        found.map_or(&self.database, |(old, _)| old)
    }
}

/// A query for the applied migrations: one column of text, a row for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationsQuery {
    /// The query.
    pub sql: String,
    /// The database in which it runs; by default the project's.
    pub database: Option<String>,
}

/// Announces each snapshot once it is published, even if the import's caller has gone.
pub type Announce = Arc<dyn Fn(SnapshotRecord) -> BoxFuture<'static, ()> + Send + Sync>;

/// Makes snapshots.
#[derive(Clone)]
pub struct Importer {
    host: Arc<dyn PostgresHost>,
    cloner: Arc<TreeCloner>,
    layout: Layout,
    announce: Announce,
}

impl Importer {
    /// An importer that stores snapshots under the root of `layout` and runs Postgres on `host`.
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
        let (sender, mut events) = ProgressSender::channel();
        let cancel = CancellationToken::new();
        let _cancel_on_drop = cancel.clone().drop_guard();
        let context = Context::new(self.clone(), request, sender);
        let task = tokio::spawn(workflow::run(context, cancel.clone()));
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => progress(event),
                    None => break,
                },
                () = cancelled.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
            }
        }
        task.await.unwrap_or_else(|error| Err(error.into()))
    }

    /// The applied migrations of a source, of which nothing is kept. Ends early where the future is dropped.
    ///
    /// # Errors
    ///
    /// The source cannot be imported, or a step failed.
    pub async fn migrations_of(&self, request: ImportRequest) -> Result<Vec<String>, ImportError> {
        // No client follows its progress.
        let (sender, _) = ProgressSender::channel();
        let cancel = CancellationToken::new();
        let _cancel_on_drop = cancel.clone().drop_guard();
        let context = Context::new(self.clone(), request, sender);
        let task = tokio::spawn(workflow::migrations_of(context, cancel.clone()));
        task.await.unwrap_or_else(|error| Err(error.into()))
    }
}
