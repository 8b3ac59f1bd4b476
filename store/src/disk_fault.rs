//! Faults of a disk and of its file system. They are no damage: the data on the disk may be as good as ever.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A fault of a disk, whatever is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum DiskFault {
    /// It has no room, or a quota is used up.
    #[serde(rename = "no_disk_space")]
    Full,
    /// Its file system is read-only. The kernel makes it so after some errors of the device.
    #[serde(rename = "read_only_disk")]
    ReadOnly,
    /// The device or its file system failed.
    #[serde(rename = "disk_failed")]
    Device,
}

impl DiskFault {
    const ALL: [Self; 3] = [Self::Full, Self::ReadOnly, Self::Device];

    /// The errors of the system that tell of it.
    fn errors(self) -> &'static [Errno] {
        match self {
            // The last one is of a limit on a file's size.
            Self::Full => &[Errno::NOSPC, Errno::DQUOT, Errno::FBIG],
            Self::ReadOnly => &[Errno::ROFS],
            Self::Device => &[
                Errno::IO,
                Errno::NXIO,
                Errno::NODEV,
                Errno::REMOTEIO,
                // The file system's own structures are wrong: EFSCORRUPTED and EFSBADCRC.
                Errno::UCLEAN,
                Errno::BADMSG,
            ],
        }
    }

    /// The fault that this number of an error tells of.
    pub fn of_code(code: i32) -> Option<Self> {
        let has = |fault: &Self| fault.errors().iter().any(|one| one.raw_os_error() == code);
        Self::ALL.into_iter().find(has)
    }

    /// The fault that this error tells of.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.raw_os_error().and_then(Self::of_code)
    }

    /// The fault that a message of another program tells of, such as Postgres, git or the Docker engine.
    pub fn in_text(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let has = |fault: &Self| {
            let texts: &[&str] = match fault {
                Self::Full => &["no space left on device", "disk quota exceeded"],
                Self::ReadOnly => &["read-only file system"],
                Self::Device => &["input/output error", "structure needs cleaning"],
            };
            texts.iter().any(|one| text.contains(one))
        };
        Self::ALL.into_iter().find(has)
    }

    /// The stable word for programs, also its serialized form.
    pub fn code(self) -> &'static str {
        match self {
            Self::Full => "no_disk_space",
            Self::ReadOnly => "read_only_disk",
            Self::Device => "disk_failed",
        }
    }

    /// Advice.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Full => {
                "Remove instances or snapshots that are no longer needed, or enlarge the disk."
            }
            Self::ReadOnly => {
                "Look at the kernel's log for the cause, and mount the disk for writing again; multidb then goes on."
            }
            Self::Device => {
                "Look at the kernel's log. Stop multidb, mend and mount the disk, and start multidb again."
            }
        }
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::ReadOnly => "the disk is read-only",
            Self::Device => "the disk failed",
        })
    }
}

/// A file that could not be read, written or moved.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", .path.display())]
pub struct FileError {
    /// The operation.
    pub action: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Makes the errors of an operation on a path.
    pub fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The fault of the disk that it tells of, if any.
    pub fn fault(&self) -> Option<DiskFault> {
        DiskFault::of(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_disk_are_told_from_other_errors() {
        let of = |errno: Errno| DiskFault::of(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert_eq!(of(Errno::NOSPC), Some(DiskFault::Full));
        assert_eq!(of(Errno::DQUOT), Some(DiskFault::Full));
        assert_eq!(of(Errno::ROFS), Some(DiskFault::ReadOnly));
        assert_eq!(of(Errno::IO), Some(DiskFault::Device));
        for other in [Errno::NOENT, Errno::ACCESS, Errno::MFILE, Errno::EXIST] {
            assert_eq!(of(other), None);
        }
        assert_eq!(DiskFault::of(&io::Error::other("no")), None);
    }

    #[test]
    fn messages_of_the_system_tell_the_same_faults() {
        for fault in DiskFault::ALL {
            for errno in fault.errors() {
                let error = io::Error::from_raw_os_error(errno.raw_os_error());
                let told = DiskFault::in_text(&format!("FATAL:  could not write: {error}"));
                let is_told = [
                    Errno::NOSPC,
                    Errno::DQUOT,
                    Errno::ROFS,
                    Errno::IO,
                    Errno::UCLEAN,
                ];
                assert_eq!(told, is_told.contains(errno).then_some(fault), "{error}");
            }
        }
        assert_eq!(DiskFault::in_text("FATAL:  out of memory"), None);
    }
}
