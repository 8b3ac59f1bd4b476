//! The `process` runtime: Postgres as local processes.
//!
//! A server is started under its own user and in its own process group, so that a signal to the
//! daemon's group does not reach it. It outlives the daemon: a restarted one finds it again by
//! `run/<uid>/server.json` and `postmaster.pid`.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{Endpoint, FoundPostgres, RunningPostgres, RuntimeError, StartError};
use multidb_store::{InstanceUid, Layout};
use tokio::runtime::Handle;

mod adopt;
mod orphans;
mod server_file;
mod starting;
#[cfg(test)]
pub(crate) mod tests;

use self::server_file::ServerFile;
use self::starting::Launch;
use super::binaries::Binaries;
use super::locks::Locks;
use super::postmaster::Postmaster;
use super::program;
use super::run_dir::remove_run_dir;
use super::settings::SOCKET_NAME;
use super::{PostgresHost, ProgramOutput, ProgramRun, RunningServers, ServerSpec, log_tail};

/// Local processes.
#[derive(Debug)]
pub struct ProcessHost {
    layout: Layout,
    binaries: Binaries,
    owner: (u32, u32),
    /// The configuration's settings of Postgres.
    settings: Vec<(String, String)>,
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
            locks: Locks::default(),
        }
    }

    /// The programs that are installed.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    async fn launch(&self, spec: &ServerSpec) -> Result<Launch, RuntimeError> {
        let directory = self.binaries.directory(spec.postgres_major).await?;
        Ok(Launch {
            server: directory.join("postgres"),
            spec: spec.clone(),
            settings: self.settings.clone(),
            run_dir: self.layout.run_dir(spec.uid),
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
    fn kind(&self) -> &'static str {
        "process"
    }

    fn data_owner(&self) -> (u32, u32) {
        self.owner
    }

    async fn start_server(&self, spec: &ServerSpec) -> Result<RunningPostgres, StartError> {
        let lock = self.locks.lock(spec.uid).await;
        orphans::end(&spec.data_dir).await?;
        let launch = self.launch(spec).await?;
        let server = launch.server.clone();
        let failed = |cause: String| RuntimeError {
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
        let run_dir = self.layout.run_dir(uid);
        let data_dir = match ServerFile::read(&run_dir) {
            Some(file) => file.data_dir,
            None => self.layout.instance_data(uid),
        };
        if let Some(postmaster) = Postmaster::find(&data_dir) {
            adopt::stop(&postmaster, &data_dir, timeout).await?;
        }
        orphans::end(&data_dir).await?;
        remove_run_dir(&run_dir).map_err(|error| RuntimeError {
            message: format!("cannot remove {}: {error}", run_dir.display()),
            hint: None,
        })
    }

    async fn running_servers(&self) -> Result<RunningServers, RuntimeError> {
        // A server that can be neither taken over nor stopped is an error of the whole.
        let found = self.take_over().await?;
        Ok(RunningServers {
            found,
            undecided: Vec::new(),
        })
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
            message: format!("cannot read {}: {error}", log.display()),
            hint: None,
        })
    }

    async fn run_program(&self, run: &ProgramRun) -> Result<ProgramOutput, RuntimeError> {
        let directory = self.binaries.directory(run.postgres_major).await?;
        program::run(&directory, run, self.owner).await
    }

    async fn close(&self) {}
}
