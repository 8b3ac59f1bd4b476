//! Why no snapshot was chosen.

use jiff::Timestamp;
use multidb_store::{ProjectName, SnapshotId};
use serde::Serialize;

use super::decision::NearestMiss;
use crate::ports::RevisionError;
use crate::request::Source;
use crate::text::quoted;

/// Why no snapshot was chosen for a new instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum ChooseError {
    /// The project has no snapshot of this id.
    #[error("project \"{project}\" has no snapshot \"{snapshot}\"")]
    NoSuchSnapshot {
        /// The project.
        project: ProjectName,
        /// The requested snapshot.
        snapshot: SnapshotId,
    },
    /// The project has no snapshots.
    #[error("project \"{project}\" has no snapshots")]
    NoSnapshots {
        /// The project.
        project: ProjectName,
    },
    /// All snapshots of the project are newer than requested.
    #[error("project \"{project}\" has no snapshot taken on or before {}", Source::time_text(*.time))]
    NoSnapshotAsOf {
        /// The project.
        project: ProjectName,
        /// The requested time.
        time: Timestamp,
        /// The time of the oldest snapshot.
        oldest: Timestamp,
    },
    /// No snapshot of the project is compatible with the revision.
    #[error(
        "no snapshot of project \"{project}\" is compatible with revision {}",
        quoted(gitref)
    )]
    NoCompatibleSnapshot {
        /// The project.
        project: ProjectName,
        /// The requested revision.
        gitref: String,
        /// The snapshot that lacks the fewest definitions.
        nearest: NearestMiss,
    },
    /// The index does not answer: the daemon is stopping, or the actor ended by a defect.
    #[error("the snapshot index does not answer")]
    IndexUnavailable,
    /// The revision or its listing could not be read.
    #[error(transparent)]
    #[serde(untagged)]
    Revision(#[from] RevisionError),
}

impl ChooseError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchSnapshot { .. } => "no_such_snapshot",
            Self::NoSnapshots { .. } => "no_snapshots",
            Self::NoSnapshotAsOf { .. } => "no_snapshot_as_of",
            Self::NoCompatibleSnapshot { .. } => "no_compatible_snapshot",
            Self::IndexUnavailable => "index_unavailable",
            Self::Revision(error) => error.code(),
        }
    }
}
