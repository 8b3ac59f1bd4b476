//! The actors' interfaces to everything outside, as traits. The root package implements them; the tests
//! have fakes.
//!
//! A port's error has a variant for each case that the actors distinguish, and a text for the rest.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use multidb_store::{
    InstanceName, InstanceRecord, InstanceUid, ObservedTime, ProjectName, SnapshotRecord, Store,
    StoreError, StoredTime,
};
use serde::Serialize;

use crate::text::{self, quoted};

mod clone;
mod console;
mod disk;
mod memory;
mod probe;
mod runtime;

pub use self::clone::{CloneError, CloneReport, CloneSource, ClonedFrom, Cloner, Taken};
pub use self::console::{Console, ConsoleAnswer};
pub use self::disk::DiskError;
pub use self::memory::{Memory, MemoryUsage};
pub use self::probe::{BackendActivity, ProbeError, ServerProbe, SuperuserAccess};
pub(crate) use self::runtime::{FIND_TIMEOUT, find_server};
pub use self::runtime::{
    FoundPostgres, FoundServers, RunningPostgres, Runtime, RuntimeError, ServerError, ServerId,
    StartError, Unavailable,
};

/// The date and time. The actors read them only through this trait, so that a test can set them.
///
/// Durations are measured with [`tokio::time::Instant`], which ignores changes of the machine's clock.
pub trait Clock: Send + Sync + 'static {
    /// The current date and time.
    fn now(&self) -> Timestamp;

    /// The time since the machine started, as `CLOCK_BOOTTIME`: it never jumps, and counts a suspend.
    fn since_boot(&self) -> Duration;
}

/// A change of the records.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordChange {
    /// The record is written under its name.
    Put(Box<InstanceRecord>),
    /// The record of this name is removed, if it is of this clone.
    Remove(InstanceName, InstanceUid),
    /// A moment in observed time is written.
    PutTime(StoredTime, ObservedTime),
}

impl RecordChange {
    /// The record is written under its name.
    pub fn put(record: &InstanceRecord) -> Self {
        Self::Put(Box::new(record.clone()))
    }
}

/// Keeps the records of instances. Its calls block, and are durable when they return.
pub trait Records: Send + Sync + 'static {
    /// Writes the record under its name.
    fn put(&self, record: &InstanceRecord) -> Result<(), StoreError>;

    /// Removes the record of this name, if it is of this clone: the name may have been given to another since.
    fn remove(&self, name: &InstanceName, uid: InstanceUid) -> Result<(), StoreError>;

    /// Writes a moment in observed time.
    fn put_time(&self, which: StoredTime, time: ObservedTime) -> Result<(), StoreError>;

    /// Makes these changes in order. After an error any of them may have been made.
    fn write(&self, changes: &[RecordChange]) -> Result<(), StoreError> {
        changes.iter().try_for_each(|change| match change {
            RecordChange::Put(record) => self.put(record),
            RecordChange::Remove(name, uid) => self.remove(name, *uid),
            RecordChange::PutTime(which, time) => self.put_time(*which, *time),
        })
    }
}

impl Records for Store {
    fn put(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        Self::put(self, record)
    }

    fn remove(&self, name: &InstanceName, uid: InstanceUid) -> Result<(), StoreError> {
        Self::remove(self, name, uid)
    }

    fn put_time(&self, which: StoredTime, time: ObservedTime) -> Result<(), StoreError> {
        Self::put_time(self, which, time)
    }

    fn write(&self, changes: &[RecordChange]) -> Result<(), StoreError> {
        let mut batch = self.batch();
        for change in changes {
            match change {
                RecordChange::Put(record) => batch.put(record),
                RecordChange::Remove(name, uid) => batch.remove(name, *uid),
                RecordChange::PutTime(which, time) => batch.put_time(*which, *time),
            }
        }
        batch.write()
    }
}

