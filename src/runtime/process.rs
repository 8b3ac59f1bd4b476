//! The `process` runtime: Postgres as local processes.
//!
//! A server is started under its own user and in its own process group, so that a signal to the
//! daemon's group does not reach it. It outlives the daemon: a restarted one finds it again by
//! `state/servers/<uid>.json`. Servers and programs run in a [`sandbox`], since a superuser of an instance, or the
//! author of a dump, runs code in them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{Endpoint, FoundPostgres, RunningPostgres, RuntimeError, StartError};
use multidb_store::{DiskFault, InstanceUid, Layout, RuntimeKind};
use tokio::runtime::Handle;

mod adopt;
mod command;
mod identity;
mod log;
mod orphans;
mod program;
mod sandbox;
mod server_file;
mod spawn;
mod starting;
#[cfg(test)]
pub(crate) mod tests;

pub use self::command::{CommandEnd, CommandRun, named_files, run_command};
pub(super) use self::identity::boot_id;
pub use self::sandbox::Confinement;

use self::server_file::ServerFile;
use self::starting::Launch;
use super::binaries::Binaries;
use super::extensions;
use super::locks::Locks;
use super::run_dir::remove_run_dir;
use super::settings::SOCKET_NAME;
use super::{
    PostgresHost, ProgramOutput, ProgramRun, RunningServers, ServerSpec, log_tail, postmaster,
    server_processes,
};

/// The kind of the server that has this data directory, by the processes of this machine: a local one, or one in a
/// container.
pub fn server_on(data_dir: &Path) -> Option<RuntimeKind> {
    if !postmaster::has_pid_file(data_dir) {
        return None;
    }
    server_processes::kind(data_dir)
}

/// Local processes.
#[derive(Debug)]
pub struct ProcessHost {
    layout: Layout,
    binaries: Binaries,
    owner: (u32, u32),
    /// The configuration's settings of Postgres.
    settings: Vec<(String, String)>,
    confinement: Confinement,
    locks: Locks,
}

impl ProcessHost {
    /// Servers under this root, as this owner, with these settings.
    pub fn new(layout: Layout, owner: (u32, u32), settings: Vec<(String, String)>) -> Self {
        Self {
            layout,
            binaries: Binaries::search(),
            owner,
            settings,
            confinement: Confinement::probe(),
            locks: Locks::default(),
        }
    }

    /// The mechanisms that confine the servers.
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// The programs that are installed.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    async fn launch(&self, spec: &ServerSpec) -> Result<Launch, RuntimeError> {
        Ok(Launch {
            layout: self.layout.clone(),
            installation: self.binaries.installation(spec.postgres_major).await?,
            confinement: self.confinement,
            spec: spec.clone(),
            settings: self.settings.clone(),
            owner: self.owner,
            tasks: Handle::current(),
        })
    }

    fn endpoint(&self, uid: InstanceUid) -> Endpoint {
        Endpoint::Unix(self.layout.run_dir(uid).join(SOCKET_NAME))
    }
}

#[async_trait]
impl PostgresHost for ProcessHost {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Process
    }

    async fn check(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    fn data_owner(&self) -> (u32, u32) {
        self.owner
    }

    async fn start_server(&self, spec: &ServerSpec) -> Result<RunningPostgres, StartError> {
        let lock = self.locks.lock(spec.uid).await;
        // A server that ran here before was looked for when it ended, so the search is left out of most starts.
        if postmaster::has_pid_file(&spec.data_dir) {
            orphans::end(&spec.data_dir).await?;
            postmaster::remove_empty_pid_file(&spec.data_dir);
        }
        let launch = self.launch(spec).await?;
        let server = launch.installation.directory.join("postgres");
        let failed = |cause: String| RuntimeError {
            for_clients: false,
            message: format!("cannot start {}: {cause}", server.display()),
            hint: None,
        };
        // If the caller has given up, the result is dropped, which ends the server.
        let started = tokio::task::spawn_blocking(move || launch.spawn(lock)).await;
        let mut starting = started
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        starting.ready().await?;
        Ok(RunningPostgres {
            endpoint: self.endpoint(spec.uid),
            exited: starting.keep(),
        })
    }

    async fn stop_server(&self, uid: InstanceUid, timeout: Duration) -> Result<(), RuntimeError> {
        let _lock = self.locks.lock(uid).await;
        self.stop_found(uid, timeout).await?;
        match forget(&self.layout, uid) {
            // It has stopped, and the files harm nothing: the next start replaces them.
            Err(error) if DiskFault::in_text(&error.message).is_some() => {
                tracing::warn!(error = error.message, "the files of a server are left");
                Ok(())
            }
            forgotten => forgotten,
        }
    }

    async fn running_servers(&self) -> Result<RunningServers, RuntimeError> {
        self.take_over().await
    }

    async fn find_server(&self, uid: InstanceUid) -> Result<Option<FoundPostgres>, RuntimeError> {
        self.find(uid).await
    }

    async fn server_logs(
        &self,
        _: InstanceUid,
        log: &Path,
        lines: usize,
    ) -> Result<Vec<String>, RuntimeError> {
        log_tail::last_lines(log, 0, lines).map_err(|error| RuntimeError {
            for_clients: false,
            message: format!("cannot read {}: {error}", log.display()),
            hint: None,
        })
    }

    async fn run_program(&self, run: &ProgramRun) -> Result<ProgramOutput, RuntimeError> {
        self.run(run).await
    }

    async fn extensions(
        &self,
        postgres_major: u16,
    ) -> Result<Option<BTreeSet<String>>, RuntimeError> {
        let programs = self.binaries.installation(postgres_major).await?.directory;
        let found =
            tokio::task::spawn_blocking(move || extensions::of_programs(&programs, postgres_major));
        Ok(found.await.unwrap_or_default())
    }

    async fn close(&self) {}
}

/// Removes the files of a server that has ended.
fn forget(layout: &Layout, uid: InstanceUid) -> Result<(), RuntimeError> {
    let run_dir = layout.run_dir(uid);
    // The daemon's file last: by it the rest is found again.
    let removed = remove_run_dir(&run_dir).and_then(|()| ServerFile::remove(layout, uid));
    removed.map_err(|error| RuntimeError {
        for_clients: false,
        message: format!("cannot remove {}: {error}", run_dir.display()),
        hint: None,
    })
}

/// As [`forget`], with an error in the log.
fn forget_logged(layout: &Layout, uid: InstanceUid) {
    if let Err(error) = forget(layout, uid) {
        tracing::warn!(error = error.message, "the files of a server are left");
    }
}
