//! The resources that the steps of one import share.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use multidb_store::InstanceUid;
use tokio_util::task::TaskTracker;

use super::copy::{CopyState, Transfer, copy_data, copy_parts, make_dir};
use super::error::{ImportError, tree_error};
use super::progress::ProgressSender;
use super::server::{ImportServer, ServerFiles};
use super::source::Part;
use super::staging::Staging;
use super::{ImportRequest, Importer};
use crate::fsutil::beneath;
use crate::runtime::{PostgresHost, carried};

/// How often the free space is checked. In that time a disk writes less than the default reserve.
const RESERVE_INTERVAL: Duration = Duration::from_millis(200);
/// The time for a fast shutdown of the server of a failed import.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The resources of one import.
pub(super) struct Context {
    pub(super) importer: Importer,
    pub(super) request: ImportRequest,
    pub(super) progress: ProgressSender,
    pub(super) staging: Staging,
    /// The state of all copies of this import.
    pub(super) copy: CopyState,
    /// Identifies the server of the import.
    uid: InstanceUid,
    /// Blocking work, which cannot be dropped and must have ended before the cleanup.
    blocking: TaskTracker,
}

impl Context {
    pub(super) fn new(
        importer: Importer,
        request: ImportRequest,
        progress: ProgressSender,
    ) -> Self {
        Self {
            staging: Staging::new(&importer.layout, &request.id),
            importer,
            request,
            progress,
            copy: CopyState::default(),
            uid: InstanceUid::from_bits(rand::random()),
            blocking: TaskTracker::new(),
        }
    }

    pub(super) fn host(&self) -> &dyn PostgresHost {
        self.importer.host.as_ref()
    }

    /// The path of the source, as requested.
    pub(super) fn source_path(&self) -> &Path {
        self.request.source.path()
    }

    /// Runs blocking work on a thread of its own.
    pub(super) async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
    ) -> Result<T, ImportError> {
        self.blocking.spawn_blocking(work).await?
    }

    /// Creates the empty data directory of the snapshot.
    pub(super) async fn create_data_dir(&self) -> Result<(), ImportError> {
        let (cloner, data) = (self.importer.cloner.clone(), self.staging.data());
        self.run_blocking(move || Ok(cloner.make_data_dir(&data)?))
            .await
    }

    /// Copies a cluster of multidb's own into the data directory of the snapshot.
    pub(super) async fn copy_template(&self, from: PathBuf) -> Result<(), ImportError> {
        let (to, owner) = (self.staging.data(), self.host().data_owner());
        let state = self.copy.clone();
        self.run_blocking(move || copy_data(&from, &to, owner, &state))
            .await
    }

    /// Copies these parts of a data directory into that of the snapshot.
    pub(super) async fn copy_parts(
        &self,
        root: PathBuf,
        parts: Vec<Part>,
        transfer: Transfer,
    ) -> Result<(), ImportError> {
        let (to, owner) = (self.staging.data(), self.host().data_owner());
        let state = self.copy.clone();
        let is_needed = |_: &Path| true;
        self.run_blocking(move || {
            copy_parts(&root, &parts, &to, owner, &state, transfer, &is_needed)
        })
        .await
    }

    /// Copies the needed files of a data directory into a new one.
    pub(super) async fn copy_needed(
        &self,
        root: PathBuf,
        parts: Vec<Part>,
        to: PathBuf,
        is_needed: impl Fn(&Path) -> bool + Send + 'static,
    ) -> Result<(), ImportError> {
        let (state, owner) = (self.copy.of_another(), self.host().data_owner());
        self.run_blocking(move || {
            make_dir(&to, 0o700, owner)?;
            copy_parts(
                &root,
                &parts,
                &to,
                owner,
                &state,
                Transfer::Copy,
                &is_needed,
            )
        })
        .await
    }

    /// Removes a directory of the staging directory.
    pub(super) async fn remove(&self, path: PathBuf) -> Result<(), ImportError> {
        let remove =
            move || beneath::remove(&path).map_err(|error| tree_error(&path, &path, error));
        self.run_blocking(remove).await
    }

    /// Writes the settings that the snapshot carries into its data directory.
    pub(super) async fn write_carried(
        &self,
        carried: Vec<(String, String)>,
    ) -> Result<(), ImportError> {
        let (data_dir, owner) = (self.staging.data(), self.host().data_owner());
        let source = self.source_path().to_owned();
        let write = move || {
            let written = carried::write(&data_dir, &carried, owner);
            written.map_err(|error| tree_error(&source, &data_dir, error))
        };
        self.run_blocking(write).await
    }

    /// Starts the server of the import on the data directory of the snapshot, which has so many prepared
    /// transactions.
    pub(super) async fn start_server(
        &self,
        postgres_major: u16,
        prepared: u32,
    ) -> Result<ImportServer, ImportError> {
        self.start_server_on(self.staging.data(), postgres_major, prepared)
            .await
    }

    /// As [`start_server`](Self::start_server), on another data directory.
    pub(super) async fn start_server_on(
        &self,
        data_dir: PathBuf,
        postgres_major: u16,
        prepared: u32,
    ) -> Result<ImportServer, ImportError> {
        let host = self.importer.host.clone();
        let id = &self.request.id;
        let mut settings = vec![("max_prepared_transactions", prepared.to_string())];
        // The libraries of a dump's extensions may have to be preloaded; a data directory's would act by themselves.
        if self.request.source.is_physical() {
            settings.push(("shared_preload_libraries", String::new()));
        }
        let log = self.staging.path().join("postgres.log");
        let files = ServerFiles { data_dir, log };
        ImportServer::start(host, self.uid, id, postgres_major, files, settings).await
    }

    /// Resolves when the free space is down to the reserve, which is for running instances.
    pub(super) async fn reserve_reached(&self) -> ImportError {
        loop {
            let cloner = self.importer.cloner.clone();
            let checked = tokio::task::spawn_blocking(move || cloner.check_reserve(0)).await;
            if let Ok(Err(error)) = checked {
                return error.into();
            }
            tokio::time::sleep(RESERVE_INTERVAL).await;
        }
    }

    /// Removes everything that a failed import made: its server first, then its files. Errors are
    /// logged; the next start of multidb removes the rest.
    pub(super) async fn clean_up(&self) {
        self.copy.cancelled.store(true, Ordering::Relaxed);
        self.blocking.close();
        self.blocking.wait().await;
        if let Err(error) = self.host().stop_server(self.uid, ABORT_TIMEOUT).await {
            tracing::error!(%error, uid = %self.uid, "cannot stop the server of a failed import");
            return;
        }
        let (cloner, staging) = (self.importer.cloner.clone(), self.staging.clone());
        let removed = tokio::task::spawn_blocking(move || staging.remove(&cloner)).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(
                %error,
                "cannot remove the files of a failed import, the next start of multidb tries again"
            );
        }
    }
}
