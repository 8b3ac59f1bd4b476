//! Finds the servers that an earlier daemon left running.
//!
//! Each is found by its run directory. A server that lost it has no socket and cannot be reached; a
//! server that does not accept connections never had a client. Both are stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multidb_actors::ports::{FoundPostgres, RunningPostgres, RuntimeError};
use multidb_store::InstanceUid;

use super::ProcessHost;
use super::orphans;
use super::server_file::ServerFile;
use crate::runtime::Purpose;
use crate::runtime::postmaster::Postmaster;
use crate::runtime::readiness::Readiness;
use crate::runtime::run_dir::remove_run_dir_logged;

/// The limit for a starting server to accept connections.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit of a fast shutdown of a server that accepts no connections.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

impl ProcessHost {
    /// Takes over the servers that accept connections, and stops and removes the others.
    pub(super) async fn take_over(&self) -> Result<Vec<(Purpose, FoundPostgres)>, RuntimeError> {
        let mut found = Vec::new();
        for (uid, run_dir) in self.run_dirs()? {
            if self.locks.is_locked(uid) {
                // This daemon is starting or stopping it.
                continue;
            }
            let _lock = self.locks.lock(uid).await;
            found.extend(self.take_over_one(uid, &run_dir).await?);
        }
        self.stop_unreachable().await?;
        Ok(found)
    }

    /// Takes over the server of one instance, or makes sure that none runs on its data.
    pub(super) async fn find(
        &self,
        uid: InstanceUid,
    ) -> Result<Option<FoundPostgres>, RuntimeError> {
        let _lock = self.locks.lock(uid).await;
        let found = self
            .take_over_one(uid, &self.layout.run_dir(uid))
            .await?
            .map(|(_, found)| found);
        if found.is_none() {
            // A server whose run directory is gone is known by its data alone.
            let data_dir = self.layout.instance_data(uid);
            if let Some(postmaster) = Postmaster::find(&data_dir) {
                stop(&postmaster, &data_dir, STOP_TIMEOUT).await?;
            }
            orphans::end(&data_dir).await?;
        }
        Ok(found)
    }

    async fn take_over_one(
        &self,
        uid: InstanceUid,
        run_dir: &Path,
    ) -> Result<Option<(Purpose, FoundPostgres)>, RuntimeError> {
        let Some(file) = ServerFile::read(run_dir) else {
            // Its start was interrupted, or it belongs to a container.
            if !orphans::any(&self.layout.instance_data(uid)) {
                remove_run_dir_logged(run_dir);
            }
            return Ok(None);
        };
        let Some(postmaster) = Postmaster::find(&file.data_dir) else {
            remove_run_dir_logged(run_dir);
            return Ok(None);
        };
        let readiness = Readiness::of_running(&file.data_dir, run_dir);
        let ready = tokio::select! {
            ready = tokio::time::timeout(READY_TIMEOUT, readiness.ready()) => ready.is_ok(),
            _ = postmaster.exited() => false,
        };
        if !ready {
            tracing::info!(%uid, "stopping a postgres that accepts no connections");
            stop(&postmaster, &file.data_dir, STOP_TIMEOUT).await?;
            remove_run_dir_logged(run_dir);
            return Ok(None);
        }
        let exited = async move {
            match postmaster.exited().await {
                Ok(()) => "exit status unknown".to_owned(),
                Err(error) => {
                    tracing::error!(%error, "cannot watch a postgres that was taken over");
                    std::future::pending().await
                }
            }
        };
        let postgres = RunningPostgres {
            endpoint: self.endpoint(uid),
            exited: Box::pin(exited),
        };
        Ok(Some((file.purpose, FoundPostgres { uid, postgres })))
    }

    /// Stops the servers without a run directory.
    async fn stop_unreachable(&self) -> Result<(), RuntimeError> {
        let running: Vec<PathBuf> = self
            .run_dirs()?
            .into_iter()
            .filter_map(|(_, run_dir)| Some(ServerFile::read(&run_dir)?.data_dir))
            .collect();
        for parent in [self.layout.instances(), self.layout.snapshots()] {
            for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
                let data_dir = entry.path().join("data");
                if running.contains(&data_dir) {
                    continue;
                }
                if let Some(postmaster) = Postmaster::find(&data_dir) {
                    tracing::warn!(
                        path = %data_dir.display(),
                        "stopping a postgres whose run directory is gone"
                    );
                    stop(&postmaster, &data_dir, STOP_TIMEOUT).await?;
                }
            }
        }
        Ok(())
    }

    /// All run directories.
    fn run_dirs(&self) -> Result<Vec<(InstanceUid, PathBuf)>, RuntimeError> {
        let run = self.layout.run();
        let entries = fs::read_dir(&run).map_err(|error| RuntimeError {
            message: format!("cannot list {}: {error}", run.display()),
            hint: None,
        })?;
        let uid = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let entries = entries.flatten();
        Ok(entries
            .filter_map(|entry| Some((uid(&entry)?, entry.path())))
            .collect())
    }
}

/// Stops a server; the error names its data directory.
pub(super) async fn stop(
    postmaster: &Postmaster,
    data_dir: &Path,
    timeout: Duration,
) -> Result<(), RuntimeError> {
    let stopped = postmaster.stop(timeout).await;
    stopped.map_err(|error| RuntimeError {
        message: format!("postgres on {} does not stop: {error}", data_dir.display()),
        hint: Some("Look at it with ps, and end it by hand.".to_owned()),
    })
}
