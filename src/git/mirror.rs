//! The bare mirror of a remote repository, fetched into by the system's git.
//!
//! One fetch at a time, which serves everybody who asked before it began; bounded in time, with
//! everything that git started; and without a question to anybody, since nobody is there to
//! answer.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A remote that failed is not asked again so soon.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// The most of git's messages that is kept.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
/// Neither side can hang on a connection that is not made.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=10";

/// A mirror.
pub(super) struct Mirror {
    url: String,
    path: PathBuf,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the last fetch that succeeded began.
    fetched: Option<Instant>,
    /// When the last fetch that failed ended, and why it failed.
    failed: Option<(Instant, String)>,
}

impl Mirror {
    pub(super) fn new(url: String, path: PathBuf, timeout: Duration) -> Self {
        Self {
            url,
            path,
            timeout,
            state: Mutex::default(),
        }
    }

    /// Fetches, unless a fetch that began after `since` has succeeded.
    ///
    /// # Errors
    ///
    /// Why the remote could not be fetched, for people.
    pub(super) async fn fetch(&self, since: Instant) -> Result<(), String> {
        let mut state = self.state.lock().await;
        if state.fetched.is_some_and(|fetched| fetched >= since) {
            return Ok(());
        }
        if let Some((at, failure)) = &state.failed
            && at.elapsed() < FAILURE_PAUSE
        {
            return Err(failure.clone());
        }
        let began = Instant::now();
        let arguments = [
            "fetch",
            "--prune",
            "--quiet",
            "--no-write-fetch-head",
            &self.url,
        ];
        match self.git([&arguments[..], &REFSPECS].concat()).await {
            Ok(()) => {
                state.fetched = Some(began);
                state.failed = None;
                Ok(())
            }
            Err(failure) => {
                tracing::warn!(url = self.url, failure, "fetch failed");
                state.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Fetches one commit by its id, which many servers allow.
    ///
    /// # Errors
    ///
    /// Why it was not fetched, for people.
    pub(super) async fn fetch_commit(&self, id: &str) -> Result<(), String> {
        let _one_at_a_time = self.state.lock().await;
        let arguments = ["fetch", "--quiet", "--no-write-fetch-head", &self.url, id];
        self.git(arguments.to_vec()).await
    }

    /// Runs git in the mirror, which is made if it is not there.
    async fn git(&self, arguments: Vec<&str>) -> Result<(), String> {
        let run = async {
            if !self.path.join("HEAD").exists() {
                std::fs::create_dir_all(&self.path).map_err(|error| error.to_string())?;
                self.run(&["init", "--bare", "--quiet", "."]).await?;
            }
            self.run(&arguments).await
        };
        let in_time = tokio::time::timeout(self.timeout, run).await;
        in_time.unwrap_or_else(|_| {
            let limit = humantime::format_duration(self.timeout);
            Err(format!("the remote did not answer within {limit}"))
        })
    }

    async fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let child = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args(["-c", "protocol.ext.allow=never"])
            .args(arguments)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS", "true")
            .env("GIT_SSH_COMMAND", SSH)
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("git cannot be run: {error}"))?;
        let mut group = Group(child);
        let mut message = Vec::new();
        if let Some(stderr) = group.0.stderr.take() {
            let mut stderr = stderr.take(MESSAGE_BYTES_MAX);
            let read = stderr.read_to_end(&mut message).await;
            read.map_err(|error| error.to_string())?;
        }
        let status = group.0.wait().await.map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&message);
        let lines: Vec<&str> = message
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        Err(format!("git: {status}: {}", lines.join(" ")))
    }
}

/// git and everything that it started: killed together when the time is over.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Its number is its own as long as it is not reaped, which `id` tells.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "git was not killed");
        }
    }
}
