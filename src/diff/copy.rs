//! A server on a throw-away copy of a snapshot's data, which itself is never served.
//!
//! The copy is a staging directory as an import's, so that the next start removes the leftovers of a daemon that died.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::ports::{CloneError, SuperuserAccess};
use multidb_store::{InstanceRecord, InstanceUid, Layout, error_chain};

use super::DiffError;
use crate::clone::TreeCloner;
use crate::fsutil::directory;
use crate::runtime::{PostgresHost, Purpose, ServerSpec};

/// Lets the user of the server pass through to the data.
const MODE: u32 = 0o711;
/// The time for a fast shutdown.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Nothing of it is kept, nothing acts by itself, and a base is a copy of a running server's data.
const SETTINGS: [(&str, &str); 8] = [
    ("fsync", "off"),
    ("autovacuum", "off"),
    ("archive_mode", "off"),
    ("hot_standby", "off"),
    ("max_wal_senders", "0"),
    ("max_logical_replication_workers", "0"),
    ("restart_after_crash", "off"),
    ("cron.launch_active_jobs", "off"),
];

/// A copy of a snapshot's data. Its maker removes it.
pub struct Copy {
    host: Arc<dyn PostgresHost>,
    cloner: Arc<TreeCloner>,
    uid: InstanceUid,
    path: PathBuf,
    /// The snapshot or base that it is a copy of, for people.
    of: String,
}

impl Copy {
    /// A copy that is not made yet.
    pub fn new(
        host: Arc<dyn PostgresHost>,
        cloner: Arc<TreeCloner>,
        layout: &Layout,
        of: String,
    ) -> Self {
        let uid = InstanceUid::from_bits(rand::random());
        let path = layout.snapshots().join(format!(".staging-diff-{uid}"));
        Self {
            host,
            cloner,
            uid,
            path,
            of,
        }
    }

    /// Makes the copy of this data, which an instance with this record was cloned from, and starts a server on it.
    ///
    /// # Errors
    ///
    /// There is no space, or the server does not start.
    pub async fn serve(
        &self,
        data: PathBuf,
        record: &InstanceRecord,
    ) -> Result<SuperuserAccess, DiffError> {
        let (cloner, path) = (self.cloner.clone(), self.path.clone());
        let made = tokio::task::spawn_blocking(move || {
            cloner.check_reserve(0)?;
            directory::create_new(&path, MODE).map_err(|error| CloneError::Failed {
                message: format!("cannot create {}: {error}", path.display()),
            })?;
            cloner.clone_tree(&data, &path.join("data")).map(drop)
        });
        made.await.unwrap_or_else(|error| {
            Err(CloneError::Failed {
                message: error.to_string(),
            })
        })?;
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let spec = ServerSpec {
            uid: self.uid,
            name: format!("diff-{}", self.uid),
            purpose: Purpose::Import,
            postgres_major: record.postgres_major,
            data_dir: self.path.join("data"),
            log: self.path.join("postgres.log"),
            settings: SETTINGS.into_iter().map(own).collect(),
        };
        let started = self.host.start_server(&spec).await;
        let running = started.map_err(|source| DiffError::Start {
            of: self.of.clone(),
            source,
        })?;
        let (exited, uid) = (running.exited, self.uid);
        tokio::spawn(async move {
            let status = exited.await;
            tracing::debug!(%uid, status, "the server of a copy ended");
        });
        Ok(SuperuserAccess::new(running.endpoint, record))
    }

    /// Stops the server and removes the copy, as far as they are there. The next start removes the leftovers.
    pub async fn remove(self) {
        if let Err(error) = self.host.stop_server(self.uid, STOP_TIMEOUT).await {
            tracing::error!(error = error_chain(&error), uid = %self.uid, "cannot stop the server of a copy");
            return;
        }
        let path = self.path;
        let removed = tokio::task::spawn_blocking(move || {
            // Trusted path: only multidb can write the directory of the snapshots.
            match path.try_exists() {
                Ok(false) => Ok(()),
                _ => self.cloner.remove_tree(&path),
            }
        });
        if let Ok(Err(error)) = removed.await {
            tracing::error!(
                error = error_chain(&error),
                "cannot remove a copy, the next start of multidb tries again"
            );
        }
    }
}
