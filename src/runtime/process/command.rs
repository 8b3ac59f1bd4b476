//! Runs a command of the operator's beside a server, with the rights of Postgres' user.
//!
//! It serves both runtimes: the socket of a server in a container is in its run directory too. The command runs in
//! the sandbox of Postgres' programs. Of the root it sees the run directory of that server alone, beyond it the files
//! that all programs see, `/etc`, and the files that its own command line names.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multidb_actors::ports::RuntimeError;
use multidb_store::{InstanceUid, Layout};
use tokio::net::unix::pipe::Receiver;

use super::program::{Running, output, tail};
use super::sandbox::{Confinement, Sandbox};
use super::spawn::{Lifetime, Spawn};
use crate::runtime::settings::PORT;
use crate::runtime::{ProgramNetwork, ProgramOutput};

/// Where the configuration of programs is: of interpreters, clients and certificates. Files that the Postgres user may
/// not read there stay unreadable.
const CONFIGURATION: &str = "/etc";

/// A command to run beside a server.
#[derive(Debug, Clone)]
pub struct CommandRun {
    /// The program, by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// The server.
    pub server: InstanceUid,
    /// The role to log in as.
    pub role: String,
    /// The database.
    pub database: String,
    /// The user and the group that it runs as, if the daemon is root.
    pub owner: (u32, u32),
    /// The time that it has; `None` for no limit.
    pub timeout: Option<Duration>,
}

/// The end of a command.
#[derive(Debug, Clone)]
pub enum CommandEnd {
    /// It ended by itself. Its standard output is not kept.
    Exited(ProgramOutput),
    /// Its time was up, and it was killed.
    TimedOut,
}

/// The files that a command line names: the existing ones, by absolute paths.
pub fn named_files(command: &[String]) -> Vec<PathBuf> {
    let paths = command.iter().map(PathBuf::from);
    paths
        .filter(|path| path.is_absolute() && path.exists())
        .collect()
}

/// Runs it to its end. When the future is dropped, it is killed together with its descendants.
///
/// # Errors
///
/// It cannot be started.
pub async fn run_command(layout: &Layout, run: &CommandRun) -> Result<CommandEnd, RuntimeError> {
    let program = run.command.first().map(String::as_str).unwrap_or_default();
    let failed = |error: io::Error| RuntimeError {
        for_clients: false,
        message: format!("cannot run {program}: {error}"),
        hint: None,
    };
    let probed = tokio::task::spawn_blocking(Confinement::probe).await;
    let confinement = probed.map_err(|error| failed(io::Error::other(error)))?;
    // On this thread, with which it ends.
    let (mut running, stdout, stderr) = start(confinement, layout, run).map_err(failed)?;
    let mut stdout = Receiver::from_owned_fd(stdout.into()).map_err(failed)?;
    let stderr = Receiver::from_owned_fd(stderr.into()).map_err(failed)?;
    let discarded = async { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await };
    let outputs = async { tokio::try_join!(discarded, tail(stderr)) };
    let ended = async { tokio::try_join!(outputs, running.wait()).map_err(failed) };
    let ended = match run.timeout {
        None => ended.await?,
        Some(limit) => match tokio::time::timeout(limit, ended).await {
            Ok(ended) => ended?,
            Err(_) => return Ok(CommandEnd::TimedOut),
        },
    };
    let ((_, stderr_tail), status) = ended;
    Ok(CommandEnd::Exited(output(status, Vec::new(), stderr_tail)))
}

/// Starts it.
fn start(
    confinement: Confinement,
    layout: &Layout,
    run: &CommandRun,
) -> io::Result<(Running, io::PipeReader, io::PipeReader)> {
    let run_dir = layout.run_dir(run.server);
    let root = layout.root();
    let (program, args) = run.command.split_first().ok_or(io::ErrorKind::NotFound)?;
    let mut readable = visible(named_files(args), root);
    readable.push(PathBuf::from(CONFIGURATION));
    let programs = visible(vec![PathBuf::from(program)], root);
    let sandbox = Sandbox::new(
        &confinement,
        root,
        &programs,
        std::slice::from_ref(&run_dir),
        &readable,
        ProgramNetwork::None,
    )?;
    let (stdout, stdout_writer) = io::pipe()?;
    let (stderr, stderr_writer) = io::pipe()?;
    let spawned = Spawn {
        program: Path::new(program),
        args,
        env: &environment(&run_dir, run),
        stdout: stdout_writer.into(),
        stderr: stderr_writer.into(),
        owner: run.owner,
        sandbox: &sandbox,
        lifetime: Lifetime::OfThread,
    };
    Ok((Running::new(spawned.spawn()?.release()?), stdout, stderr))
}

/// The files, and the targets of their links, without paths that hold the root or a part of it, with the data of
/// others.
fn visible(files: Vec<PathBuf>, root: &Path) -> Vec<PathBuf> {
    let targets: Vec<PathBuf> = files
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    let all = files.into_iter().chain(targets);
    all.filter(|path| !root.starts_with(path) && !path.starts_with(root))
        .collect()
}

/// The variables that libpq, and so every client of Postgres, reads.
fn environment(run_dir: &Path, run: &CommandRun) -> Vec<(String, String)> {
    let host: &OsStr = run_dir.as_os_str();
    [
        ("PGHOST", host.to_string_lossy().into_owned()),
        ("PGPORT", PORT.to_string()),
        ("PGUSER", run.role.clone()),
        ("PGDATABASE", run.database.clone()),
        ("PGAPPNAME", "multidb preparation".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
