//! The repositories of projects: the actors' port [`RevisionSource`].
//!
//! A local repository is read in place and never written to. A remote one has a bare mirror under the
//! root, into which the system's git fetches ([`mirror`]). Commits that are in it already are read
//! without the network, from git's object database and without a checkout ([`objects`]).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{
    DiskError, Freshness, RepositoryForm, Revision, RevisionError, RevisionSource, Unconfirmed,
    WhyUnknown,
};
use multidb_store::{Layout, ProjectName};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::{GitRemote, Listing, Preset};
use crate::metrics::Fetches;

mod defined;
mod listing;
mod mirror;
mod names;
mod objects;
mod program;

use self::defined::defined_by;
use self::mirror::{FetchError, Mirror, Wanted};
pub(crate) use self::names::is_full_id;
use self::objects::Found;
use self::program::Run;

/// The parallel reads of repositories. More would only compete for the disk.
const READS_MAX: usize = 16;
static READS: Semaphore = Semaphore::const_new(READS_MAX);

/// The repository of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitProject {
    /// Its location.
    pub git: GitRemote,
    /// Where a revision of it defines its migrations.
    pub listing: Listing,
    /// The tool whose migrations it lists, if it is a known one.
    pub tool: Option<Preset>,
}

/// The condition of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It is local, and the listing of its newest commit is understood.
    Readable,
    /// It is local, and its newest commit has no listing that is understood.
    NoListing(RevisionError),
    /// It is remote, and answers.
    Answers,
}

/// The defect of a repository's form on this machine, and its remedy; `None` for one that is read, or that is elsewhere
/// and was not found to be a partial clone by a fetch into `mirror`.
pub fn refused_form(git: &GitRemote, mirror: &Path) -> Option<RepositoryForm> {
    match git {
        GitRemote::Local(path) => objects::form(path),
        GitRemote::Remote(_) if mirror::is_of_partial_clone(mirror) => {
            Some(RepositoryForm::Partial)
        }
        GitRemote::Remote(url) => {
            let path = Path::new(url.strip_prefix("file://")?);
            // git itself reads reftables.
            objects::form(path).filter(|form| *form == RepositoryForm::Partial)
        }
    }
}

impl GitProject {
    /// Examines the repository without changing it. A remote one must answer within `timeout`.
    ///
    /// # Errors
    ///
    /// It cannot be read or does not answer; the text has no secrets.
    pub async fn examine(self, timeout: Duration) -> Result<Condition, String> {
        match self.git {
            GitRemote::Local(path) => {
                let examined = blocking(move || {
                    let id = objects::listing_at_head(&path, &self.listing)?;
                    defined_by(&path, &id, &self.listing, self.tool)
                });
                match examined.await {
                    Ok(_) => Ok(Condition::Readable),
                    Err(
                        error @ (RevisionError::ListingMissing { .. }
                        | RevisionError::ListingNotUnderstood { .. }),
                    ) => Ok(Condition::NoListing(error)),
                    Err(error) => Err(error.to_string()),
                }
            }
            GitRemote::Remote(url) => {
                let run = Run {
                    repository: None,
                    url: &url,
                    timeout,
                    progress: None,
                };
                run.git(&["ls-remote", "--quiet", &url, "HEAD"]).await?;
                Ok(Condition::Answers)
            }
        }
    }
}

/// The repositories of all projects.
pub struct GitSource {
    repositories: HashMap<ProjectName, Arc<Repository>>,
}

struct Repository {
    path: PathBuf,
    listing: Listing,
    tool: Option<Preset>,
    mirror: Option<Arc<Mirror>>,
}

impl GitSource {
    /// The repositories of these projects, fetched within `fetch_timeout`.
    pub fn new(
        layout: &Layout,
        projects: HashMap<ProjectName, GitProject>,
        fetch_timeout: Duration,
        fetches: &Arc<Fetches>,
    ) -> Self {
        let repository = |(name, project): (ProjectName, GitProject)| {
            let (path, mirror) = match project.git {
                GitRemote::Local(path) => (path, None),
                GitRemote::Remote(url) => {
                    let path = layout.git_mirror(&name);
                    (
                        path.clone(),
                        Some(Mirror::new(url, path, fetch_timeout, fetches.clone())),
                    )
                }
            };
            let repository = Repository {
                path,
                listing: project.listing,
                tool: project.tool,
                mirror,
            };
            (name, Arc::new(repository))
        };
        Self {
            repositories: projects.into_iter().map(repository).collect(),
        }
    }

    fn repository(&self, project: &ProjectName) -> Result<Arc<Repository>, RevisionError> {
        let found = self.repositories.get(project).cloned();
        found.ok_or_else(|| RevisionError::Repository {
            message: format!("project \"{project}\" is not configured"),
            form: None,
        })
    }
}

