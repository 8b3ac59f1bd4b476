//! The bare mirror of a remote repository, into which the system's git fetches.
//!
//! There is one exchange with the remote at a time, which serves all requests from before it began. It is a task of
//! its own: a client that disconnects neither ends it for others nor hides that a remote hangs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::names;
use super::program::{Progress, Run};
use crate::config::without_secret;
use crate::metrics::{FetchOutcome, Fetches};

mod age;
mod locks;
mod others;
mod rebuild;

/// The delay before a remote that failed is asked again.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// The exchanges that are remembered. The requests that wait for one are fewer.
const EXCHANGES_MAX: usize = 1000;
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// The references or commits that are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// All branches and tags.
    Branches,
    /// One other reference.
    Reference(String),
    /// A commit by its full id, which most servers allow.
    Commit(String),
    /// The commits with this abbreviation, which no branch and no tag reaches.
    Abbreviation(String),
}

/// Why something was not fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchError {
    /// The remote does not have it.
    Absent,
    /// The remote has too many references to search them for an abbreviation.
    TooMany,
    /// The remote does not give a commit by its id alone.
    NotById,
    /// The remote is a partial clone, which lacks objects that it should send. Without secrets.
    Partial(String),
    /// The whole repository is being fetched, which takes longer than the timeout of a client.
    Underway,
    /// The remote did not answer, or the mirror could not be written. Without secrets.
    Failed(String),
}

impl FetchError {
    /// The error in a message of git.
    fn of(message: String) -> Self {
        if message.contains("couldn't find remote ref") || message.contains("not our ref") {
            Self::Absent
        } else if message.contains("does not allow request for unadvertised object") {
            Self::NotById
        } else if message.contains("promisor remote") {
            Self::Partial(message)
        } else {
            Self::Failed(message)
        }
    }
}

/// The mirror of one repository.
pub(super) struct Mirror {
    url: String,
    path: PathBuf,
    timeout: Duration,
    /// The progress of a fetch of the whole repository.
    whole: Progress,
    state: Mutex<State>,
    /// Counts the exchanges.
    fetches: Arc<Fetches>,
}

#[derive(Default)]
struct State {
    /// The last exchange about each thing, by its start.
    last: HashMap<Wanted, (Instant, Result<(), FetchError>)>,
    /// The time and the message of the last failure, if there was no success since.
    failed: Option<(Instant, String)>,
    /// The last time that the mirror was made again, or that this failed.
    rebuilt: Option<Instant>,
}

impl Mirror {
    pub(super) fn new(
        url: String,
        path: PathBuf,
        timeout: Duration,
        fetches: Arc<Fetches>,
    ) -> Arc<Self> {
        Arc::new(Self {
            url,
            path,
            timeout,
            whole: Progress::default(),
            state: Mutex::default(),
            fetches,
        })
    }

