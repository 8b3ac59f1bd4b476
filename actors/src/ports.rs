//! What the actors need from the world, as traits. The root package implements them; the tests
//! have fakes.
//!
//! A port's errors are typed by what the actors decide on, and carry the text of the rest.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use multidb_store::{InstanceRecord, InstanceUid, ProjectName, SnapshotRecord};
use serde::Serialize;

use crate::awake::AwakeReason;
use crate::text::{disk_space, quoted};

/// Tells the date and time. The actors read them through it alone, so that a test can set them.
///
/// For what lasts, an actor uses [`tokio::time::Instant`], which no change of the machine's date moves.
pub trait Clock: Send + Sync + 'static {
    /// The date and time now.
    fn now(&self) -> Timestamp;
}

/// Where a running Postgres accepts connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// Runs Postgres on instances' data: in a container, or as a local process.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Starts Postgres on the instance's data and returns once it accepts connections.
    ///
    /// Leaves nothing running when it fails or when its future is dropped. Not bounded in time:
    /// the caller sets the limit.
    async fn start(&self, record: &InstanceRecord) -> Result<RunningPostgres, StartError>;

    /// Shuts Postgres down and returns once it has exited and its container is removed.
    ///
    /// `Fast` is Postgres' fast shutdown (SIGINT: sessions end with 57P01, the data is clean);
    /// only after `patience` it is made to quit immediately. Stopping what does not run is done
    /// at once, and no error.
    async fn stop(&self, uid: InstanceUid, patience: Duration) -> Result<(), RuntimeError>;

    /// What of ours runs now, by the world's own word (labels, postmaster.pid), not by records.
    async fn running(&self) -> Result<Vec<FoundPostgres>, RuntimeError>;

    /// The Postgres of ours that runs on this clone, as [`running`](Self::running) would find it. Where a start or
    /// a stop of it is in progress, waits for that. `None` means that nothing runs on the data; an error, that
    /// something may.
    async fn find(&self, uid: InstanceUid) -> Result<Option<FoundPostgres>, RuntimeError>;
}

/// A Postgres that accepts connections.
pub struct RunningPostgres {
    /// Where.
    pub endpoint: Endpoint,
    /// Resolves when it has exited, with a sentence about how, for the log.
    pub exited: BoxFuture<'static, String>,
}

/// A Postgres of ours that was found running.
pub struct FoundPostgres {
    /// The clone that it runs on.
    pub uid: InstanceUid,
    /// The Postgres itself, to take over.
    pub postgres: RunningPostgres,
}

/// Why Postgres did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum StartError {
    /// It exited instead of accepting connections.
    #[error("postgres exited: {status}")]
    #[serde(rename = "postgres_exited")]
    Exited {
        /// How it exited.
        status: String,
        /// The last lines of its log, oldest first.
        log: Vec<String>,
    },
    /// The runtime could not even try. The serialized form leaves the cause to the log.
    #[error(transparent)]
    #[serde(rename = "start_failed")]
    Runtime(
        #[from]
        #[serde(skip)]
        RuntimeError,
    ),
}

impl StartError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "postgres_exited",
            Self::Runtime(_) => "start_failed",
        }
    }
}

/// The runtime itself failed: no such program, no engine, no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// What failed, with its causes, in one line.
    pub message: String,
    /// What an operator can do about it.
    pub hint: Option<String>,
}

/// Makes, deletes and measures clones. Its calls block: only CloneWorker's threads run them.
pub trait Cloner: Send + Sync + 'static {
    /// `btrfs-snapshot`, `reflink` or `copy`, as probed on the real directories.
    fn method(&self) -> &'static str;

    /// Makes the instance's directory: manifest and data. The clone is complete and durable when
    /// this returns; where it fails, nothing of it is left. Doing it twice is no error.
    fn create(&self, record: &InstanceRecord) -> Result<CloneReport, CloneError>;

    /// Deletes an instance's directory, by way of the trash. What is not there is deleted.
    fn delete(&self, uid: InstanceUid) -> Result<(), CloneError>;

    /// Writes the instance's manifest again, durably: after a pin, or when a reset made a clone
    /// the live one.
    fn write_manifest(&self, record: &InstanceRecord) -> Result<(), CloneError>;

    /// The clones on disk, complete or not, other than the known ones. Only their manifests are read.
    fn unknown_clones(&self, known: &HashSet<InstanceUid>) -> Result<Vec<InstanceUid>, CloneError>;

    /// The bytes that only this clone holds.
    fn exclusive_bytes(&self, uid: InstanceUid) -> Result<u64, CloneError>;

    /// The bytes free on the root's file system.
    fn disk_free_bytes(&self) -> Result<u64, CloneError>;
}

