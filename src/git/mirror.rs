//! The bare mirror of a remote repository, fetched into by the system's git.
//!
//! One fetch at a time, which serves everybody who asked before it began. It is a task of its
//! own: a client that goes away neither ends the fetch of others nor hides that a remote hangs.

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

/// A remote that failed, or that lacked a commit, is not asked again so soon.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// The commits that are remembered as lacking. Past it, the remote is asked again.
const LACKING_MAX: usize = 1000;
/// A lock this much older than a fetch may take belongs to nobody.
const STALE_FETCHES: u32 = 2;
const STALE_LOCK_AGE_MIN: Duration = Duration::from_secs(60);
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

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
    /// The commits that were not to be had: when that was found, and why.
    lacking: HashMap<String, (Instant, String)>,
}

fn recent((at, failure): &(Instant, String)) -> Option<&String> {
    (at.elapsed() < FAILURE_PAUSE).then_some(failure)
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
    /// Why the remote could not be fetched, for people.
    pub(super) async fn fetch(self: &Arc<Self>, since: Instant) -> Result<(), String> {
        let mirror = self.clone();
        finished(tokio::spawn(
            async move { mirror.fetch_in_turn(since).await },
        ))
        .await
    }

    async fn fetch_in_turn(&self, since: Instant) -> Result<(), String> {
        let mut state = self.state.lock().await;
        if state.fetched.is_some_and(|fetched| fetched >= since) {
            return Ok(());
        }
        if let Some(failure) = state.failed.as_ref().and_then(recent) {
            return Err(failure.clone());
        }
        let began = Instant::now();
        let mut fetched = self.fetch_all().await;
        if fetched.as_ref().is_err_and(|why| why.contains(".lock"))
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
            Err(failure) => {
                let url = without_secret(&self.url);
                tracing::warn!(url, failure, "fetch failed");
                state.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Fetches one commit by its full id, which many servers allow.
    ///
    /// # Errors
    ///
    /// Why it was not fetched, for people.
    pub(super) async fn fetch_commit(self: &Arc<Self>, id: &str) -> Result<(), String> {
        let (mirror, id) = (self.clone(), id.to_owned());
        finished(tokio::spawn(async move {
            let mut state = mirror.state.lock().await;
            if let Some(failure) = state.lacking.get(&id).and_then(recent) {
                return Err(failure.clone());
            }
            let fetched = mirror.git(&[&mirror.url, &id]).await;
            if let Err(failure) = &fetched {
                state.lacking.retain(|_, found| recent(found).is_some());
                if state.lacking.len() < LACKING_MAX {
                    state.lacking.insert(id, (Instant::now(), failure.clone()));
                }
            }
            fetched
        }))
        .await
    }

    /// Whether it is there, and its making was not interrupted: git makes this part last.
    pub(super) fn is_made(&self) -> bool {
        self.path.join("objects").exists()
    }

    async fn fetch_all(&self) -> Result<(), String> {
        let [heads, tags] = REFSPECS;
        self.git(&["--prune", &self.url, heads, tags]).await
    }

    /// Runs git's fetch in the mirror, which is made if it is not there.
    async fn git(&self, what: &[&str]) -> Result<(), String> {
        let run = Run {
            repository: Some(&self.path),
            url: &self.url,
            timeout: self.timeout,
        };
        if !self.is_made() {
            tokio::fs::create_dir_all(&self.path)
                .await
                .map_err(|error| format!("cannot create {}: {error}", self.path.display()))?;
            run.git(&["init", "--bare", "--quiet"]).await?;
        }
        let fetch = ["fetch", "--quiet", "--no-write-fetch-head"];
        run.git(&[&fetch[..], what].concat()).await
    }

    /// Removes the locks of a git that was killed: nothing else ever would.
    async fn remove_stale_locks(&self) -> usize {
        let path = self.path.clone();
        let age_min = (self.timeout * STALE_FETCHES).max(STALE_LOCK_AGE_MIN);
        let removed = tokio::task::spawn_blocking(move || remove_locks(&path, age_min)).await;
        match removed {
            Ok(Ok(removed)) => removed,
            Ok(Err(error)) => {
                tracing::warn!(path = %self.path.display(), %error, "the mirror's locks cannot be removed");
                0
            }
            Err(_) => 0,
        }
    }
}

/// What a task of ours came to.
async fn finished(task: tokio::task::JoinHandle<Result<(), String>>) -> Result<(), String> {
    task.await
        .unwrap_or_else(|error| Err(format!("the fetch was given up: {error}")))
}

/// Removes locks older than this from a bare repository, and says how many.
fn remove_locks(directory: &Path, age_min: Duration) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            // Objects have no locks, and may be many.
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
            tracing::info!(path = %path.display(), "the lock of a git that was killed is removed");
            removed += 1;
        }
    }
    Ok(removed)
}
