//! Why a job fails, and why a request about one does.

use multidb_store::{JobFailure, JobId, JobState, ProjectName, SnapshotId, StoreError};

/// Why a request about jobs failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is no such job, or its record has left the history.
    #[error("job {id} does not exist")]
    NotFound {
        /// The job.
        id: JobId,
    },
    /// A job that has ended cannot be cancelled.
    #[error("job {id} has already ended: it is {}", state.name())]
    Ended {
        /// The job.
        id: JobId,
        /// Its state.
        state: JobState,
    },
    /// Another job makes the same snapshot.
    #[error("job {id} already makes snapshot \"{snapshot}\"")]
    SnapshotBusy {
        /// That job.
        id: JobId,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Another job refreshes the same project.
    #[error("job {id} already refreshes project \"{project}\"")]
    ProjectBusy {
        /// That job.
        id: JobId,
        /// The project.
        project: ProjectName,
    },
    /// The queue is full.
    #[error("{limit} jobs are queued, which is the limit")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// The daemon stops and begins nothing new.
    #[error("the daemon is stopping")]
    Stopping,
    /// The job could not be recorded, so it was not begun.
    #[error("the job could not be recorded")]
    Store(#[from] StoreError),
}

/// Why the work of a job ended without its result. Nothing is left of the work.
#[derive(Debug)]
pub enum WorkError {
    /// It ended because its cancellation token fired.
    Cancelled,
    /// It failed.
    Failed(JobFailure),
}
