//! The errors of the service, as domain facts.
//!
//! Each has a message (`Display`), a stable [`code`](ControlError::code), and for people a detail.
//! A face adds its own status and hints: `admin/server/failure.rs` for HTTP.

use std::io;
use std::path::PathBuf;

use actix::MailboxError;
use multidb_actors::instance::InstanceError;
use multidb_actors::ports::{CloneError, RuntimeError};
use multidb_actors::project::ProjectError;
use multidb_actors::sessions::ConnectionId;
use multidb_actors::snapshot_index::ChooseError;
use multidb_actors::supervisor::{AcquireError, RecoverError, RemoveSnapshotError, RenameError};
use multidb_store::{InstanceName, JobId, ProjectName, SnapshotId};

use crate::config::ConfigFaults;
use crate::diff::DiffError;
use crate::jobs::JobError;

/// The reason why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no instance of this name, or the caller may not know of it.
    #[error("instance \"{0}\" does not exist")]
    NoSuchInstance(InstanceName),
    /// There is no snapshot of this id, or the caller may not know of it.
    #[error("snapshot \"{0}\" does not exist")]
    NoSuchSnapshot(SnapshotId),
    /// There is no job of this number, or the caller may not know of it.
    #[error("job {0} does not exist")]
    NoSuchJob(JobId),
    /// There is no session of this number, or the caller may not know of it.
    #[error("connection {0} does not exist")]
    NoSuchConnection(ConnectionId),
    /// No project was chosen.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// Instances were cloned from the snapshot and need it for a reset.
    #[error("snapshot \"{snapshot}\" is in use")]
    SnapshotInUse {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The first of the instances, by name.
        instances: Vec<InstanceName>,
        /// The number of all of them.
        instances_total: usize,
    },
    /// The id of the new snapshot is taken.
    #[error("snapshot \"{0}\" exists")]
    SnapshotExists(SnapshotId),
    /// The daemon cannot open the dump, which its client may be able to.
    #[error("cannot open {}", .path.display())]
    DumpUnreadable {
        /// The dump.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The job waits for no dump, or has it already.
    #[error("job {0} waits for no dump")]
    NoDumpExpected(JobId),
    /// The dump that a client sent ended early, so that its job fails.
    #[error("the dump for job {0} ended early")]
    DumpIncomplete(JobId),
    /// The project has no source to refresh from.
    #[error("project \"{0}\" has no source to refresh from")]
    NoRefreshSource(ProjectName),
    /// The registry of jobs did not carry out the request.
    #[error(transparent)]
    Job(JobError),
    /// A value of the request is invalid.
    #[error("{0}")]
    InvalidArgument(String),
    /// The caller has no right to do this.
    #[error("{caller} may not {attempt}")]
    Denied {
        /// The caller, for people.
        caller: String,
        /// The attempt, as an infinitive.
        attempt: &'static str,
    },
    /// Nothing was recovered.
    #[error(transparent)]
    Recover(RecoverError),
    /// The instance keeps its name.
    #[error(transparent)]
    Rename(RenameError),
    /// The instance did not carry out its command.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The name of the new instance is taken.
    #[error("instance \"{0}\" exists")]
    InstanceExists(InstanceName),
    /// The instance was not created.
    #[error(transparent)]
    Acquire(AcquireError),
    /// No snapshot could be chosen.
    #[error(transparent)]
    Choose(#[from] ChooseError),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A file could not be read, written or deleted.
    #[error(transparent)]
    Storage(#[from] CloneError),
    /// Instances were not compared.
    #[error(transparent)]
    Diff(DiffError),
    /// The file of users has faults.
    #[error(transparent)]
    Users(#[from] ConfigFaults),
    /// An actor or thread of the daemon ended by a defect; the log has the cause.
    #[error("internal error")]
    ActorEnded,
}

impl From<RemoveSnapshotError> for ControlError {
    fn from(error: RemoveSnapshotError) -> Self {
        match error {
            RemoveSnapshotError::NoSuchSnapshot { snapshot } => Self::NoSuchSnapshot(snapshot),
            RemoveSnapshotError::SnapshotInUse {
                snapshot,
                instances,
                instances_total,
            } => Self::SnapshotInUse {
                snapshot,
                instances,
                instances_total,
            },
            RemoveSnapshotError::IndexUnavailable => Self::ActorEnded,
        }
    }
}

impl From<RecoverError> for ControlError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Instance(error) => Self::Instance(error),
            error => Self::Recover(error),
        }
    }
}