impl Repository {
    /// Finds a revision in the local repository or mirror.
    async fn find(self: &Arc<Self>, gitref: &str) -> Result<Found, RevisionError> {
        let (repository, gitref) = (self.clone(), gitref.to_owned());
        blocking(move || {
            // The mirror was never fetched into.
            if repository
                .mirror
                .as_ref()
                .is_some_and(|mirror| !mirror.exists())
            {
                return Err(objects::unknown(&gitref, WhyUnknown::NoSuch));
            }
            let name_here = match &repository.mirror {
                Some(_) => names::in_mirror,
                None => names::in_place,
            };
            objects::find(&repository.path, &gitref, name_here)
        })
        .await
    }

    /// Finds a revision as it is on the remote now. Only a commit that the mirror has needs no question.
    async fn find_fresh(
        self: &Arc<Self>,
        gitref: &str,
        mirror: &Arc<Mirror>,
    ) -> Result<Fresh, RevisionError> {
        let began = Instant::now();
        match self.find(gitref).await {
            Ok(found) if found.reference.is_none() => return Ok(Fresh::confirmed(found)),
            Ok(_) | Err(RevisionError::Unknown { .. }) => {}
            Err(error) => return Err(error),
        }
        let asked = Instant::now();
        let answer = self.ask(gitref, mirror, began).await;
        let asked = Some(asked.elapsed());
        match answer {
            Ok(found) => Ok(Fresh::confirmed(found).asked_for(asked)),
            Err(NotAsked::Fetch(FetchError::Failed(failure))) => {
                let fresh = self.find_as_last_seen(gitref, failure).await?;
                Ok(fresh.asked_for(asked))
            }
            Err(NotAsked::Fetch(FetchError::Partial(message))) => Err(RevisionError::Repository {
                message,
                form: Some(RepositoryForm::Partial),
            }),
            Err(NotAsked::Fetch(FetchError::Underway)) => Err(RevisionError::BeingFetched),
            Err(NotAsked::Fetch(FetchError::TooMany)) => {
                Err(objects::unknown(gitref, WhyUnknown::TooManyReferences))
            }
            Err(NotAsked::Fetch(FetchError::Absent | FetchError::NotById)) => {
                let is_shallow = names::is_id(gitref) && self.path.join("shallow").exists();
                let why = if is_shallow {
                    WhyUnknown::Shallow
                } else {
                    WhyUnknown::NoSuch
                };
                Err(objects::unknown(gitref, why))
            }
            Err(NotAsked::Read(error)) => Err(error),
        }
    }

