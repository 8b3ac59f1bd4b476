//! The records of multidb: one for each instance and each job, and a manifest for each snapshot.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceName, InstanceUid, ProjectName, SnapshotId};

mod job;

pub use self::job::{JobFailure, JobKind, JobRecord, JobState};

/// One instance, as sled holds it and as the manifest in its directory repeats it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The name that clients use.
    pub name: InstanceName,
    /// The clone that holds its data; a reset changes it.
    pub uid: InstanceUid,
    /// Grows by one with each reset. Of two clones of one name, the higher one is the instance.
    pub generation: u64,
    /// What is being done with the clone: an intent, written before the act.
    pub phase: Phase,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// The snapshot that it was cloned from.
    pub snapshot: SnapshotId,
    /// The revision that the client named at creation, if it chose by revision.
    pub gitref: Option<String>,
    /// The commit that the revision meant at creation, as 40 hexadecimal digits.
    pub commit: Option<String>,
    /// The multidb user who created it.
    pub created_by: String,
    /// The major version of Postgres that its data needs.
    pub postgres_major: u16,
    /// A superuser role of the cluster, for multidb's own questions to it.
    pub superuser: String,
    /// When it was created; a reset does not change it.
    pub created_at: Timestamp,
    /// When a session last began or ended, or was seen to go on. Written at these moments, so it is exact to
    /// the last one that was flushed.
    pub last_used_at: Timestamp,
    /// Whether retention may delete it.
    pub pin: Pin,
}

/// How far an instance's clone is, as the record claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The clone is being made; no client was told that it is there.
    Cloning,
    /// The clone is complete.
    Ready,
    /// The clone is to be deleted.
    Deleting,
}

/// Whether retention may delete an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// It expires when it was not used for the retention time.
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
    /// The number of its files: what a clone by reflink costs.
    pub files: u64,
    /// The applied migrations, sorted, each once.
    pub migrations: Vec<String>,
    /// Where it came from, for people: `dump /backups/monday.dump`.
    pub source: String,
}
