//! The errors of work in a tree that another user can write.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

/// The error of work in a tree that another user can write.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Something else than a file or a directory.
    #[error("{} is a {kind}", path.display())]
    Foreign {
        /// Its path.
        path: PathBuf,
        /// Its kind, for a message.
        kind: &'static str,
    },
    /// A file that has another name, perhaps outside of the tree.
    #[error("{} has more than one hard link", path.display())]
    Linked {
        /// Its path.
        path: PathBuf,
    },
    /// A file that is longer than it may be.
    #[error("{} is longer than {bytes_max} bytes", path.display())]
    TooLong {
        /// Its path.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// Directories that are nested too deeply.
    #[error("{} is nested more than {depth_max} directories deep", path.display())]
    TooDeep {
        /// The first directory beyond the limit.
        path: PathBuf,
        /// The limit.
        depth_max: usize,
    },
    /// A mount point, or a subvolume of Btrfs, in the tree.
    #[error("{} is a subvolume or a mount point", path.display())]
    MountPoint {
        /// Its path.
        path: PathBuf,
    },
    /// A tree that grows or moves while it is deleted.
    #[error("{} is still being written to", path.display())]
    StillWritten {
        /// The top of the tree.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The action, as a verb.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl TreeError {
    /// The error of a system call on a path.
    pub(super) fn of_call(action: &'static str, path: &Path, error: Errno) -> Self {
        let path = path.to_owned();
        match error {
            // openat2 with RESOLVE_NO_SYMLINKS, and with RESOLVE_NO_XDEV.
            Errno::LOOP => Self::Foreign {
                path,
                kind: "symbolic link",
            },
            Errno::XDEV => Self::MountPoint { path },
            _ => Self::Io {
                action,
                path,
                source: error.into(),
            },
        }
    }

    /// The error of something that is neither a file nor a directory.
    pub(super) fn foreign(path: &Path, kind: FileType) -> Self {
        let kind = match kind {
            FileType::Symlink => "symbolic link",
            FileType::Fifo => "FIFO",
            FileType::Socket => "socket",
            FileType::CharacterDevice | FileType::BlockDevice => "device",
            FileType::Directory => "directory",
            FileType::RegularFile => "file",
            FileType::Unknown => "file of an unknown type",
        };
        Self::Foreign {
            path: path.to_owned(),
            kind,
        }
    }

    /// Whether the file or the directory does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The system's error, or one with the message: for callers that report the path themselves.
impl From<TreeError> for io::Error {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Io { source, .. } => source,
            other => Self::other(other.to_string()),
        }
    }
}
