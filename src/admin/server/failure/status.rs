//! The HTTP status of errors.

use std::time::Duration;

use actix_web::http::StatusCode;
use multidb_actors::auth::DenyReason;
use multidb_actors::instance::InstanceError;
use multidb_actors::ports::RevisionError;
use multidb_actors::project::ProjectError;
use multidb_actors::snapshot_index::ChooseError;
use multidb_actors::supervisor::{AcquireError, RecoverError, RenameError};

use crate::control::ControlError;
use crate::diff::DiffError;
use crate::jobs::JobError;

/// The status of an error.
pub(super) fn status(error: &ControlError) -> StatusCode {
    match error {
        ControlError::NoSuchInstance(_)
        | ControlError::NoSuchSnapshot(_)
        | ControlError::NoSuchJob(_)
        | ControlError::NoSuchConnection(_)
        | ControlError::Job(JobError::NotFound { .. })
        | ControlError::Recover(RecoverError::NothingToRecover { .. })
        | ControlError::Instance(InstanceError::Deleted) => StatusCode::NOT_FOUND,
        ControlError::InvalidArgument(_)
        | ControlError::DumpUnreadable { .. }
        | ControlError::DumpIncomplete(_) => StatusCode::BAD_REQUEST,
        ControlError::SnapshotInUse { .. }
        | ControlError::SnapshotExists(_)
        | ControlError::InstanceExists(_)
        | ControlError::Rename(
            RenameError::NameTaken { .. }
            | RenameError::NameLeft { .. }
            | RenameError::Unsettled { .. }
            | RenameError::ShuttingDown,
        )
        | ControlError::NoDumpExpected(_)
        | ControlError::NoRefreshSource(_)
        | ControlError::Job(
            JobError::Ended { .. }
            | JobError::SnapshotBusy { .. }
            | JobError::ProjectBusy { .. }
            | JobError::QueueFull { .. }
            | JobError::Stopping,
        )
        | ControlError::Recover(
            RecoverError::InstanceExists { .. } | RecoverError::ManifestUnusable { .. },
        )
        | ControlError::Diff(DiffError::Unread { .. } | DiffError::TooLong { .. })
        | ControlError::Instance(
            InstanceError::Stopped
            | InstanceError::DataUnusable { .. }
            | InstanceError::OverLimit(_),
        ) => StatusCode::CONFLICT,
        ControlError::Denied { .. } => StatusCode::FORBIDDEN,
        ControlError::Instance(
            InstanceError::StartTimeout { .. }
            | InstanceError::NoSlot { .. }
            | InstanceError::NoMemory { .. },
        ) => StatusCode::SERVICE_UNAVAILABLE,
        ControlError::Choose(error) => choose_status(error),
        ControlError::Acquire(error) => acquire_status(error),
        ControlError::Project(error) => project_status(error),
        ControlError::Rename(RenameError::NoSuchInstance { .. }) => StatusCode::NOT_FOUND,
        ControlError::Instance(_)
        | ControlError::Rename(RenameError::Storage(_))
        | ControlError::Recover(RecoverError::Storage(_) | RecoverError::Instance(_))
        | ControlError::Runtime(_)
        | ControlError::Storage(_)
        | ControlError::Diff(_)
        | ControlError::Job(JobError::Store(_))
        | ControlError::Users(_)
        | ControlError::ActorEnded => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn acquire_status(error: &AcquireError) -> StatusCode {
    match error {
        AcquireError::NoSuchParent { .. } | AcquireError::NoSuchInstance { .. } => {
            StatusCode::NOT_FOUND
        }
        AcquireError::TtlTooLong { .. } => StatusCode::BAD_REQUEST,
        AcquireError::InstanceOfOtherProject { .. } => StatusCode::CONFLICT,
        AcquireError::Project(error) => project_status(error),
        AcquireError::Denied(DenyReason::TooManyCreations { .. }) => StatusCode::TOO_MANY_REQUESTS,
        AcquireError::Denied(_) => StatusCode::FORBIDDEN,
        AcquireError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        AcquireError::Choose(error) => choose_status(error),
        AcquireError::GivenUp { .. }
        | AcquireError::Parent { .. }
        | AcquireError::Unavailable { .. }
        | AcquireError::Unanswered => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn project_status(error: &ProjectError) -> StatusCode {
    match error {
        ProjectError::NoSuchProject { .. } => StatusCode::NOT_FOUND,
        ProjectError::ProjectNeeded { .. } => StatusCode::BAD_REQUEST,
        ProjectError::NoProject => StatusCode::CONFLICT,
    }
}

fn choose_status(error: &ChooseError) -> StatusCode {
    match error {
        ChooseError::NoSuchSnapshot { .. }
        | ChooseError::NoSnapshots { .. }
        | ChooseError::NoSnapshotAsOf { .. } => StatusCode::NOT_FOUND,
        ChooseError::Revision(
            RevisionError::Unknown { .. }
            | RevisionError::Expression { .. }
            | RevisionError::Ambiguous { .. }
            | RevisionError::ListingMissing { .. }
            | RevisionError::ListingNotUnderstood { .. },
        ) => StatusCode::BAD_REQUEST,
        ChooseError::NoCompatibleSnapshot { .. } => StatusCode::CONFLICT,
        ChooseError::Revision(RevisionError::BeingFetched) => StatusCode::SERVICE_UNAVAILABLE,
        ChooseError::IndexUnavailable
        | ChooseError::Revision(RevisionError::Repository { .. } | RevisionError::Disk(_)) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// How long the client should wait before it tries again, where that is known.
pub(super) fn retry_after(error: &ControlError) -> Option<Duration> {
    let retry = match error {
        // The creations within a minute are counted.
        ControlError::Acquire(AcquireError::Denied(DenyReason::TooManyCreations { .. })) => 60,
        ControlError::Choose(ChooseError::Revision(RevisionError::BeingFetched))
        | ControlError::Instance(InstanceError::NoSlot { .. } | InstanceError::NoMemory { .. }) => {
            5
        }
        _ => return None,
    };
    Some(Duration::from_secs(retry))
}
