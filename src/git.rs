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
use multidb_actors::ports::{DiskError, Freshness, Revision, RevisionError, RevisionSource};
use multidb_store::{Layout, ProjectName};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::{GitRemote, Listing, Preset};

mod listing;
mod mirror;
mod objects;
mod program;

use self::mirror::Mirror;
use self::objects::{Found, Kind};
use self::program::Run;

/// A branch or a tag is fetched again when the last fetch is older than this.
const NAME_FRESHNESS: Duration = Duration::from_secs(10);

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
    ) -> Self {
        let repository = |(name, project): (ProjectName, GitProject)| {
            let (path, mirror) = match project.git {
                GitRemote::Local(path) => (path, None),
                GitRemote::Remote(url) => {
                    let path = layout.git_mirror(&name);
                    (path.clone(), Some(Mirror::new(url, path, fetch_timeout)))
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
                return Err(objects::unknown(&gitref));
            }
            objects::find(&repository.path, &gitref)
        })
        .await
    }

    /// Finds a revision, after a fetch where one is needed.
    async fn find_fresh(
        self: &Arc<Self>,
        gitref: &str,
        mirror: &Arc<Mirror>,
    ) -> Result<Found, RevisionError> {
        let began = Instant::now();
        match self.find(gitref).await {
            Ok(found) if found.kind == Kind::Commit => Ok(found),
            Ok(found) => {
                let since = began.checked_sub(NAME_FRESHNESS).unwrap_or(began);
                if let Err(failure) = mirror.fetch(since).await {
                    tracing::warn!(
                        gitref,
                        failure,
                        "cannot reach the remote, using the branch or tag of the last fetch"
                    );
                    return Ok(found);
                }
                self.find(gitref).await
            }
            Err(RevisionError::Unknown { .. }) => self.find_unknown(gitref, mirror, began).await,
            Err(error) => Err(error),
        }
    }

    /// Fetches a revision that the mirror lacks.
    async fn find_unknown(
        self: &Arc<Self>,
        gitref: &str,
        mirror: &Arc<Mirror>,
        since: Instant,
    ) -> Result<Found, RevisionError> {
        let fetched = mirror.fetch(since).await;
        let found = self.find(gitref).await;
        let Err(RevisionError::Unknown { gitref, .. }) = found else {
            return found;
        };
        // A commit that no branch or tag reaches, for instance that of a pull request.
        let fetched = match fetched {
            Ok(()) if objects::is_full_id(&gitref) => mirror.fetch_commit(&gitref).await,
            other => other,
        };
        let found = self.find(&gitref).await;
        found.map_err(|error| match (error, fetched) {
            (RevisionError::Unknown { gitref, .. }, Err(failure)) => {
                match DiskError::in_text(&failure) {
                    Some(error) => RevisionError::Disk(error),
                    None => RevisionError::Unknown {
                        gitref,
                        fetch_failure: Some(failure),
                    },
                }
            }
            (error, _) => error,
        })
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
        if !objects::is_plain_name(gitref) {
            return Err(objects::unknown(gitref));
        }
        let repository = self.repository(project)?;
        let found = match (&repository.mirror, freshness) {
            (Some(mirror), Freshness::Fetch) => repository.find_fresh(gitref, mirror).await?,
            (_, Freshness::Local) | (None, Freshness::Fetch) => repository.find(gitref).await?,
        };
        let listing = blocking({
            let commit = found.commit.clone();
            move || objects::listing(&repository.path, &commit, &repository.listing)
        });
        Ok(Revision {
            listing: listing.await?,
            commit: found.commit,
        })
    }

    async fn defined_migrations(
        &self,
        project: &ProjectName,
        listing: &str,
    ) -> Result<HashSet<String>, RevisionError> {
        let repository = self.repository(project)?;
        let listing = listing.to_owned();
        let defined = blocking(move || {
            defined_by(
                &repository.path,
                &listing,
                &repository.listing,
                repository.tool,
            )
        });
        defined.await
    }
}

/// The migrations that the listing with this object id defines.
fn defined_by(
    repository: &Path,
    id: &str,
    listing: &Listing,
    tool: Option<Preset>,
) -> Result<HashSet<String>, RevisionError> {
    let path = match listing {
        Listing::File(path) => path,
        Listing::Directory { dir, pattern } => {
            let files = objects::files(repository, id)?;
            return Ok(listing::of_files(&files, dir, pattern.as_ref(), tool));
        }
    };
    let text = objects::blob(repository, id)?;
    listing::parse(&text, tool).map_err(|refused| RevisionError::ListingNotUnderstood {
        path: path.clone(),
        line: refused.line,
        text: refused.text,
        reason: refused.reason.map(str::to_owned),
    })
}

/// Reads a repository on a thread of its own.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, RevisionError> + Send + 'static,
) -> Result<T, RevisionError> {
    let aborted = |error: &dyn std::fmt::Display| RevisionError::Repository {
        message: format!("the read of the repository was aborted: {error}"),
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
