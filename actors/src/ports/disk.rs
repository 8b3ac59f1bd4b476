//! Faults of the disk, as the actors and their clients see them.

use std::io;
use std::path::Path;

use multidb_store::DiskFault;
use serde::Serialize;

/// The disk of the root refused something, or failed. The serialized form leaves the path to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct DiskError {
    /// The kind of fault.
    #[serde(rename = "code")]
    pub fault: DiskFault,
    /// The error with its path and causes.
    #[serde(skip)]
    pub message: String,
    /// The last lines of Postgres' log, oldest first, where Postgres met the fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl DiskError {
    /// The error that this message tells of, if it tells of a fault of the disk.
    pub fn in_text(message: &str) -> Option<Self> {
        Some(Self {
            fault: DiskFault::in_text(message)?,
            message: message.to_owned(),
            log: Vec::new(),
        })
    }

    /// The error of an action on a path, if it is a fault of the disk.
    pub fn of(action: &str, path: &Path, error: &io::Error) -> Option<Self> {
        Some(Self {
            fault: DiskFault::of(error)?,
            message: format!("cannot {action} {}: {error}", path.display()),
            log: Vec::new(),
        })
    }
}