    /// Asks the remote for all that the revision may mean, and returns the first that it has.
    async fn ask(
        self: &Arc<Self>,
        gitref: &str,
        mirror: &Arc<Mirror>,
        since: Instant,
    ) -> Result<Found, NotAsked> {
        let candidates = names::references(gitref);
        let is_id = names::is_id(gitref);
        if is_id || candidates.iter().any(|name| names::is_mirrored(name)) {
            mirror.fetch(Wanted::Branches, since).await?;
            match self.find(gitref).await {
                Ok(found) if found.reference.as_deref().is_none_or(names::is_mirrored) => {
                    return Ok(found);
                }
                Ok(_) | Err(RevisionError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let asked_for = candidates
            .into_iter()
            .filter(|name| names::is_fetched_when_asked_for(name));
        for name in asked_for {
            match mirror.fetch(Wanted::Reference(name), since).await {
                Ok(()) => return Ok(self.find(gitref).await?),
                Err(FetchError::Absent) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !is_id {
            return Err(FetchError::Absent.into());
        }
        let mut by_id = Err(FetchError::NotById);
        if names::is_full_id(gitref) {
            by_id = mirror.fetch(Wanted::Commit(gitref.to_owned()), since).await;
        }
        if by_id == Err(FetchError::NotById) {
            let digits = Wanted::Abbreviation(gitref.to_owned());
            by_id = mirror.fetch(digits, since).await;
        }
        by_id?;
        Ok(self.find(gitref).await?)
    }

    /// Finds a revision in the state that the remote had when it last answered.
    async fn find_as_last_seen(
        self: &Arc<Self>,
        gitref: &str,
        failure: String,
    ) -> Result<Fresh, RevisionError> {
        let found = match (self.find(gitref).await, DiskError::in_text(&failure)) {
            (Err(RevisionError::Unknown { .. }), Some(error)) => {
                return Err(RevisionError::Disk(error));
            }
            (Err(RevisionError::Unknown { .. }), None) => {
                let why = WhyUnknown::RemoteFailed(failure);
                return Err(objects::unknown(gitref, why));
            }
            (found, _) => found?,
        };
        tracing::warn!(
            gitref,
            failure,
            "the remote does not answer, using what it had when it last did"
        );
        let Some(reference) = found.reference.clone() else {
            return Ok(Fresh::confirmed(found));
        };
        let path = self.path.clone();
        let age = blocking(move || Ok(mirror::age_of(&path, &reference))).await?;
        Ok(Fresh {
            found,
            unconfirmed: Some(Unconfirmed { age }),
            asked: None,
        })
    }
}

impl Repository {
    async fn resolve_fresh(
        self: &Arc<Self>,
        gitref: &str,
        mirror: &Arc<Mirror>,
    ) -> Result<Revision, RevisionError> {
        let fresh = self.find_fresh(gitref, mirror).await?;
        self.revision(fresh).await
    }

    /// The revision with its listing.
    async fn revision(self: &Arc<Self>, fresh: Fresh) -> Result<Revision, RevisionError> {
        let commit = fresh.found.commit;
        let listing = blocking({
            let (repository, commit) = (self.clone(), commit.clone());
            move || objects::listing(&repository.path, &commit, &repository.listing)
        });
        Ok(Revision {
            listing: listing.await?,
            commit,
            unconfirmed: fresh.unconfirmed,
            fetch: fresh.asked,
        })
    }

    /// The migrations that the listing with this object id defines.
    async fn defined(self: &Arc<Self>, id: &str) -> Result<HashSet<String>, RevisionError> {
        let (repository, id) = (self.clone(), id.to_owned());
        let read = move || defined_by(&repository.path, &id, &repository.listing, repository.tool);
        blocking(read).await
    }
}

/// A revision, and whether it is as the remote has it.
struct Fresh {
    found: Found,
    unconfirmed: Option<Unconfirmed>,
    /// How long the remote was asked, if it was.
    asked: Option<Duration>,
}

impl Fresh {
    fn confirmed(found: Found) -> Self {
        Self {
            found,
            unconfirmed: None,
            asked: None,
        }
    }

    fn asked_for(self, asked: Option<Duration>) -> Self {
        Self { asked, ..self }
    }
}

/// Why a remote has not given a revision.
enum NotAsked {
    Fetch(FetchError),
    Read(RevisionError),
}

impl From<FetchError> for NotAsked {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<RevisionError> for NotAsked {
    fn from(error: RevisionError) -> Self {
        Self::Read(error)
    }
}

#[async_trait]
impl RevisionSource for GitSource {
    async fn resolve(
        &self,
        project: &ProjectName,
        gitref: &str,
        freshness: Freshness,
    ) -> Result<Revision, RevisionError> {
        if !names::is_plain_name(gitref) {
            return Err(RevisionError::Expression {
                gitref: gitref.to_owned(),
            });
        }
        let repository = self.repository(project)?;
        let mirror = match freshness {
            Freshness::Fetch => repository.mirror.as_ref(),
            Freshness::Local => None,
        };
        let Some(mirror) = mirror else {
            let found = repository.find(gitref).await?;
            return repository.revision(Fresh::confirmed(found)).await;
        };
        let since = Instant::now();
        let resolved = repository.resolve_fresh(gitref, mirror).await;
        if is_damage(&resolved) && rebuild(mirror, since).await? {
            return repository.resolve_fresh(gitref, mirror).await;
        }
        resolved
    }

    async fn defined_migrations(
        &self,
        project: &ProjectName,
        listing: &str,
    ) -> Result<HashSet<String>, RevisionError> {
        let repository = self.repository(project)?;
        let since = Instant::now();
        let defined = repository.defined(listing).await;
        if let Some(mirror) = &repository.mirror
            && is_damage(&defined)
            && rebuild(mirror, since).await?
        {
            return repository.defined(listing).await;
        }
        defined
    }
}

/// Makes a mirror again that is broken, if that is possible.
async fn rebuild(mirror: &Arc<Mirror>, since: Instant) -> Result<bool, RevisionError> {
    match mirror.rebuild(since).await {
        Err(FetchError::Underway) => Err(RevisionError::BeingFetched),
        rebuilt => Ok(rebuilt.is_ok()),
    }
}

/// Whether a mirror could not be read, other than for the form of its remote.
fn is_damage<T>(read: &Result<T, RevisionError>) -> bool {
    matches!(read, Err(RevisionError::Repository { form: None, .. }))
}

/// Reads a repository on a thread of its own.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, RevisionError> + Send + 'static,
) -> Result<T, RevisionError> {
    let aborted = |error: &dyn std::fmt::Display| RevisionError::Repository {
        message: format!("the read of the repository was aborted: {error}"),
        form: None,
    };
    let permit = READS.acquire().await.map_err(|error| aborted(&error))?;
    let read = tokio::task::spawn_blocking(move || {
        // Held by the thread, which reads to its end even if the caller has gone.
        let _permit = permit;
        read()
    });
    read.await.unwrap_or_else(|error| Err(aborted(&error)))
}

#[cfg(test)]
mod tests;
