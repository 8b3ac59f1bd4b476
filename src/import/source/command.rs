//! A configured command whose standard output is a dump.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use futures_util::{FutureExt, future::BoxFuture};
use nix::unistd::{Uid, User};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::ChildStdout;

use crate::import::error::ImportError;
use crate::process_group::ProcessGroup;
use crate::runtime::log_tail::Tail;

/// The lines of its error output that are shown.
const LINES_MAX: usize = 5;
/// The programs that it finds by name.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct DumpCommand {
    /// The program, and its arguments, which may be secrets.
    pub command: Vec<String>,
    pub(in crate::import) name: PathBuf,
}

impl DumpCommand {
    /// A command whose first word is the program.
    pub fn new(command: Vec<String>) -> Self {
        let program = command.first().cloned().unwrap_or_default();
        Self {
            command,
            name: PathBuf::from(format!("the output of {program}")),
        }
    }

    pub(super) fn name(&self) -> PathBuf {
        self.name.clone()
    }
}

/// Starts it as the user of Postgres, and returns its output and its end. Dropping the latter kills it.
pub(super) fn start(
    source: &DumpCommand,
    owner: (u32, u32),
) -> Result<(ChildStdout, BoxFuture<'static, Result<(), ImportError>>), ImportError> {
    let program = source.command.first().cloned().unwrap_or_default();
    let mut command = Command::new(&program);
    command
        .args(source.command.iter().skip(1))
        .env_clear()
        .envs(environment(owner.0))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if Uid::effective().is_root() {
        command.uid(owner.0).gid(owner.1);
    }
    // SAFETY: the closure makes one system call, and allocates nothing.
    unsafe {
        // After the change of the user, which would undo it: the command does not outlive the daemon.
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let path = Path::new(&program);
    let failed = |source| ImportError::io("run", path, source);
    let child = tokio::process::Command::from(command)
        .spawn()
        .map_err(failed)?;
    let mut group = ProcessGroup(child);
    let closed = || failed(std::io::ErrorKind::BrokenPipe.into());
    let stdout = group.0.stdout.take().ok_or_else(closed)?;
    let stderr = group.0.stderr.take().ok_or_else(closed)?;
    let name = source.name.clone();
    let ended = async move {
        // Of this future, so that its drop kills the command.
        let mut group = group;
        let lines = last_lines(stderr).await;
        // Not before the end of its error output, which descendants may hold open: once the leader is reaped, the group
        // cannot be killed.
        let status = group.0.wait().await;
        let status =
            status.map_err(|source| ImportError::io("wait for", Path::new(&program), source))?;
        if status.success() {
            return Ok(());
        }
        let mut message = format!("it failed with {status}");
        if !lines.is_empty() {
            message = format!("{message}: {}", lines.join("; "));
        }
        Err(ImportError::Source {
            from: name.display().to_string(),
            code: "source_command_failed",
            message,
            hint: "Correct the command of the project's refresh; it runs as the user of Postgres, with an empty \
                   environment but for HOME, PATH and USER."
                .to_owned(),
        })
    };
    Ok((stdout, ended.boxed()))
}

fn environment(uid: u32) -> Vec<(&'static str, String)> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let mut variables = vec![("PATH", PATH.to_owned()), ("LC_ALL", "C.UTF-8".to_owned())];
    if let Some(user) = user {
        variables.push(("HOME", user.dir.display().to_string()));
        variables.push(("USER", user.name));
    }
    variables
}

/// The last lines of its error output.
async fn last_lines(mut stream: impl AsyncRead + Unpin) -> Vec<String> {
    let mut tail = Tail::default();
    let mut piece = vec![0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        tail.take(&piece[..length]);
    }
    let mut lines = tail.finish();
    lines.retain(|line| !line.trim().is_empty());
    lines.split_off(lines.len().saturating_sub(LINES_MAX))
}
