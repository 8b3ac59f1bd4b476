//! Finds the servers that an earlier daemon left running.
//!
//! Each is found by the daemon's file about it. A server without a socket cannot be reached, a server that does not
//! accept connections never had a client, and a server that an earlier version of multidb started runs without a
//! sandbox. All of these are stopped.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multidb_actors::ports::{FoundPostgres, RunningPostgres, RuntimeError};
use multidb_store::InstanceUid;

use super::server_file::ServerFile;
use super::{ProcessHost, forget_logged, log, orphans};
use crate::runtime::postmaster::Postmaster;
use crate::runtime::readiness::Readiness;
use crate::runtime::{Purpose, RunningServers, UndecidedServer, server_processes};

/// The limit for a starting server to accept connections.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit of a fast shutdown of a server that accepts no connections.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

impl ProcessHost {
    /// Takes over the servers that accept connections, and stops and removes the others. One of which that cannot be
    /// done is undecided, which concerns no other.
    pub(super) async fn take_over(&self) -> Result<RunningServers, RuntimeError> {
        let mut servers = RunningServers::default();
        for uid in self.known()? {
            if self.locks.is_locked(uid) {
                // This daemon is starting or stopping it.
                continue;
            }
            let _lock = self.locks.lock(uid).await;
            // A file that cannot be read is the error of the next step.
            let file = ServerFile::read(&self.layout, uid).ok().flatten();
            let purpose = file.as_ref().map_or(Purpose::Instance, |file| file.purpose);
            let data_dir = match file {
                Some(file) => file.data_dir(&self.layout),
                None => self.layout.instance_data(uid),
            };
            match self.take_over_one(uid).await {
                Ok(None) => {}
                Ok(Some(found)) => {
                    if purpose == Purpose::Import {
                        servers.import_data.insert(uid, data_dir);
                    }
                    servers.found.push((purpose, found));
                }
                Err(error) => servers
                    .undecided
                    .push(undecided(uid, purpose, data_dir, &error)),
            }
        }
        servers.undecided.extend(self.stop_unreachable().await?);
        Ok(servers)
    }

    /// Takes over the server of one instance, or makes sure that none runs on its data.
    pub(super) async fn find(
        &self,
        uid: InstanceUid,
    ) -> Result<Option<FoundPostgres>, RuntimeError> {
        let _lock = self.locks.lock(uid).await;
        let found = self.take_over_one(uid).await?;
        if found.is_none() {
            self.stop_found(uid, STOP_TIMEOUT).await?;
        }
        Ok(found)
    }

    /// Stops the server of one instance or import, regardless of the daemon that started it.
    pub(super) async fn stop_found(
        &self,
        uid: InstanceUid,
        timeout: Duration,
    ) -> Result<(), RuntimeError> {
        let file = ServerFile::read(&self.layout, uid)?;
        let data_dir = match &file {
            Some(file) => file.data_dir(&self.layout),
            None => self.layout.instance_data(uid),
        };
        let known = file.and_then(|file| file.postmaster());
        let found = match known.or_else(|| Postmaster::find(&data_dir)) {
            Some(postmaster) => Some(postmaster),
            // Its superuser can remove postmaster.pid.
            None => orphans::postmaster(&data_dir).await?,
        };
        if let Some(postmaster) = found {
            stop(&postmaster, &data_dir, timeout).await?;
        }
        orphans::end(&data_dir).await
    }

