//! The bare mirror of a remote repository, into which the system's git fetches.
//!
//! There is one fetch at a time, which serves all requests from before it began. It is a task of its
//! own: a client that disconnects neither ends the fetch for others nor hides that a remote hangs.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::program::Run;
use crate::config::without_secret;

/// The delay before a failed fetch, or that of a missing commit, is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// The missing commits that are remembered. Further ones are fetched each time.
const MISSING_MAX: usize = 1000;
/// A lock is stale when it is older than this many fetch timeouts, and than the minimum below.
const STALE_FETCHES: u32 = 2;
const STALE_LOCK_AGE_MIN: Duration = Duration::from_secs(60);
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// The mirror of one repository.
pub(super) struct Mirror {
    url: String,
    path: PathBuf,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The start of the last successful fetch.
    fetched: Option<Instant>,
    /// The last failed fetch, since the last successful one.
    failed: Option<Failure>,
    /// The commits that the remote lacks.
    missing: HashMap<String, Failure>,
}

/// A failed fetch.
struct Failure {
    at: Instant,
    message: String,
}

impl Failure {
    fn now(message: &str) -> Self {
        Self {
            at: Instant::now(),
            message: message.to_owned(),
        }
    }

    fn is_recent(&self) -> bool {
        self.at.elapsed() < RETRY_DELAY
    }
}

impl Mirror {
    pub(super) fn new(url: String, path: PathBuf, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            url,
            path,
            timeout,
            state: Mutex::default(),
        })
    }

    /// Fetches, unless a fetch that began after `since` has succeeded.
    ///
    /// # Errors
    ///
    /// The reason why the fetch failed, without secrets.
    pub(super) async fn fetch(self: &Arc<Self>, since: Instant) -> Result<(), String> {
        let mirror = self.clone();
        join(tokio::spawn(async move { mirror.fetch_once(since).await })).await
    }

    async fn fetch_once(&self, since: Instant) -> Result<(), String> {
        let mut state = self.state.lock().await;
        if state.fetched.is_some_and(|fetched| fetched >= since) {
            return Ok(());
        }
        if let Some(failure) = state.failed.as_ref().filter(|failure| failure.is_recent()) {
            return Err(failure.message.clone());
        }
        let began = Instant::now();
        let mut fetched = self.fetch_all().await;
        if fetched
            .as_ref()
            .is_err_and(|message| message.contains(".lock"))
            && self.remove_stale_locks().await > 0
        {
            fetched = self.fetch_all().await;
        }
        match fetched {
            Ok(()) => {
                state.fetched = Some(began);
                state.failed = None;
                Ok(())
            }
            Err(message) => {
                let url = without_secret(&self.url);
                tracing::warn!(url, failure = message, "fetch failed");
                state.failed = Some(Failure::now(&message));
                Err(message)
            }
        }
    }

    /// Fetches one commit by its full id, which many servers allow.
    ///
    /// # Errors
    ///
    /// The reason why the fetch failed, without secrets.
    pub(super) async fn fetch_commit(self: &Arc<Self>, id: &str) -> Result<(), String> {
        let (mirror, id) = (self.clone(), id.to_owned());
        join(tokio::spawn(async move {
            let mut state = mirror.state.lock().await;
            if let Some(failure) = state.missing.get(&id).filter(|failure| failure.is_recent()) {
                return Err(failure.message.clone());
            }
            let fetched = mirror.git(&[&mirror.url, &id]).await;
            if let Err(message) = &fetched {
                state.missing.retain(|_, failure| failure.is_recent());
                if state.missing.len() < MISSING_MAX {
                    state.missing.insert(id, Failure::now(message));
                }
            }
            fetched
        }))
        .await
    }

    /// Whether the mirror was created completely: `git init` creates this directory last.
    pub(super) fn exists(&self) -> bool {
        self.path.join("objects").exists()
    }

    async fn fetch_all(&self) -> Result<(), String> {
        let [heads, tags] = REFSPECS;
        self.git(&["--prune", &self.url, heads, tags]).await
    }

    /// Runs `git fetch` in the mirror, and creates the mirror first if it does not exist.
    async fn git(&self, arguments: &[&str]) -> Result<(), String> {
        let run = Run {
            repository: Some(&self.path),
            url: &self.url,
            timeout: self.timeout,
        };
        if !self.exists() {
            tokio::fs::create_dir_all(&self.path)
                .await
                .map_err(|error| format!("cannot create {}: {error}", self.path.display()))?;
            run.git(&["init", "--bare", "--quiet"]).await?;
        }
        let fetch = ["fetch", "--quiet", "--no-write-fetch-head"];
        run.git(&[&fetch[..], arguments].concat()).await
    }

    /// Removes the locks that killed processes of git left, and returns their number.
    async fn remove_stale_locks(&self) -> usize {
        let path = self.path.clone();
        let age_min = (self.timeout * STALE_FETCHES).max(STALE_LOCK_AGE_MIN);
        let removed = tokio::task::spawn_blocking(move || remove_locks(&path, age_min)).await;
        match removed {
            Ok(Ok(count)) => count,
            Ok(Err(error)) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove stale locks of a mirror");
                0
            }
            Err(_) => 0,
        }
    }
}

/// Waits for a fetch.
async fn join(task: tokio::task::JoinHandle<Result<(), String>>) -> Result<(), String> {
    task.await
        .unwrap_or_else(|error| Err(format!("the fetch was aborted: {error}")))
}

/// Removes locks older than this from a bare repository, and returns their number.
fn remove_locks(directory: &Path, age_min: Duration) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            // There are many objects, and no locks among them.
            if entry.file_name() != "objects" {
                removed += remove_locks(&path, age_min)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "lock")
            && metadata
                .modified()?
                .elapsed()
                .is_ok_and(|age| age > age_min)
        {
            fs::remove_file(&path)?;
            tracing::info!(path = %path.display(), "stale lock removed");
            removed += 1;
        }
    }
    Ok(removed)
}
