//! A server that does not accept connections yet. It is ended unless its caller keeps it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::BoxFuture;
use multidb_actors::ports::StartError;
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::orphans;
use super::server_file::ServerFile;
use crate::runtime::postmaster::Postmaster;
use crate::runtime::readiness::Readiness;
use crate::runtime::run_dir::{prepare_run_dir, remove_run_dir_logged};
use crate::runtime::{ServerSpec, log_tail, program, settings};

/// Log lines in the error of a failed start.
const LOG_LINES: usize = 10;
/// The limit of an immediate shutdown after an abandoned start.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The parameters of a start.
pub(super) struct Launch {
    /// The program.
    pub(super) server: PathBuf,
    /// The server.
    pub(super) spec: ServerSpec,
    /// The configuration's settings.
    pub(super) settings: Vec<(String, String)>,
    /// The directory of its socket.
    pub(super) run_dir: PathBuf,
    /// The user and group that it runs as.
    pub(super) owner: (u32, u32),
    /// The tokio runtime of the clean-up: a caller's own may end before that.
    pub(super) tasks: Handle,
}

/// A started server. Dropping it ends the server and removes its run directory.
pub(super) struct Starting {
    launch: Launch,
    child: Option<Child>,
    readiness: Readiness,
    /// The offset in the log at which this start begins.
    log_start: u64,
    /// Held until the server is kept or gone, so that the next start finds nothing of it.
    lock: Option<OwnedMutexGuard<()>>,
}

impl Launch {
    /// Starts the server's process. Blocks for a few milliseconds.
    pub(super) fn spawn(self, lock: OwnedMutexGuard<()>) -> io::Result<Starting> {
        let mut starting = Starting {
            readiness: Readiness::watch(&self.spec.data_dir, &self.run_dir),
            launch: self,
            child: None,
            log_start: 0,
            lock: Some(lock),
        };
        let Launch { spec, run_dir, .. } = &starting.launch;
        prepare_run_dir(run_dir, starting.launch.owner)?;
        settings::write_files(run_dir, spec, &starting.launch.settings)?;
        let file = ServerFile {
            purpose: spec.purpose,
            data_dir: spec.data_dir.clone(),
        };
        file.write(run_dir)?;
        let (log, log_start) = log_tail::open(&spec.log)?;
        starting.log_start = log_start;
        let mut command = Command::new(&starting.launch.server);
        command
            .args(settings::arguments(&spec.data_dir, run_dir))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the daemon must not reach it.
            .process_group(0);
        program::set_identity(&mut command, starting.launch.owner);
        starting.child = Some(command.spawn()?);
        Ok(starting)
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
            status = wait(&mut self.child) => status,
            () = self.readiness.ready() => return Ok(()),
        };
        self.child = None;
        let log = log_tail::last_lines(&self.launch.spec.log, self.log_start, LOG_LINES);
        Err(StartError::Exited {
            status,
            log: log.unwrap_or_default(),
        })
    }

    /// Leaves it running. The future resolves with its exit status.
    pub(super) fn keep(mut self) -> BoxFuture<'static, String> {
        let mut child = self.child.take();
        self.lock = None;
        Box::pin(async move { wait(&mut child).await })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else {
            return;
        };
        let run_dir = std::mem::take(&mut self.launch.run_dir);
        let Some(mut child) = self.child.take() else {
            remove_run_dir_logged(&run_dir);
            return;
        };
        // An immediate shutdown ends the server's children too. It had no client, so nothing is lost.
        if let Some(Ok(postmaster)) = child.id().map(Postmaster::of_child) {
            postmaster.signal(Signal::QUIT);
        }
        let data_dir = std::mem::take(&mut self.launch.spec.data_dir);
        self.launch.tasks.spawn(async move {
            let _lock = lock;
            let exited = tokio::time::timeout(END_TIMEOUT, child.wait()).await;
            if exited.is_err()
                && let Err(error) = child.kill().await
            {
                tracing::error!(%error, "postgres does not end after an abandoned start");
            }
            if let Err(error) = orphans::end(&data_dir).await {
                tracing::error!(%error, "postgres left processes after an abandoned start");
            }
            remove_run_dir_logged(&run_dir);
        });
    }
}

/// Resolves with the exit status.
async fn wait(child: &mut Option<Child>) -> String {
    match child {
        Some(child) => child.wait().await.map_or_else(|e| e.to_string(), describe),
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
