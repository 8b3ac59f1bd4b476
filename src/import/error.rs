//! Why an import failed, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use multidb_actors::ports::{CloneError, RuntimeError, StartError};
use multidb_store::SnapshotId;
use multidb_store::manifest::ManifestError;
use tokio::task::JoinError;

use super::script::ScriptError;

/// Why an import failed. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The id is taken.
    #[error("snapshot \"{id}\" exists")]
    Exists {
        /// The id.
        id: SnapshotId,
    },
    /// An import under this id goes on, or is being cleaned up.
    #[error("an import of snapshot \"{id}\" is under way")]
    UnderWay {
        /// The id.
        id: SnapshotId,
    },
    /// The source is not what can be imported.
    #[error("cannot import {}: {problem}", .path.display())]
    Refused {
        /// The data directory or the dump.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// psql, pg_restore or initdb failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// The dump is damaged.
    #[error("cannot import {}", .path.display())]
    Script {
        /// The dump.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ScriptError,
    },
    /// The applied migrations could not be read.
    #[error("cannot read the applied migrations from database \"{database}\": {problem}")]
    Migrations {
        /// The database.
        database: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The server of the import refused a statement of ours.
    #[error("cannot {action}: {message}")]
    Server {
        /// What was tried.
        action: &'static str,
        /// What Postgres said.
        message: String,
    },
    /// The server of the import did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A tree of files could not be made or removed.
    #[error(transparent)]
    Clone(#[from] CloneError),
    /// The manifest could not be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file could not be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The caller cancelled it or has gone, or the daemon stops.
    #[error("the import was cancelled")]
    Cancelled,
    /// A task of the import panicked; the log has the panic.
    #[error("the import failed unexpectedly")]
    Panicked,
}

impl From<JoinError> for ImportError {
    /// Tasks are aborted only when the daemon's tokio runtime shuts down.
    fn from(error: JoinError) -> Self {
        if error.is_panic() {
            Self::Panicked
        } else {
            Self::Cancelled
        }
    }
}

impl ImportError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What to do about it, in a sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => {
                Some("Choose another id, or remove that snapshot first.".to_owned())
            }
            Self::UnderWay { .. } => {
                Some("Wait until it has ended, or choose another id.".to_owned())
            }
            Self::Refused { hint, .. } | Self::Migrations { hint, .. } => Some(hint.clone()),
            Self::Script { .. } => Some("Make the dump again.".to_owned()),
            Self::Clone(CloneError::NoSpace { .. }) => Some(
                "Remove snapshots or instances that nobody needs, or lower limits.disk_reserve."
                    .to_owned(),
            ),
            Self::Runtime(error) | Self::Start(StartError::Runtime(error)) => error.hint.clone(),
            _ => None,
        }
    }

    /// More about it: the last lines of Postgres' log.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Start(StartError::Exited { log, .. }) => Some(log.join("\n")),
            _ => None,
        }
    }
}

/// The source is not what can be imported.
pub(super) fn refused(
    path: &Path,
    problem: impl Into<String>,
    hint: impl Into<String>,
) -> ImportError {
    ImportError::Refused {
        path: path.to_owned(),
        problem: problem.into(),
        hint: hint.into(),
    }
}
