//! Runs a program of Postgres to its end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use multidb_actors::ports::RuntimeError;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;

use super::ProcessHost;
use super::sandbox::Sandbox;
use super::spawn::{Lifetime, Process, Spawn};
use crate::runtime::binaries::Installation;
use crate::runtime::log_tail::Tail;
use crate::runtime::{ProgramOutput, ProgramRun};

/// The most standard output that is kept.
const STDOUT_BYTES_MAX: u64 = 16 << 20;

impl ProcessHost {
    /// Runs a program. When the future is dropped, it is killed together with its descendants.
    pub(super) async fn run(&self, run: &ProgramRun) -> Result<ProgramOutput, RuntimeError> {
        let installation = self.binaries.installation(run.postgres_major).await?;
        let program = installation.directory.join(run.program);
        let failed = |error: io::Error| RuntimeError {
            for_clients: false,
            message: format!("cannot run {}: {error}", program.display()),
            hint: None,
        };
        let (mut running, stdout, stderr) = self
            .start_program(&installation, &program, run)
            .map_err(failed)?;
        let outputs = async { tokio::try_join!(beginning(stdout), tail(stderr)) };
        let ended = async { tokio::try_join!(outputs, running.wait()).map_err(failed) };
        let ((stdout, stderr_tail), status) = run.within(ended).await?;
        Ok(output(status, stdout, stderr_tail))
    }

    fn start_program(
        &self,
        installation: &Installation,
        program: &Path,
        run: &ProgramRun,
    ) -> io::Result<(Running, Receiver, Receiver)> {
        // A dump to read may lie anywhere; multidb makes all that a program writes.
        let is_ours = |path: &&PathBuf| path.starts_with(self.layout.root());
        let (writable, readable): (Vec<_>, Vec<_>) = run.binds.iter().partition(is_ours);
        let own = |paths: Vec<&PathBuf>| paths.into_iter().cloned().collect::<Vec<_>>();
        let sandbox = Sandbox::new(
            &self.confinement,
            self.layout.root(),
            &installation.trees(),
            &own(writable),
            &own(readable),
            run.network,
        )?;
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let spawned = Spawn {
            program,
            args: &run.args,
            env: &run.env,
            stdout: stdout_writer.into(),
            stderr: stderr_writer.into(),
            owner: self.owner,
            sandbox: &sandbox,
            lifetime: Lifetime::OfThread,
        };
        let running = Running(spawned.spawn()?.release()?);
        Ok((
            running,
            Receiver::from_owned_fd(stdout.into())?,
            Receiver::from_owned_fd(stderr.into())?,
        ))
    }
}

pub(super) fn output(
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr_tail: Vec<String>,
) -> ProgramOutput {
    ProgramOutput {
        success: status.success(),
        status: status.to_string(),
        stdout,
        stderr_tail,
    }
}

/// A program and its descendants. Dropping it kills all of them.
pub(super) struct Running(Process);

impl Running {
    pub(super) fn new(process: Process) -> Self {
        Self(process)
    }

    /// Resolves with its exit status when it has ended.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill_group();
    }
}

/// The beginning of a stream. The rest is read and discarded.
async fn beginning(mut stream: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    (&mut stream)
        .take(STDOUT_BYTES_MAX)
        .read_to_end(&mut kept)
        .await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// The last lines of a stream.
pub(super) async fn tail(mut stream: impl AsyncRead + Unpin) -> io::Result<Vec<String>> {
    let mut tail = Tail::default();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece).await? {
            0 => break,
            length => tail.take(piece.get(..length).unwrap_or_default()),
        }
    }
    Ok(tail.finish())
}