    /// Fetches, unless an exchange about the same that began after `since` has answered.
    ///
    /// # Errors
    ///
    /// The remote does not have it, or cannot be asked, or the whole repository is being fetched.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        wanted: Wanted,
        since: Instant,
    ) -> Result<(), FetchError> {
        let mirror = self.clone();
        let fetched = tokio::spawn(async move { mirror.fetch_once(wanted, since).await });
        self.wait(fetched).await
    }

    /// Waits for an exchange, which has limits of its own; for an exchange that fetches the whole repository no longer
    /// than the timeout.
    async fn wait(
        &self,
        mut exchange: JoinHandle<Result<(), FetchError>>,
    ) -> Result<(), FetchError> {
        loop {
            match tokio::time::timeout(self.timeout, &mut exchange).await {
                Ok(Ok(ended)) => return ended,
                Ok(Err(error)) => {
                    let message = format!("the fetch was aborted: {error}");
                    return Err(FetchError::Failed(message));
                }
                Err(_) if self.whole.is_made() => return Err(FetchError::Underway),
                Err(_) => {}
            }
        }
    }

    /// The state, once no other exchange is in progress. Requests do not pile up behind a fetch of the whole repository.
    async fn lock(&self) -> Result<MutexGuard<'_, State>, FetchError> {
        loop {
            match tokio::time::timeout(self.timeout, self.state.lock()).await {
                Ok(state) => return Ok(state),
                Err(_) if self.whole.is_made() => return Err(FetchError::Underway),
                Err(_) => {}
            }
        }
    }

    async fn fetch_once(&self, wanted: Wanted, since: Instant) -> Result<(), FetchError> {
        let mut state = self.lock().await?;
        if let Some((began, result)) = state.last.get(&wanted)
            && *began >= since
        {
            return result.clone();
        }
        if let Some((at, message)) = &state.failed
            && at.elapsed() < RETRY_DELAY
        {
            return Err(FetchError::Failed(message.clone()));
        }
        let began = Instant::now();
        let wall = SystemTime::now();
        let mut fetched = self.fetch_now(&wanted).await;
        if let Err(FetchError::Failed(message)) = &fetched
            && self.is_broken(&mut state, message).await
        {
            fetched = self.fetch_now(&wanted).await;
        }
        self.fetches.count(outcome(&fetched), began.elapsed());
        match &fetched {
            Err(FetchError::Failed(message)) => {
                let url = without_secret(&self.url);
                tracing::warn!(url, failure = message, "fetch failed");
                // From its end, since it may have taken its whole time.
                state.failed = Some((Instant::now(), message.clone()));
            }
            answered => {
                self.note(answered, &wanted, wall).await;
                if state.last.len() >= EXCHANGES_MAX {
                    state.last.clear();
                }
                state.last.insert(wanted, (began, fetched.clone()));
                state.failed = None;
            }
        }
        fetched
    }

    async fn fetch_now(&self, wanted: &Wanted) -> Result<(), FetchError> {
        match wanted {
            Wanted::Branches => {
                let [heads, tags] = REFSPECS;
                self.git(&["--prune", &self.url, heads, tags]).await
            }
            Wanted::Reference(name) => {
                let here = names::in_mirror(name);
                let refspec = format!("+{name}:{here}");
                let fetched = self.git(&["--no-tags", &self.url, &refspec]).await;
                if fetched == Err(FetchError::Absent) && self.exists() {
                    // The reference of a closed proposal: no client shall find it here.
                    let deleted = self.run().git(&["update-ref", "-d", here]).await;
                    deleted.map_err(FetchError::Failed)?;
                }
                fetched
            }
            Wanted::Commit(id) => self.git(&["--no-tags", &self.url, id]).await,
            Wanted::Abbreviation(digits) => self.fetch_abbreviation(digits).await,
        }
    }

    /// Whether the mirror was created completely: `git init` creates this directory last.
    pub(super) fn exists(&self) -> bool {
        self.path.join("objects").exists()
    }

    fn run(&self) -> Run<'_> {
        self.run_in(Some(&self.path))
    }

    /// A run that asks the remote, regardless of the state of the mirror.
    fn run_anywhere(&self) -> Run<'_> {
        self.run_in(None)
    }

    fn run_in<'a>(&'a self, repository: Option<&'a Path>) -> Run<'a> {
        Run {
            repository,
            url: &self.url,
            timeout: self.timeout,
            progress: None,
        }
    }

    /// A run that fetches the whole repository, and takes any time while it makes progress.
    fn run_whole<'a>(&'a self, repository: &'a Path) -> Run<'a> {
        Run {
            progress: Some(&self.whole),
            ..self.run_in(Some(repository))
        }
    }

    /// Runs `git fetch` in the mirror, and creates the mirror first if it does not exist.
    async fn git(&self, arguments: &[&str]) -> Result<(), FetchError> {
        let mut fetched = self.git_once(arguments).await;
        if let Err(message) = &fetched
            && message.contains(".lock")
            && self.remove_stale_locks().await > 0
        {
            fetched = self.git_once(arguments).await;
        }
        if let Err(message) = &fetched
            && let Some(format) = rebuild::other_format(message)
        {
            self.replace(format).await.map_err(FetchError::of)?;
            fetched = self.git_once(arguments).await;
        }
        fetched.map_err(FetchError::of)
    }

    async fn git_once(&self, arguments: &[&str]) -> Result<(), String> {
        if !self.exists() {
            rebuild::init(self.run(), rebuild::Format::Sha1).await?;
        }
        let run = match age::of(&self.path, age::BRANCHES) {
            Some(_) => self.run(),
            None => self.run_whole(&self.path),
        };
        run.fetch(arguments).await
    }

    /// Removes the locks that killed processes of git left, and returns their number.
    async fn remove_stale_locks(&self) -> usize {
        locks::remove_stale(self.path.clone(), self.timeout).await
    }

    /// Writes down when something was seen on the remote, and that this is a partial clone.
    async fn note(&self, answer: &Result<(), FetchError>, wanted: &Wanted, at: SystemTime) {
        let subject = match (answer, wanted) {
            (Err(FetchError::Partial(_)), _) => age::PARTIAL.to_owned(),
            (Err(_), _) => return,
            (Ok(()), Wanted::Branches) => age::BRANCHES.to_owned(),
            (Ok(()), Wanted::Reference(name)) => name.clone(),
            // A commit never changes.
            (Ok(()), Wanted::Commit(_) | Wanted::Abbreviation(_)) => return,
        };
        let path = self.path.clone();
        let note = move || {
            age::note(&path, &subject, at)?;
            if subject == age::BRANCHES {
                age::forget(&path, age::PARTIAL)?;
            }
            Ok::<_, std::io::Error>(())
        };
        let noted = tokio::task::spawn_blocking(note).await;
        if let Ok(Err(error)) = noted {
            tracing::debug!(path = %self.path.display(), %error, "the time of a fetch is not noted");
        }
    }
}

fn outcome(fetched: &Result<(), FetchError>) -> FetchOutcome {
    match fetched {
        Ok(()) => FetchOutcome::Done,
        Err(FetchError::Absent | FetchError::TooMany | FetchError::NotById) => FetchOutcome::Absent,
        Err(FetchError::Partial(_) | FetchError::Underway | FetchError::Failed(_)) => {
            FetchOutcome::Failed
        }
    }
}

/// Whether the remote was found to be a partial clone when it was last asked. Blocks.
pub(super) fn is_of_partial_clone(mirror: &Path) -> bool {
    age::is_noted(mirror, age::PARTIAL)
}

/// How long ago a reference of a mirror was last seen on the remote; `None` where that is not known. Blocks.
pub(super) fn age_of(mirror: &Path, reference: &str) -> Option<Duration> {
    let subject = if names::is_mirrored(reference) {
        age::BRANCHES
    } else {
        reference
    };
    age::of(mirror, subject)
}
