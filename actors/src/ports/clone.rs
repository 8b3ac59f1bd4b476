//! Copy-on-write clones of data directories, as the actors see them.

use std::time::Duration;

use multidb_store::quarantine::Quarantined;
use multidb_store::{InstanceRecord, InstanceUid};
use serde::Serialize;

use super::{DiskError, SuperuserAccess};
use crate::text::disk_space;

/// Makes, deletes and measures clones. Its calls block: only CloneWorker's threads run them.
pub trait Cloner: Send + Sync + 'static {
    /// `btrfs-snapshot`, `reflink` or `copy`, as probed on the real directories.
    fn method(&self) -> &'static str;

    /// Makes the instance's directory: manifest and data. The clone is complete and durable on return; a
    /// failure leaves nothing. Idempotent.
    fn create(
        &self,
        record: &InstanceRecord,
        source: &CloneSource,
    ) -> Result<CloneReport, CloneError>;

    /// Deletes an instance's directory, by way of the trash. Idempotent.
    fn delete(&self, uid: InstanceUid) -> Result<(), CloneError>;

    /// Rewrites the instance's manifest durably: after a pin, or after a reset to a new clone.
    fn write_manifest(&self, record: &InstanceRecord) -> Result<(), CloneError>;

    /// The record in the clone's manifest; `None` where the clone has no directory.
    fn read_manifest(&self, uid: InstanceUid) -> Result<Option<InstanceRecord>, CloneError>;

    /// Moves a clone to the quarantine, for this reason. No server runs on it.
    fn quarantine(&self, uid: InstanceUid, why: &str) -> Result<(), CloneError>;

    /// The clones in the quarantine.
    fn quarantined(&self) -> Result<Vec<Quarantined>, CloneError>;

    /// Moves a clone back from the quarantine, with this record as its manifest.
    fn take_from_quarantine(&self, record: &InstanceRecord) -> Result<(), CloneError>;

    /// Why the data of this record cannot be used, as a start would say; `None` where it can.
    fn why_unusable(&self, record: &InstanceRecord) -> Result<Option<String>, CloneError>;

    /// The bytes exclusive to this clone.
    fn exclusive_bytes(&self, uid: InstanceUid) -> Result<u64, CloneError>;

    /// The bytes free on the root's file system.
    fn disk_free_bytes(&self) -> Result<u64, CloneError>;
}

/// The source of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloneSource {
    /// The record's snapshot.
    Snapshot,
    /// Another instance as it is now, whose sessions go on.
    Running {
        /// Its clone.
        uid: InstanceUid,
        /// Its server.
        server: SuperuserAccess,
    },
    /// The state that this earlier clone of the same instance began with; the record's snapshot where that is not kept.
    Base(InstanceUid),
}

/// The source that a clone was made from in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClonedFrom {
    /// The record's snapshot.
    Snapshot,
    /// Another instance.
    Instance,
    /// The state that an earlier clone of the same instance began with.
    Base,
    /// A clone of the record's snapshot that was kept ready.
    Prewarmed,
}

impl ClonedFrom {
    /// A word for it in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Instance => "instance",
            Self::Base => "base",
            Self::Prewarmed => "prewarmed",
        }
    }
}

impl From<&CloneSource> for ClonedFrom {
    fn from(source: &CloneSource) -> Self {
        match source {
            CloneSource::Snapshot => Self::Snapshot,
            CloneSource::Running { .. } => Self::Instance,
            CloneSource::Base(_) => Self::Base,
        }
    }
}

/// The cost of a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloneReport {
    /// The source that it was made from in the end.
    pub source: ClonedFrom,
    /// The number of cloned files; 0 if the file system cloned the tree in one step.
    pub files: u64,
    /// The duration.
    pub elapsed: Duration,
}

/// The bytes that are exclusive to single instances and snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// To instances.
    pub instances_bytes: u64,
    /// To snapshots.
    pub snapshots_bytes: u64,
}

/// Why a clone was not made, deleted or measured. The serialized form leaves paths and causes to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum CloneError {
    /// The file system is full, or has less free space than the reserve.
    #[error("no disk space: {}", disk_space(*.free_bytes, *.reserve_bytes))]
    #[serde(rename = "no_disk_space")]
    NoSpace {
        /// The free bytes.
        free_bytes: u64,
        /// The configured reserve.
        reserve_bytes: u64,
        /// The bytes that are missing, as far as that is known.
        missing_bytes: u64,
        /// The bytes that would be freed, if they are known.
        taken: Option<Taken>,
    },
    /// The server of the instance that is cloned did not do its part.
    #[error("the instance that it is cloned from cannot be copied while it runs: {message}")]
    ParentFailed {
        /// The cause, and advice.
        message: String,
    },
    /// The snapshot does not match its manifest.
    #[error("snapshot \"{snapshot}\" is damaged: {message}")]
    SnapshotDamaged {
        /// The snapshot.
        snapshot: String,
        /// The fault.
        #[serde(skip)]
        message: String,
    },
    /// The snapshot is not there any more.
    #[error("snapshot \"{snapshot}\" is gone")]
    SnapshotGone {
        /// The snapshot.
        snapshot: String,
    },
    /// Any other error.
    #[error("{message}")]
    #[serde(rename = "clone_failed")]
    Failed {
        /// The error with its path and causes.
        #[serde(skip)]
        message: String,
    },
    /// The disk is read-only, or failed.
    #[error(transparent)]
    #[serde(untagged)]
    Disk(#[from] DiskError),
}

impl CloneError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSpace { .. } => "no_disk_space",
            Self::SnapshotDamaged { .. } => "snapshot_damaged",
            Self::SnapshotGone { .. } => "snapshot_gone",
            Self::ParentFailed { .. } => "parent_failed",
            Self::Failed { .. } => "clone_failed",
            Self::Disk(error) => error.fault.code(),
        }
    }
}
