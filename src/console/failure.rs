//! The errors of [`Control`](crate::control::Control) as those of the console.
//!
//! Those that no statement of the console can meet are told by their message alone.

use multidb_actors::console::ConsoleError;
use multidb_store::{InstanceName, error_chain};

use crate::control::ControlError;

/// The error of a statement, which was about this instance.
pub(super) fn of(error: ControlError, instance: Option<InstanceName>) -> ConsoleError {
    match (error, instance) {
        (ControlError::NoSuchInstance(instance), _) => ConsoleError::NoSuchInstance { instance },
        (ControlError::NoSuchProject { project, known }, _) => {
            ConsoleError::NoSuchProject { project, known }
        }
        (ControlError::NoProject, _) => ConsoleError::NoProject,
        (ControlError::ProjectNeeded { known }, _) => ConsoleError::ProjectNeeded { known },
        (error @ ControlError::Denied { .. }, _) => ConsoleError::Denied {
            message: error.to_string(),
        },
        (ControlError::Instance(error), Some(instance)) => {
            ConsoleError::Instance { instance, error }
        }
        (ControlError::Choose(error), _) => ConsoleError::Choose(error),
        (ControlError::Storage(error), _) => ConsoleError::Storage(error),
        (ControlError::ActorEnded, _) => ConsoleError::Internal,
        (error, _) => {
            tracing::error!(
                code = error.code(),
                error = error_chain(&error),
                "a statement of the console met an error that none should"
            );
            ConsoleError::Internal
        }
    }
}