/// What a clone cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloneReport {
    /// The files cloned; 0 where the file system cloned the tree in one step.
    pub files: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a clone was not made, deleted or measured. The serialized form leaves paths and causes to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum CloneError {
    /// The file system has no room, or less than the reserve.
    #[error("no disk space: {}", disk_space(*.free_bytes, *.reserve_bytes))]
    #[serde(rename = "no_disk_space")]
    NoSpace {
        /// The bytes that were free.
        free_bytes: u64,
        /// The configured reserve.
        reserve_bytes: u64,
    },
    /// The snapshot is not what its manifest says.
    #[error("snapshot \"{snapshot}\" is damaged: {message}")]
    SnapshotDamaged {
        /// The snapshot.
        snapshot: String,
        /// What is wrong with it.
        #[serde(skip)]
        message: String,
    },
    /// Anything else.
    #[error("{message}")]
    #[serde(rename = "clone_failed")]
    Failed {
        /// What failed, on which path, with its causes.
        #[serde(skip)]
        message: String,
    },
}

impl CloneError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSpace { .. } => "no_disk_space",
            Self::SnapshotDamaged { .. } => "snapshot_damaged",
            Self::Failed { .. } => "clone_failed",
        }
    }
}

/// Whether a revision may be looked up on the remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Only in the local repository or mirror: no network, well under a millisecond, and perhaps as it was
    /// a second ago.
    Local,
    /// A missing revision, or a branch that was not looked at for a while, is fetched first.
    Fetch,
}

/// A revision of a project, and its migration listing there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit, as 40 hexadecimal digits.
    pub commit: String,
    /// The object id of the listing at that commit: equal listings have equal ids.
    pub listing: String,
}

/// Reads projects' repositories. Never writes to a user's repository.
#[async_trait]
pub trait RevisionSource: Send + Sync + 'static {
    /// The commit that `gitref` names, and its listing.
    async fn resolve(
        &self,
        project: &ProjectName,
        gitref: &str,
        freshness: Freshness,
    ) -> Result<Revision, RevisionError>;

    /// The migrations that a listing defines: its lines, without blank ones and `#` comments.
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
        /// The error of the fetch from the remote, if it failed. May hold a URL with credentials, so it is
        /// for the log alone.
        #[serde(skip)]
        fetch_failure: Option<String>,
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
    },
    /// The repository cannot be read.
    #[error("{message}")]
    #[serde(rename = "unreadable_repository")]
    Repository {
        /// The error with its causes. May hold paths, so it is for the log alone.
        #[serde(skip)]
        message: String,
    },
}

impl RevisionError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown_revision",
            Self::Ambiguous { .. } => "ambiguous_revision",
            Self::ListingMissing { .. } => "listing_missing",
            Self::Repository { .. } => "unreadable_repository",
        }
    }
}

/// Asks a running Postgres about itself.
#[async_trait]
pub trait ServerProbe: Send + Sync + 'static {
    /// What the backends with these process ids do, by `pg_stat_activity`. One that is gone is left out.
    async fn backend_activities(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
        process_ids: &[i32],
    ) -> Result<HashMap<i32, BackendActivity>, RuntimeError>;

    /// What Postgres does of its own accord that a stop would cut.
    async fn awake_reasons(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
    ) -> Result<Vec<AwakeReason>, RuntimeError>;

    /// Ends the backend with this process id by `pg_terminate_backend`: it sends its client 57P01.
    async fn terminate_backend(
        &self,
        endpoint: &Endpoint,
        superuser: &str,
        process_id: i32,
    ) -> Result<(), RuntimeError>;
}

/// What a backend does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendActivity {
    /// It waits for its client, outside any transaction.
    Idle,
    /// It waits for its client, outside any transaction, and its last statement was LISTEN.
    Listening,
    /// It waits for its client, inside a transaction.
    IdleInTransaction,
    /// It is in a COPY.
    InCopy {
        /// Whether it waits for its client to send more.
        waits: bool,
    },
    /// It sends its client what is written: a WAL sender.
    Replicating,
    /// It works.
    Active,
}

impl BackendActivity {
    /// What its session does, in the words of `multidb connection ls`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Listening => "listening",
            Self::IdleInTransaction => "idle in transaction",
            Self::InCopy { .. } => "in COPY",
            Self::Replicating => "replicating",
            Self::Active => "active",
        }
    }
}

/// The snapshots on disk. Its calls block.
pub trait SnapshotCatalog: Send + Sync + 'static {
    /// All complete snapshots. A directory that is damaged is left out, with a line in the log.
    fn load(&self) -> Result<Vec<SnapshotRecord>, CloneError>;

    /// Deletes a snapshot, by way of the trash.
    fn delete(&self, id: &multidb_store::SnapshotId) -> Result<(), CloneError>;
}
