//! Why the store fails, and what follows from it.

use std::io;
use std::path::PathBuf;

use crate::codec::CodecError;
use crate::manifest;

/// Why the records cannot be read or written.
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
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: sled::Error,
    },
    /// sled panicked, which it does on some damage.
    #[error("the database is damaged: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// A record is broken.
    #[error("record \"{key}\" in tree \"{tree}\" is broken")]
    Record {
        /// The tree.
        tree: &'static str,
        /// The key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// A file could not be read, written or moved.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The instances' directories cannot be listed.
    #[error(transparent)]
    Manifest(#[from] manifest::ManifestError),
}

impl StoreError {
    /// Whether there was no room for a write.
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

    /// Whether the database itself failed: it is of no use any more, and may be again once it is opened anew.
    pub(super) fn is_of_database(&self) -> bool {
        matches!(
            self,
            Self::Database { .. } | Self::Io { .. } | Self::Panicked { .. }
        )
    }

    /// Whether another database in its place would help: not against a machine that has no room, no file
    /// descriptor or no right for it.
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
