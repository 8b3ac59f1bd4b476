//! The store's error, and its classification.

use std::io;
use std::path::PathBuf;

use crate::codec::CodecError;
use crate::manifest;

/// A failure to read or write records.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the database open.
    #[error("another multidb serves {}", .path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// sled failed.
    #[error("the database failed to {action}")]
    Database {
        /// The operation.
        action: &'static str,
        /// The cause.
        #[source]
        source: sled::Error,
    },
    /// sled panicked, which it does on some damage.
    #[error("the database is damaged: {message}")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// A record is broken.
    #[error("record \"{key}\" in tree \"{tree}\" is broken")]
    Record {
        /// The tree.
        tree: &'static str,
        /// The key.
        key: String,
        /// The cause.
        #[source]
        source: CodecError,
    },
    /// A file could not be read, written or moved.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The instances' directories cannot be listed.
    #[error(transparent)]
    Manifest(#[from] manifest::ManifestError),
}

impl StoreError {
    /// Whether the disk was full.
    pub fn is_out_of_space(&self) -> bool {
        let kind = self.io().map(io::Error::kind);
        matches!(
            kind,
            Some(
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge
            )
        )
    }

    /// Whether the open database failed. It may work again once it is reopened.
    pub(super) fn is_of_database(&self) -> bool {
        matches!(
            self,
            Self::Database { .. } | Self::Io { .. } | Self::Panicked { .. }
        )
    }

    /// Whether a new database in its place would help. It does not where the disk is full, or where file
    /// descriptors or permissions are missing.
    pub(super) fn is_damage(&self) -> bool {
        let Some(error) = self.io() else {
            return true;
        };
        let of_machine = matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::OutOfMemory
        );
        let full = rustix::io::Errno::from_io_error(error).is_some_and(|errno| {
            errno == rustix::io::Errno::MFILE || errno == rustix::io::Errno::NFILE
        });
        !of_machine && !full && !self.is_out_of_space()
    }

    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Database {
                source: sled::Error::Io(error),
                ..
            } => Some(error),
            Self::Io { source, .. } => Some(source),
            Self::Locked { .. }
            | Self::Database { .. }
            | Self::Panicked { .. }
            | Self::Record { .. }
            | Self::Manifest(_) => None,
        }
    }
}
