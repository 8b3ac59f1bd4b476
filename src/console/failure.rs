//! The errors of [`Control`](crate::control::Control) as errors of the console.
//!
//! Errors that no statement of the console can meet are internal errors.

use multidb_actors::console::ConsoleError;
use multidb_store::{InstanceName, error_chain};

use crate::control::ControlError;

/// The error of a statement, which was about this instance.
pub(super) fn of(error: ControlError, instance: Option<InstanceName>) -> ConsoleError {
    match (error, instance) {
        (ControlError::NoSuchInstance(instance), _) => ConsoleError::NoSuchInstance { instance },
        (ControlError::Project(error), _) => ConsoleError::Project(error),
        (error @ ControlError::Denied { .. }, _) => ConsoleError::Denied {
            message: error.to_string(),
        },
        (ControlError::Instance(error), Some(instance)) => {
            ConsoleError::Instance { instance, error }
        }
        (ControlError::Choose(error), _) => ConsoleError::Choose(error),
        (ControlError::Storage(error), _) => ConsoleError::Storage(error),
        (ControlError::ActorEnded, _) => ConsoleError::Internal,
        // Listed, so that a new error is given a place.
        (
            error @ (ControlError::Instance(_)
            | ControlError::NoSuchSnapshot(_)
            | ControlError::NoSuchJob(_)
            | ControlError::NoSuchConnection(_)
            | ControlError::SnapshotInUse { .. }
            | ControlError::SnapshotExists(_)
            | ControlError::DumpUnreadable { .. }
            | ControlError::NoDumpExpected(_)
            | ControlError::DumpIncomplete(_)
            | ControlError::NoRefreshSource(_)
            | ControlError::Job(_)
            | ControlError::InvalidArgument(_)
            | ControlError::Recover(_)
            | ControlError::Rename(_)
            | ControlError::InstanceExists(_)
            | ControlError::Acquire(_)
            | ControlError::Runtime(_)
            | ControlError::Diff(_)
            | ControlError::Users(_)),
            _,
        ) => {
            tracing::error!(
                code = error.code(),
                error = error_chain(&error),
                "a statement of the console met an error that none should"
            );
            ConsoleError::Internal
        }
    }
}