impl From<DiffError> for ControlError {
    fn from(error: DiffError) -> Self {
        match error {
            DiffError::Storage(error) => Self::Storage(error),
            error => Self::Diff(error),
        }
    }
}

impl From<RenameError> for ControlError {
    fn from(error: RenameError) -> Self {
        match error {
            RenameError::NoSuchInstance { instance } => Self::NoSuchInstance(instance),
            RenameError::NameTaken { instance } => Self::InstanceExists(instance),
            error => Self::Rename(error),
        }
    }
}

impl From<MailboxError> for ControlError {
    fn from(error: MailboxError) -> Self {
        tracing::error!(%error, "an actor did not answer");
        Self::ActorEnded
    }
}

impl From<JobError> for ControlError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::NotFound { id } => Self::NoSuchJob(id),
            error => Self::Job(error),
        }
    }
}

impl ControlError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchInstance(_) => "no_such_instance",
            Self::NoSuchSnapshot(_) => "no_such_snapshot",
            Self::NoSuchJob(_) | Self::Job(JobError::NotFound { .. }) => "no_such_job",
            Self::NoSuchConnection(_) => "no_such_connection",
            Self::Project(error) => error.code(),
            Self::SnapshotInUse { .. } => "snapshot_in_use",
            Self::SnapshotExists(_) => "snapshot_exists",
            Self::DumpUnreadable { .. } => "dump_unreadable",
            Self::NoDumpExpected(_) => "no_dump_expected",
            Self::DumpIncomplete(_) => "dump_incomplete",
            Self::Job(JobError::Ended { .. }) => "job_ended",
            Self::Job(JobError::SnapshotBusy { .. }) => "snapshot_busy",
            Self::NoRefreshSource(_) => "no_refresh_source",
            Self::Job(JobError::ProjectBusy { .. }) => "refresh_running",
            Self::Job(JobError::QueueFull { .. }) => "job_queue_full",
            Self::Job(JobError::Stopping) => "daemon_stopping",
            Self::Job(JobError::Store(_)) => "storage_failed",
            Self::InvalidArgument(_) => "invalid_argument",
            Self::Denied { .. } => "denied",
            Self::Recover(RecoverError::NothingToRecover { .. }) => "nothing_to_recover",
            Self::Recover(RecoverError::InstanceExists { .. }) => "instance_exists",
            Self::Recover(RecoverError::ManifestUnusable { .. }) => "manifest_unusable",
            Self::Recover(RecoverError::Storage(error)) => error.code(),
            Self::Instance(error) | Self::Recover(RecoverError::Instance(error)) => error.code(),
            Self::InstanceExists(_) | Self::Rename(RenameError::NameTaken { .. }) => {
                "instance_exists"
            }
            Self::Rename(RenameError::NoSuchInstance { .. }) => "no_such_instance",
            Self::Rename(RenameError::NameLeft { .. }) => "name_left",
            Self::Rename(RenameError::Unsettled { .. }) => "instance_unsettled",
            Self::Rename(RenameError::ShuttingDown) => "shutting_down",
            Self::Rename(RenameError::Storage(error)) => error.code(),
            Self::Acquire(error) => error.code(),
            Self::Choose(error) => error.code(),
            Self::Runtime(_) => "runtime_failed",
            Self::Storage(error) => error.code(),
            Self::Diff(error) => error.code(),
            Self::Users(_) => "users_invalid",
            Self::ActorEnded => "internal",
        }
    }
}
