//! Errors of file systems and manifests as errors of the actors' port.

use std::io;
use std::path::Path;

use multidb_actors::ports::{CloneError, DiskError};
use multidb_store::manifest::ManifestError;
use multidb_store::{DiskFault, error_chain};

use super::{TreeCloner, probe};
use crate::fsutil::beneath::TreeError;

impl TreeCloner {
    /// The error of a walk; `snapshot` is the snapshot that is walked, if any.
    pub(super) fn tree_failed(&self, error: TreeError, snapshot: Option<&str>) -> CloneError {
        match (error, snapshot) {
            (
                TreeError::Io {
                    action,
                    path,
                    source,
                },
                _,
            ) => self.io_failed(action, &path, &source),
            (error, Some(snapshot)) => CloneError::SnapshotDamaged {
                snapshot: snapshot.to_owned(),
                message: error.to_string(),
            },
            (error, None) => CloneError::Failed {
                message: format!("cannot clone it: {error}"),
            },
        }
    }

    pub(super) fn manifest_failed(&self, error: &ManifestError) -> CloneError {
        match error {
            ManifestError::Io(error) => self.io_failed(error.action, &error.path, &error.source),
            _ => CloneError::Failed {
                message: error_chain(error),
            },
        }
    }

    /// The error of a file system, with the free space if there is none left.
    pub(super) fn io_failed(&self, action: &str, path: &Path, error: &io::Error) -> CloneError {
        let no_space = DiskFault::of(error) == Some(DiskFault::Full);
        match probe::free_bytes(self.layout.root()) {
            Ok(free_bytes) if no_space => CloneError::NoSpace {
                free_bytes,
                reserve_bytes: self.reserve_bytes,
                missing_bytes: 0,
                taken: self.taken(),
            },
            _ => failed(action, path, error),
        }
    }
}

/// The error of an action on a path.
pub(crate) fn failed(action: &str, path: &Path, error: &io::Error) -> CloneError {
    match DiskError::of(action, path, error) {
        Some(error) => CloneError::Disk(error),
        None => CloneError::Failed {
            message: format!("cannot {action} {}: {error}", path.display()),
        },
    }
}

/// The refusal of a directory that multidb did not create, with its problem.
pub(crate) fn foreign(directory: &Path, problem: &str) -> CloneError {
    CloneError::Failed {
        message: format!(
            "{} was not created by multidb and is not touched: {problem}; inspect it and move it away",
            directory.display()
        ),
    }
}