/// The address of a running Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// Whether a revision may be looked up on the remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Only in the local repository or mirror: without network, well under a millisecond, and up to a
    /// second old.
    Local,
    /// The remote is asked for the present state of a branch, a tag or another reference, and for a commit that the
    /// mirror lacks.
    Fetch,
}

/// A revision of a project, and its migration listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit, as 40 hexadecimal digits, or 64 in a repository of SHA-256.
    pub commit: String,
    /// The object id of the listing at that commit: equal listings have equal ids.
    pub listing: String,
    /// Set where a branch or another reference may have moved, since the remote does not answer.
    pub unconfirmed: Option<Unconfirmed>,
    /// How long the remote was asked, if it was.
    pub fetch: Option<Duration>,
}

/// The state of a reference as it was when the remote last answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The time since then, if it is known.
    pub age: Option<Duration>,
}

/// Why a revision is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyUnknown {
    /// The repository does not have it.
    NoSuch,
    /// The remote could not be asked. May hold a URL with credentials, so it is for the log alone.
    RemoteFailed(String),
    /// The remote has too many references besides branches and tags to search them for an abbreviated commit.
    TooManyReferences,
    /// The repository is a shallow clone, so that it lacks older commits.
    Shallow,
}

/// A form of repository that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryForm {
    /// A local one whose references are in reftables.
    Reftable,
    /// A partial clone, which lacks files of its own commits.
    Partial,
}

impl RepositoryForm {
    /// The DETAIL of its error, as a sentence.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Reftable => "It keeps its references as reftables, which are not read in place.",
            Self::Partial => "It is a partial clone, which lacks files of its own commits.",
        }
    }

    /// Advice, as a sentence.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Reftable => {
                "Set the project's git to its URL, such as \"file:///srv/git/app.git\", which is mirrored."
            }
            Self::Partial => {
                "Set the project's git to a complete clone, or to the URL that it was cloned from."
            }
        }
    }
}

/// Reads projects' repositories. Never writes to a user's repository.
#[async_trait]
pub trait RevisionSource: Send + Sync + 'static {
    /// Resolves `gitref` to a commit and its listing.
    async fn resolve(
        &self,
        project: &ProjectName,
        gitref: &str,
        freshness: Freshness,
    ) -> Result<Revision, RevisionError>;

    /// The migrations that a listing defines.
    async fn defined_migrations(
        &self,
        project: &ProjectName,
        listing: &str,
    ) -> Result<HashSet<String>, RevisionError>;
}

/// Why a revision or its listing could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RevisionError {
    /// No commit, branch or tag has this name.
    #[error("revision {} is unknown", quoted(gitref))]
    #[serde(rename = "unknown_revision")]
    Unknown {
        /// The requested revision.
        gitref: String,
        /// The reason.
        #[serde(skip)]
        why: WhyUnknown,
    },
    /// It is an expression that leads from one revision to another, which is not evaluated.
    #[error("{} is an expression, not the name of a revision", quoted(gitref))]
    #[serde(rename = "revision_expression")]
    Expression {
        /// The requested revision.
        gitref: String,
    },
    /// Several commits have this abbreviation.
    #[error("revision {} is ambiguous", quoted(gitref))]
    #[serde(rename = "ambiguous_revision")]
    Ambiguous {
        /// The requested revision.
        gitref: String,
        /// Some of the candidates.
        candidates: Vec<String>,
    },
    /// The revision has no listing file.
    #[error("revision {commit} has no migration listing {}", quoted(path))]
    ListingMissing {
        /// The commit.
        commit: String,
        /// The configured path.
        path: String,
        /// The entry at that path instead, as a sentence.
        instead: Option<String>,
    },
    /// The listing has a line that is no migration.
    #[error(
        "line {line} of the migration listing {} is not understood: {}",
        quoted(path),
        quoted(text)
    )]
    ListingNotUnderstood {
        /// The configured path.
        path: String,
        /// The number of the first such line, from 1.
        line: usize,
        /// Its text.
        text: String,
        /// The reason, where it is known.
        reason: Option<String>,
    },
    /// The repository cannot be read.
    #[error("{message}")]
    #[serde(rename = "unreadable_repository")]
    Repository {
        /// The error with its causes. May hold paths, so it is for the log alone.
        #[serde(skip)]
        message: String,
        /// Its form, if that is why.
        #[serde(skip)]
        form: Option<RepositoryForm>,
    },
    /// The whole repository is being fetched, for the first time or since its mirror was broken, which takes longer
    /// than `fetch_timeout`.
    #[error("the git repository is still being fetched for the first time")]
    BeingFetched,
    /// It was not fetched, since the disk of the mirror is full, read-only, or failed.
    #[error(transparent)]
    #[serde(untagged)]
    Disk(DiskError),
}

