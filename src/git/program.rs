//! Runs the system's git: bounded in time with everything that it starts, and without a question
//! to anybody, since nobody is there to answer.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};

use crate::config::without_secret;

/// The most of git's messages that is kept: their end, which says what went wrong.
const MESSAGE_BYTES_MAX: usize = 2000;
/// What git gets to remove its locks and temporary files after it was told to end.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// No questions, and no waiting for a connection that is not made.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=10";
/// Variables that would lead git into another repository than the one that is meant.
const FOREIGN: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
];

/// One run of git.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    /// The bare repository that it works in; none where it needs none.
    pub(super) repository: Option<&'a Path>,
    /// The remote that it talks to: what it says is shown without this one's password.
    pub(super) url: &'a str,
    /// How long it may take.
    pub(super) timeout: Duration,
}

impl Run<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// Why it failed, for people and without secrets.
    pub(super) async fn git(&self, arguments: &[&str]) -> Result<(), String> {
        let child = self
            .command(arguments)
            .spawn()
            .map_err(|error| format!("the program git cannot be run: {error}"))?;
        let mut group = Group(child);
        let ended = tokio::time::timeout(self.timeout, group.ended()).await;
        let Ok(ended) = ended else {
            group.terminate().await;
            let limit = humantime::format_duration(self.timeout);
            return Err(format!("the remote did not answer within {limit}"));
        };
        let (status, message) = ended.map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        let message = message.replace(self.url, &without_secret(self.url));
        Err(format!("git ended with {status}: {message}"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            // A mirror that a power cut leaves with empty objects could never be fetched into.
            .args(["-c", "core.fsync=all"])
            .args(["-c", "protocol.ext.allow=never"])
            .args(arguments)
            // The messages are looked at.
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS", "true")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        for name in FOREIGN {
            command.env_remove(name);
        }
        // Who set one needs it; the time is bounded all the same.
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", SSH);
        }
        if let Some(repository) = self.repository {
            // Not found by searching, which could find a repository around it.
            command.current_dir(repository).env("GIT_DIR", repository);
        } else {
            command.current_dir("/");
        }
        command
    }
}

/// git and everything that it started.
struct Group(Child);

impl Group {
    /// Waits for its end, and gives the end of what it said.
    async fn ended(&mut self) -> std::io::Result<(ExitStatus, String)> {
        let mut message = String::new();
        if let Some(stderr) = self.0.stderr.take() {
            message = last_words(stderr).await?;
        }
        Ok((self.0.wait().await?, message))
    }

    /// Asks it to end, so that it leaves no locks behind; what is left is killed with this.
    async fn terminate(&mut self) {
        self.signal(Signal::TERM);
        // Whether it ended in time or not: the rest is killed.
        let _ended = tokio::time::timeout(END_PATIENCE, self.0.wait()).await;
    }

    fn signal(&self, signal: Signal) {
        // Its number is its own as long as it is not reaped, which `id` tells.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(leader, signal)
        {
            tracing::debug!(%error, "git was not signalled");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The end of what it says, in one line.
async fn last_words(mut stderr: ChildStderr) -> std::io::Result<String> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stderr.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let excess = kept.len().saturating_sub(MESSAGE_BYTES_MAX);
        kept.drain(..excess);
    }
    let text = String::from_utf8_lossy(&kept);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.collect::<Vec<_>>().join(" "))
}
