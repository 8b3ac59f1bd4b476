//! Runs of the system's git: without prompts, and with a timeout that includes its child processes.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::config::without_secret;

/// The part of git's messages that is kept: their end, which has the error.
const MESSAGE_BYTES_MAX: usize = 2000;
/// The most that is read of what git prints. A million references take less.
const OUTPUT_BYTES_MAX: u64 = 128 << 20;
/// The start of the error of a run that took too long.
pub(super) const TIMED_OUT: &str = "the remote did not answer within";
/// The time for git to remove its locks and temporary files after SIGTERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(2);
/// Without prompts, and with a timeout for the connection.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=10";
/// Variables that would direct git to another repository, or make it one of another form.
const FOREIGN: [&str; 10] = [
    "GIT_DIR",
    "GIT_SHALLOW_FILE",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
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
    /// The bare repository in which it works, if any.
    pub(super) repository: Option<&'a Path>,
    /// The URL of the remote. Messages are shown without its password.
    pub(super) url: &'a str,
    /// The time for the whole run.
    pub(super) timeout: Duration,
}

impl Run<'_> {
    /// Runs git and waits for its end.
    ///
    /// # Errors
    ///
    /// The reason why it failed, without secrets.
    pub(super) async fn git(&self, arguments: &[&str]) -> Result<(), String> {
        self.run(self.command(arguments)).await.map(drop)
    }

    /// Runs git and returns what it prints, [`OUTPUT_BYTES_MAX`] at most.
    ///
    /// # Errors
    ///
    /// The reason why it failed, without secrets.
    pub(super) async fn output(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped());
        self.run(command).await
    }

    /// Fetches into its repository; also from a shallow clone.
    ///
    /// # Errors
    ///
    /// The reason why it failed, without secrets.
    pub(super) async fn fetch(&self, arguments: &[&str]) -> Result<(), String> {
        let fetch = [
            "fetch",
            "--quiet",
            "--no-write-fetch-head",
            "--update-shallow",
        ];
        self.git(&[&fetch[..], arguments].concat()).await
    }

    async fn run(&self, mut command: Command) -> Result<String, String> {
        let child = command
            .spawn()
            .map_err(|error| format!("cannot run git: {error}"))?;
        let mut group = ProcessGroup(child);
        let ended = tokio::time::timeout(self.timeout, group.wait()).await;
        let Ok(ended) = ended else {
            group.terminate().await;
            let limit = humantime::format_duration(self.timeout);
            return Err(format!("{TIMED_OUT} {limit}"));
        };
        let ended = ended.map_err(|error| error.to_string())?;
        if ended.status.success() {
            return Ok(ended.output);
        }
        let message = ended.message.replace(self.url, &without_secret(self.url));
        Err(format!("git failed with {}: {message}", ended.status))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            // A power cut could leave empty objects, into which git can never fetch again.
            .args(["-c", "core.fsync=all"])
            .args(["-c", "protocol.ext.allow=never"])
            // The version in which a server sends only what is asked for, and any commit that it has.
            .args(["-c", "protocol.version=2"])
            .args(["-c", "init.defaultRefFormat=files"])
            // Hooks of the user's configuration are none of a mirror's.
            .args(["-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            // The messages are parsed.
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
        // A command of the administrator is kept; the timeout applies to it, too.
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", SSH);
        }
        if let Some(repository) = self.repository {
            // Explicit, so that git does not search the parents for a repository.
            command.current_dir(repository).env("GIT_DIR", repository);
        } else {
            command.current_dir("/");
        }
        command
    }
}

/// The process group of git and its child processes. Dropping it kills them.
struct ProcessGroup(Child);

/// The end of a run.
struct Ended {
    status: ExitStatus,
    /// What it printed, if that was asked for.
    output: String,
    /// The end of its messages, in one line.
    message: String,
}

impl ProcessGroup {
    /// Waits for its exit.
    async fn wait(&mut self) -> std::io::Result<Ended> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let output = async {
            match stdout {
                Some(stdout) => read_all(stdout).await,
                None => Ok(String::new()),
            }
        };
        let message = async {
            match stderr {
                Some(stderr) => read_tail(stderr).await,
                None => Ok(String::new()),
            }
        };
        let (output, message) = tokio::try_join!(output, message)?;
        Ok(Ended {
            status: self.0.wait().await?,
            output,
            message,
        })
    }

    /// Sends SIGTERM, so that git removes its locks. The drop kills the rest.
    async fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let _timed_out = tokio::time::timeout(TERM_TIMEOUT, self.0.wait()).await;
    }

    fn signal(&self, signal: Signal) {
        // `id` is `None` once the child is reaped, after which its process id can be reused.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(leader, signal)
        {
            tracing::debug!(%error, "cannot signal git");
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Reads the whole output.
async fn read_all(stdout: ChildStdout) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    stdout
        .take(OUTPUT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .await?;
    if bytes.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "git printed more than {OUTPUT_BYTES_MAX} bytes"
        )));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads messages to their end, and returns the last of them in one line.
async fn read_tail(mut stderr: ChildStderr) -> std::io::Result<String> {
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
