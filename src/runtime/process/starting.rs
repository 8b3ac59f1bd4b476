//! A server that does not accept connections yet. It is ended unless its caller keeps it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::future::BoxFuture;
use multidb_actors::ports::StartError;
use multidb_store::Layout;
use rustix::process::Signal;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::sandbox::{Confinement, Sandbox};
use super::server_file::ServerFile;
use super::spawn::{Lifetime, Process, Spawn};
use super::{forget_logged, log, orphans};
use crate::runtime::binaries::Installation;
use crate::runtime::readiness::Readiness;
use crate::runtime::run_dir::prepare_run_dir;
use crate::runtime::{ProgramNetwork, ServerSpec, log_tail, settings};

/// Log lines in the error of a failed start.
const LOG_LINES: usize = 10;
/// The limit of an immediate shutdown after an abandoned start.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The parameters of a start.
pub(super) struct Launch {
    /// The layout of the root.
    pub(super) layout: Layout,
    /// The programs of its major.
    pub(super) installation: Installation,
    /// The mechanisms that confine the server.
    pub(super) confinement: Confinement,
    /// The server.
    pub(super) spec: ServerSpec,
    /// The configuration's settings.
    pub(super) settings: Vec<(String, String)>,
    /// The user and group that it runs as.
    pub(super) owner: (u32, u32),
    /// The tokio runtime of the clean-up: a caller's own may end before that.
    pub(super) tasks: Handle,
}

/// A started server. Dropping it ends the server and removes its run directory.
pub(super) struct Starting {
    launch: Launch,
    process: Option<Process>,
    readiness: Readiness,
    /// The offset in the log at which this start begins.
    log_start: u64,
    /// Held until the server is kept or gone, so that the next start finds nothing of it.
    lock: Option<OwnedMutexGuard<()>>,
}

impl Launch {
    /// Starts the server's process. Blocks for a few milliseconds.
    pub(super) fn spawn(self, lock: OwnedMutexGuard<()>) -> io::Result<Starting> {
        let run_dir = self.layout.run_dir(self.spec.uid);
        let mut starting = Starting {
            readiness: Readiness::watch(&self.spec.data_dir, &run_dir),
            launch: self,
            process: None,
            log_start: 0,
            lock: Some(lock),
        };
        let launch = &starting.launch;
        let spec = &launch.spec;
        prepare_run_dir(&run_dir, launch.owner)?;
        settings::write_files(&run_dir, spec, &launch.settings)?;
        let (log, log_start) = log_tail::open(&spec.log)?;
        starting.log_start = log_start;
        // The kernel tells a process's directory without links, and so do we.
        let (data_dir, run_dir) = (spec.data_dir.canonicalize()?, run_dir.canonicalize()?);
        let sandbox = Sandbox::new(
            &launch.confinement,
            launch.layout.root(),
            &launch.installation.trees(),
            &[data_dir.clone(), run_dir.clone()],
            &[],
            ProgramNetwork::None,
        )?;
        let mut args = settings::arguments(&data_dir, &run_dir);
        args.push("-c".to_owned());
        args.push(format!(
            "dynamic_shared_memory_type={}",
            shared_memory(launch.confinement)
        ));
        let spawned = Spawn {
            program: &launch.installation.directory.join("postgres"),
            args: &args,
            env: &[],
            stdout: log.try_clone()?.into(),
            stderr: log.into(),
            owner: launch.owner,
            sandbox: &sandbox,
            lifetime: Lifetime::Own,
        }
        .spawn()?;
        let identity = spawned.identity()?;
        // Before it runs, so that no daemon ever misses it.
        ServerFile::new(&launch.layout, spec.purpose, &spec.data_dir, identity)?
            .write(&launch.layout, spec.uid)?;
        starting.process = Some(spawned.release()?);
        Ok(starting)
    }
}

/// Where parallel queries share memory. Not in `/dev/shm`, which all servers would share. Files in the data
/// directory are written to the disk, so System V's are better where the server has a namespace of them.
fn shared_memory(confinement: Confinement) -> &'static str {
    if confinement.has_namespaces() {
        "sysv"
    } else {
        "mmap"
    }
}

impl Starting {
    /// Resolves when it accepts connections.
    ///
    /// # Errors
    ///
    /// It exited instead.
    pub(super) async fn ready(&mut self) -> Result<(), StartError> {
        let status = tokio::select! {
            status = wait(&mut self.process) => status,
            () = self.readiness.ready() => return Ok(()),
        };
        self.process = None;
        let log = log_tail::last_lines(&self.launch.spec.log, self.log_start, LOG_LINES);
        Err(StartError::Exited {
            status,
            log: log.unwrap_or_default(),
            altered: Vec::new(),
        })
    }

    /// Leaves it running. The future resolves with its exit status.
    pub(super) fn keep(mut self) -> BoxFuture<'static, String> {
        let mut process = self.process.take();
        self.lock = None;
        let log = self.launch.spec.log.clone();
        Box::pin(async move { log::bounded(log, wait(&mut process)).await })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else {
            return;
        };
        let (layout, uid) = (self.launch.layout.clone(), self.launch.spec.uid);
        let Some(mut process) = self.process.take() else {
            forget_logged(&layout, uid);
            return;
        };
        // It had no client, so nothing is lost. Its namespace ends with it, with all its children; without
        // one, an immediate shutdown ends them.
        if self.launch.confinement.has_namespaces() {
            process.signal(Signal::KILL);
        } else {
            process.signal(Signal::QUIT);
        }
        let data_dir = std::mem::take(&mut self.launch.spec.data_dir);
        self.launch.tasks.spawn(async move {
            let _lock = lock;
            let exited = tokio::time::timeout(END_TIMEOUT, process.wait()).await;
            if exited.is_err() {
                process.kill_group();
                if let Err(error) = process.wait().await {
                    tracing::error!(%error, "postgres does not end after an abandoned start");
                }
            }
            if let Err(error) = orphans::end(&data_dir).await {
                tracing::error!(%error, "postgres left processes after an abandoned start");
            }
            forget_logged(&layout, uid);
        });
    }
}

/// Resolves with the exit status.
async fn wait(process: &mut Option<Process>) -> String {
    match process {
        Some(process) => match process.wait().await {
            Ok(status) => describe(status),
            Err(error) => {
                // It may run on, so it does not count as ended.
                tracing::error!(%error, "cannot watch a postgres");
                std::future::pending().await
            }
        },
        None => std::future::pending().await,
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