impl RevisionError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown_revision",
            Self::Expression { .. } => "revision_expression",
            Self::Ambiguous { .. } => "ambiguous_revision",
            Self::ListingMissing { .. } => "listing_missing",
            Self::ListingNotUnderstood { .. } => "listing_not_understood",
            Self::Repository { .. } => "unreadable_repository",
            Self::BeingFetched => "being_fetched",
            Self::Disk(error) => error.fault.code(),
        }
    }

    /// More about the revision or its listing, as a sentence.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Ambiguous { candidates, .. } => {
                Some(format!("Candidates: {}.", text::list(candidates)))
            }
            Self::ListingMissing { instead, .. } => instead.clone(),
            Self::ListingNotUnderstood { reason, .. } => {
                reason.as_ref().map(|reason| format!("It is {reason}."))
            }
            Self::Unknown { why, .. } => match why {
                WhyUnknown::NoSuch => None,
                WhyUnknown::RemoteFailed(_) => Some(
                    "The git remote could not be reached; multidb's log has the cause.".to_owned(),
                ),
                WhyUnknown::TooManyReferences => Some(
                    "No branch and no tag reaches it, and the git remote has too many other references to search them."
                        .to_owned(),
                ),
                WhyUnknown::Shallow => Some(
                    "The git repository is a shallow clone, which lacks older commits.".to_owned(),
                ),
            },
            Self::Repository { form, .. } => form.map(|form| form.detail().to_owned()),
            Self::BeingFetched => Some(
                "The whole repository is fetched once, which goes on whether or not anybody waits for it.".to_owned(),
            ),
            Self::Expression { .. } | Self::Disk(_) => None,
        }
    }

    /// Advice about the revision or its listing, as a sentence for any caller.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unknown { why, .. } => match why {
                WhyUnknown::NoSuch => {
                    "Give a commit, branch or tag, and push it before you connect."
                }
                WhyUnknown::RemoteFailed(_) => "Try again when the remote answers.",
                WhyUnknown::TooManyReferences => {
                    "Give all digits of the commit, or a reference that has it, such as \"refs/pull/7/head\"."
                }
                WhyUnknown::Shallow => {
                    "Complete it by \"git fetch --unshallow\", or push the revision before you connect."
                }
            },
            Self::Expression { .. } => {
                "Give a commit, branch or tag; \"git rev-parse\" prints the commit of an expression."
            }
            Self::Ambiguous { .. } => "Give more digits of the commit.",
            Self::BeingFetched => {
                "Try again in a while, or choose a snapshot with \"snapshot:\" or \"asof:\"."
            }
            Self::Repository { form, .. } => return form.map(|form| form.hint().to_owned()),
            Self::ListingMissing { .. } | Self::ListingNotUnderstood { .. } | Self::Disk(_) => {
                return None;
            }
        };
        Some(hint.to_owned())
    }
}

/// The snapshots on disk. Its calls block.
pub trait SnapshotCatalog: Send + Sync + 'static {
    /// All complete snapshots, except damaged ones, which are logged.
    fn load(&self) -> Result<Vec<SnapshotRecord>, CloneError>;

    /// Deletes a snapshot, by way of the trash.
    fn delete(&self, id: &multidb_store::SnapshotId) -> Result<(), CloneError>;
}