    async fn take_over_one(&self, uid: InstanceUid) -> Result<Option<FoundPostgres>, RuntimeError> {
        let Some(file) = ServerFile::read(&self.layout, uid)? else {
            // Its start was interrupted, an earlier version started it, or it belongs to a container.
            if !server_processes::any(&self.layout.instance_data(uid)) {
                forget_logged(&self.layout, uid);
            }
            return Ok(None);
        };
        let data_dir = file.data_dir(&self.layout);
        let Some(postmaster) = file.postmaster() else {
            orphans::end(&data_dir).await?;
            forget_logged(&self.layout, uid);
            return Ok(None);
        };
        let run_dir = self.layout.run_dir(uid);
        let readiness = Readiness::of_running(&data_dir, &run_dir);
        let exists = run_dir.try_exists().map_err(|error| RuntimeError {
            for_clients: false,
            message: format!("cannot read {}: {error}", run_dir.display()),
            hint: None,
        })?;
        let ready = exists
            && tokio::select! {
                ready = tokio::time::timeout(READY_TIMEOUT, readiness.ready()) => ready.is_ok(),
                _ = postmaster.exited() => false,
            };
        if !ready {
            tracing::info!(%uid, "stopping a postgres that accepts no connections");
            stop(&postmaster, &data_dir, STOP_TIMEOUT).await?;
            orphans::end(&data_dir).await?;
            forget_logged(&self.layout, uid);
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
        let log = match file.purpose {
            Purpose::Instance => self.layout.instance_log(uid),
            Purpose::Import => data_dir.with_file_name("postgres.log"),
        };
        let postgres = RunningPostgres {
            endpoint: self.endpoint(uid),
            exited: Box::pin(log::bounded(log, exited)),
        };
        Ok(Some(FoundPostgres { uid, postgres }))
    }

    /// Stops the servers of which the daemon has no file. Returns the instances' that it cannot stop; the data of an
    /// import is looked at again before it is removed.
    async fn stop_unreachable(&self) -> Result<Vec<UndecidedServer>, RuntimeError> {
        let mut unstopped = Vec::new();
        let data_dir = |uid| match ServerFile::read(&self.layout, uid) {
            Ok(file) => file.map(|file| file.data_dir(&self.layout)),
            // It may be there.
            Err(_) => Some(self.layout.instance_data(uid)),
        };
        let running: Vec<PathBuf> = self.known()?.into_iter().filter_map(data_dir).collect();
        for parent in [self.layout.instances(), self.layout.snapshots()] {
            for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
                let data_dir = entry.path().join("data");
                if running.contains(&data_dir) {
                    continue;
                }
                if let Some(postmaster) = Postmaster::find(&data_dir) {
                    tracing::info!(
                        path = %data_dir.display(),
                        "stopping a postgres that this version of multidb did not start"
                    );
                    let stopped = stop(&postmaster, &data_dir, STOP_TIMEOUT).await;
                    let uid = entry
                        .file_name()
                        .to_str()
                        .and_then(|name| name.parse().ok());
                    if let (Err(error), Some(uid)) = (stopped, uid) {
                        let purpose = Purpose::Instance;
                        unstopped.push(undecided(uid, purpose, data_dir, &error));
                    }
                }
            }
        }
        Ok(unstopped)
    }

    /// The uids of which there is a file or a run directory.
    fn known(&self) -> Result<BTreeSet<InstanceUid>, RuntimeError> {
        let run = self.layout.run();
        let listed = |directory: PathBuf, error| RuntimeError {
            for_clients: false,
            message: format!("cannot list {}: {error}", directory.display()),
            hint: None,
        };
        let entries = fs::read_dir(&run).map_err(|error| listed(run, error))?;
        let uid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut uids: BTreeSet<InstanceUid> = entries.flatten().filter_map(uid).collect();
        let files = ServerFile::uids(&self.layout);
        uids.extend(files.map_err(|error| listed(self.layout.servers(), error))?);
        Ok(uids)
    }
}

fn undecided(
    uid: InstanceUid,
    purpose: Purpose,
    data_dir: PathBuf,
    error: &RuntimeError,
) -> UndecidedServer {
    tracing::warn!(
        %uid,
        error = error.message,
        "a server can be neither taken over nor stopped, it is looked at again"
    );
    UndecidedServer {
        uid,
        purpose,
        data_dir,
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
        for_clients: false,
        message: format!("postgres on {} does not stop: {error}", data_dir.display()),
        hint: Some("Look at it with ps, and end it by hand.".to_owned()),
    })
}
