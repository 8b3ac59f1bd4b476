//! The store's error, and its classification.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::codec::CodecError;
use crate::disk_fault::{DiskFault, FileError};
use crate::manifest::ManifestError;

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
    #[error(transparent)]
    Io(#[from] FileError),
    /// The instances' directories cannot be listed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl StoreError {
    /// The fault of the disk that it tells of, if any.
    pub fn disk_fault(&self) -> Option<DiskFault> {
        self.os_error().and_then(DiskFault::of_code)
    }

    /// Whether nothing can be written for now: the disk is full, or read-only.
    pub fn is_unwritable(&self) -> bool {
        matches!(
            self.disk_fault(),
            Some(DiskFault::Full | DiskFault::ReadOnly)
        )
    }

    /// Whether the open database failed. It may work again once it is reopened.
    pub(super) fn is_of_database(&self) -> bool {
        matches!(
            self,
            Self::Database { .. } | Self::Io(_) | Self::Panicked { .. }
        )
    }

    /// Whether a new database in its place would help: its bytes or its files are wrong. An error of the device, a
    /// lack of space, descriptors or permissions, and records of a newer multidb are no damage.
    pub(super) fn is_damage(&self) -> bool {
        let of_files = [
            Errno::NOENT.raw_os_error(),
            Errno::NOTDIR.raw_os_error(),
            Errno::ISDIR.raw_os_error(),
        ];
        match (self, self.os_error()) {
            (Self::Manifest(_) | Self::Locked { .. }, _) => false,
            (
                Self::Record {
                    source: CodecError::Version { .. },
                    ..
                },
                _,
            ) => false,
            (_, Some(code)) => of_files.contains(&code),
            (_, None) => true,
        }
    }

    /// The error number of the system, if it refused something.
    fn os_error(&self) -> Option<i32> {
        match self {
            Self::Panicked { message } => os_error_in(message),
            _ => {
                let error = self.io()?;
                // sled wraps errors in others that have their cause only in the text.
                error
                    .raw_os_error()
                    .or_else(|| os_error_in(&error.to_string()))
            }
        }
    }

    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Database {
                source: sled::Error::Io(error),
                ..
            } => Some(error),
            Self::Io(error) | Self::Manifest(ManifestError::Io(error)) => Some(&error.source),
            Self::Locked { .. }
            | Self::Database { .. }
            | Self::Panicked { .. }
            | Self::Record { .. }
            | Self::Manifest(_) => None,
        }
    }
}

/// The number in the debug form of an error of the system: `Os { code: 5, kind: …`.
fn os_error_in(text: &str) -> Option<i32> {
    let (_, rest) = text.split_once("Os { code: ")?;
    rest.split_once(',')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io_error(source: io::Error) -> StoreError {
        let action = "open";
        StoreError::Database {
            action,
            source: sled::Error::Io(source),
        }
    }

    #[test]
    fn errors_of_the_device_are_no_damage() {
        for errno in [
            Errno::IO,
            Errno::ROFS,
            Errno::NOSPC,
            Errno::MFILE,
            Errno::ACCESS,
            Errno::DQUOT,
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            let message = format!("called `Result::unwrap()` on an `Err` value: Io({error:?})");
            let wrapped = io::Error::other(format!("could not: {error:?}"));
            for error in [
                io_error(error),
                io_error(wrapped),
                StoreError::Panicked { message },
            ] {
                assert!(!error.is_damage(), "{error:?}");
            }
        }
        let newer = StoreError::Record {
            tree: "instances",
            key: "a".to_owned(),
            source: CodecError::Version {
                version: 9,
                newest: 2,
            },
        };
        assert!(!newer.is_damage());
    }

    #[test]
    fn wrong_bytes_are_damage() {
        let message = "assertion failed".to_owned();
        for error in [
            io_error(io::Error::new(
                io::ErrorKind::InvalidData,
                "a wrong checksum",
            )),
            io_error(io::Error::from_raw_os_error(Errno::NOTDIR.raw_os_error())),
            StoreError::Panicked { message },
            StoreError::Database {
                action: "read",
                source: sled::Error::ReportableBug(String::new()),
            },
        ] {
            assert!(error.is_damage(), "{error:?}");
        }
    }
}
