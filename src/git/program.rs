//! Runs of the system's git: without prompts, and with a timeout that includes its child processes.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::Instant;

use crate::config::without_secret;
use crate::process_group::ProcessGroup;

/// The part of git's messages that is kept: their end, which has the error.
const MESSAGE_BYTES_MAX: usize = 2000;
/// The most bytes that are read of git's output. A million references take less.
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
    /// The time for the whole run; with `progress`, until it makes any.
    pub(super) timeout: Duration,
    /// Set for a run that may take any time while it makes progress.
    pub(super) progress: Option<&'a Progress>,
}

/// The longest silence of a run that makes progress. git says every second how far it is.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The progress of a run that may take any time.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last time that it said how far it is; `None` before, and while there is no such run.
    last: Mutex<Option<Instant>>,
}

impl Progress {
    /// Whether there is a run that makes progress.
    pub(super) fn is_made(&self) -> bool {
        self.last().is_some()
    }

    fn last(&self) -> Option<Instant> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, last: Option<Instant>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// Waits for the run while it makes progress. `None` if it makes none within `first`, or no more.
    async fn watch<T>(&self, first: Duration, run: impl Future<Output = T>) -> Option<T> {
        let mut run = pin!(run);
        let silence = first.max(SILENCE_MAX);
        let mut deadline = Instant::now() + first;
        let ended = loop {
            if let Ok(ended) = tokio::time::timeout_at(deadline, &mut run).await {
                break Some(ended);
            }
            match self.last().map(|last| last + silence) {
                Some(later) if later > deadline => deadline = later,
                _ => break None,
            }
        };
        self.set(None);
        ended
    }
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

    /// Runs git and returns its output, [`OUTPUT_BYTES_MAX`] at most.
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
            match self.progress {
                Some(_) => "--progress",
                None => "--quiet",
            },
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
        let ended = match self.progress {
            Some(progress) => {
                progress
                    .watch(self.timeout, group.wait(Some(progress)))
                    .await
            }
            None => {
                let ended = tokio::time::timeout(self.timeout, group.wait(None));
                ended.await.ok()
            }
        };
        let Some(ended) = ended else {
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
            // The version in which a server sends only the objects that are asked for, and any commit
            // that it has.
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

/// The end of a run.
struct Ended {
    status: ExitStatus,
    /// Its output, if that was asked for.
    output: String,
    /// The end of its messages, in one line.
    message: String,
}

impl ProcessGroup<Child> {
    /// Waits for its exit.
    async fn wait(&mut self, progress: Option<&Progress>) -> std::io::Result<Ended> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let output = async {
            match stdout {
                Some(stdout) => read_all(stdout).await,
                None => Ok(String::new()),
            }
        };
        let message = async {
            match stderr {
                Some(stderr) => read_tail(stderr, progress).await,
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
async fn read_tail(
    mut stderr: ChildStderr,
    progress: Option<&Progress>,
) -> std::io::Result<String> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stderr.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        if let Some(progress) = progress {
            progress.set(Some(Instant::now()));
        }
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let excess = kept.len().saturating_sub(MESSAGE_BYTES_MAX);
        kept.drain(..excess);
    }
    let text = String::from_utf8_lossy(&kept);
    // A line of progress is overwritten by the next one, and ends in how far it is.
    let is_progress = |line: &str| line.contains("% (") || line.ends_with(", done.");
    let lines = text.split(['\n', '\r']).map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !is_progress(line));
    Ok(lines.collect::<Vec<_>>().join(" "))
}
