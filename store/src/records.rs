//! The durable types: a record for each instance and each job, a manifest for each snapshot.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceName, InstanceUid, ProjectName, SnapshotId};

mod job;

pub use self::job::{JobFailure, JobKind, JobRecord, JobState};

/// One instance, stored in sled and again in the manifest in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The name that clients use.
    pub name: InstanceName,
    /// The identity of its clone; a reset changes it.
    pub uid: InstanceUid,
    /// Grows by one with each reset. Of two clones with one name, the one with the higher generation is current.
    pub generation: u64,
    /// The operation on the clone, written before it begins.
    pub phase: Phase,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// The snapshot that it was cloned from.
    pub snapshot: SnapshotId,
    /// The revision that the client named at creation, if any.
    pub gitref: Option<String>,
    /// The commit of that revision at creation, as 40 hexadecimal digits.
    pub commit: Option<String>,
    /// The multidb user who created it.
    pub created_by: String,
    /// The major version of Postgres that its data needs.
    pub postgres_major: u16,
    /// A superuser role of the cluster, for multidb's own queries.
    pub superuser: String,
    /// When it was created; a reset does not change it.
    pub created_at: Timestamp,
    /// When a session last began or ended, or was last seen open.
    pub last_used_at: Timestamp,
    /// Whether retention may delete it.
    pub pin: Pin,
}

/// The progress of an instance's clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The clone is being made; no client has been told of it.
    Cloning,
    /// The clone is complete.
    Ready,
    /// The clone is being deleted.
    Deleting,
}

/// Whether retention may delete an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// It expires after the retention time without use.
    None,
    /// It never expires.
    Forever,
    /// It does not expire before this time.
    Until(Timestamp),
}

/// One snapshot: the manifest in its directory, which is its only record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its id.
    pub id: SnapshotId,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// When its data was taken from the source database.
    pub taken_at: Timestamp,
    /// When the import ended.
    pub imported_at: Timestamp,
    /// The major version of Postgres that wrote it.
    pub postgres_major: u16,
    /// A superuser role of the cluster.
    pub superuser: String,
    /// The sum of its files' sizes, in bytes.
    pub bytes: u64,
    /// The number of its files, which determines the duration of a clone by reflink.
    pub files: u64,
    /// The applied migrations, sorted, each once.
    pub migrations: Vec<String>,
    /// Its origin, for people: `dump /backups/monday.dump`.
    pub source: String,
}
