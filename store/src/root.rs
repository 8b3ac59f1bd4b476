//! The identity of a root directory, and the lock of the daemon that serves it.
//!
//! `root.json` has the root's UUID and the version of its format. It is made only in an empty or missing
//! directory, or in a root of an earlier version, which is recognized by its records and manifests. Any other
//! directory is refused: what is in it belongs to somebody else. A root that was moved, or is reached by
//! another path, is the same root.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::layout::Layout;
use crate::manifest::{self, Described};
use crate::records::{InstanceRecord, SnapshotRecord};

/// The version of the layout that this multidb reads and writes.
const FORMAT: u32 = 1;
const MARKER_MODE: u32 = 0o644;
const MARKER_BYTES_MAX: u64 = 4096;
const LOCK_MODE: u32 = 0o600;
/// The interval between two attempts to get the lock.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(20);
/// The entries that an error names.
const NAMED_MAX: usize = 5;

/// The UUID of a root, which stays when the root is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootId(u128);

impl RootId {
    /// The identity with these bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// A random one, from the kernel.
    fn random() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        text.trim().parse().map_err(io::Error::other)
    }
}

/// A text that is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a UUID")]
pub struct InvalidRootId;

impl FromStr for RootId {
    type Err = InvalidRootId;

    fn from_str(text: &str) -> Result<Self, InvalidRootId> {
        let lengths = text.split('-').map(str::len);
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let valid = lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || is_digit(b));
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(bits) if valid => Ok(Self(bits)),
            _ => Err(InvalidRootId),
        }
    }
}

impl TryFrom<String> for RootId {
    type Error = InvalidRootId;

    fn try_from(text: String) -> Result<Self, InvalidRootId> {
        text.parse()
    }
}

impl From<RootId> for String {
    fn from(id: RootId) -> String {
        id.to_string()
    }
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        f.write_str(&parts.join("-"))
    }
}

/// Why a directory cannot be used as a root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It has files, and nothing says that they are multidb's.
    #[error(
        "{} is not a root of multidb and not empty: it contains {}",
        .root.display(), found.join(", ")
    )]
    Foreign {
        /// The directory.
        root: PathBuf,
        /// The names of the first entries.
        found: Vec<String>,
    },
    /// A newer multidb made it.
    #[error(
        "{} has format {format}, which is newer than {FORMAT}, the newest one that this multidb serves",
        .root.display()
    )]
    Newer {
        /// The directory.
        root: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Its marker is not one.
    #[error("{} cannot be read as the marker of a root", .path.display())]
    Marker {
        /// The marker.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Another process has the lock.
    #[error("another multidb serves {}", .root.display())]
    Locked {
        /// The directory.
        root: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl RootError {
    /// Advice for an operator.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Foreign { .. } => Some(
                "Name an empty or missing directory as the root. If this was a root of multidb, restore its root.json, or its state/db.",
            ),
            Self::Newer { .. } => Some("Install a multidb that is at least as new."),
            Self::Marker { .. } => Some(
                "Restore it from a backup. Without it the root gets a new identity, and containers of the old one are not recognized.",
            ),
            Self::Locked { .. } => {
                Some("Stop the other daemon first, or name another root in the configuration.")
            }
            Self::Io { .. } => None,
        }
    }
}

/// What a directory is to multidb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootKind {
    /// It is missing or empty.
    New,
    /// It is a root without a marker, of an earlier version.
    Unmarked,
    /// It is a root.
    Marked(RootId),
}

/// The marker's content.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    multidb_root: u32,
    id: RootId,
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RootError + 'a {
    move |source| RootError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Tells what the directory is, and changes nothing.
///
/// # Errors
///
/// It is not a root and not empty, of a newer version, or cannot be read.
pub fn inspect(layout: &Layout) -> Result<RootKind, RootError> {
    if let Some(id) = read_marker(layout)? {
        return Ok(RootKind::Marked(id));
    }
    let root = layout.root();
    let names = match list(root) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RootKind::New),
        Err(error) => return Err(io_error("list", root)(error)),
    };
    if has_records(layout)
        || has_manifest::<InstanceRecord>(&layout.instances())
        || has_manifest::<SnapshotRecord>(&layout.snapshots())
    {
        return Ok(RootKind::Unmarked);
    }
    let foreign = names
        .into_iter()
        .filter(|name| !is_of_new_root(layout, name));
    let mut foreign: Vec<String> = foreign.collect();
    if foreign.is_empty() {
        return Ok(RootKind::New);
    }
    foreign.sort();
    foreign.truncate(NAMED_MAX);
    Err(RootError::Foreign {
        root: root.to_owned(),
        found: foreign,
    })
}

/// The identity of the root. Makes the marker of one that is new or of an earlier version; durable when it
/// returns. The directory must exist.
///
/// # Errors
///
/// As [`inspect`], or the marker cannot be written.
pub fn identify(layout: &Layout) -> Result<RootId, RootError> {
    if let RootKind::Marked(id) = inspect(layout)? {
        return Ok(id);
    }
    let path = layout.marker();
    let marker = Marker {
        multidb_root: FORMAT,
        id: RootId::random().map_err(io_error("choose the identity in", &path))?,
    };
    let content = |source| RootError::Marker {
        path: path.clone(),
        source,
    };
    let mut text = serde_json::to_vec_pretty(&marker).map_err(content)?;
    text.push(b'\n');
    atomic_file::replace(&path, &text, MARKER_MODE, |_| Ok(()))
        .map_err(io_error("write", &path))?;
    Ok(marker.id)
}

fn read_marker(layout: &Layout) -> Result<Option<RootId>, RootError> {
    let path = layout.marker();
    let size = match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => {
            let error = io::Error::other("it is not a file");
            return Err(io_error("read", &path)(error));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    if size > MARKER_BYTES_MAX {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, "it is too large");
        return Err(io_error("read", &path)(error));
    }
    let text = fs::read(&path).map_err(io_error("read", &path))?;
    /// The part that every version has.
    #[derive(Deserialize)]
    struct Header {
        multidb_root: u32,
    }
    let content = |source| RootError::Marker {
        path: path.clone(),
        source,
    };
    let Header { multidb_root } = serde_json::from_slice(&text).map_err(content)?;
    if multidb_root > FORMAT {
        return Err(RootError::Newer {
            root: layout.root().to_owned(),
            format: multidb_root,
        });
    }
    let marker: Marker = serde_json::from_slice(&text).map_err(content)?;
    Ok(Some(marker.id))
}

fn list(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    let name =
        |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect()
}

/// Whether there is a database of records, or one that was moved aside.
fn has_records(layout: &Layout) -> bool {
    let Ok(names) = list(&layout.state()) else {
        return false;
    };
    let directories = names
        .iter()
        .filter(|name| *name == "db" || name.starts_with("db.damaged-"));
    directories
        .map(|name| layout.state().join(name))
        .any(|directory| directory.join("conf").is_file() && directory.join("db").is_file())
}

fn has_manifest<T: Described>(parent: &Path) -> bool {
    let Ok(entries) = fs::read_dir(parent) else {
        return false;
    };
    let mut directories = entries.flatten().map(|entry| entry.path());
    directories.any(|directory| manifest::read::<T>(&directory).is_ok())
}

/// Whether a root can have this entry before its first start: `lost+found` of its own file system, an interrupted
/// write of the marker, the lock, a doctor's leftover, or `state/` with the users that were added already.
fn is_of_new_root(layout: &Layout, name: &str) -> bool {
    let marker = atomic_file::temporary_path(&layout.marker());
    let is_ours = |path: &Path| path.file_name().is_some_and(|own| own == name);
    if is_ours(&marker) || is_ours(&layout.lock()) || name.starts_with(".multidb-") {
        return true;
    }
    match name {
        "lost+found" => true,
        "state" => list(&layout.state()).is_ok_and(|names| {
            let is_users = |name: &String| name.trim_start_matches('.').starts_with("users.toml");
            names.iter().all(is_users)
        }),
        _ => false,
    }
}

/// The lock of the daemon that serves a root.
#[derive(Debug)]
pub struct RootLock {
    file: File,
}

impl RootLock {
    /// Takes the lock, and waits for it: a process that was just killed can have left it for some
    /// milliseconds with a child between its fork and its exec.
    ///
    /// # Errors
    ///
    /// Another process still has it after `timeout`, or the file cannot be opened.
    pub fn acquire(layout: &Layout, timeout: Duration) -> Result<Self, RootError> {
        let path = layout.lock();
        let mut waited = Duration::ZERO;
        loop {
            let file = open_lock(&path).map_err(io_error("open", &path))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Another file may have taken its name meanwhile.
                Ok(()) if is_at(&file, &path) => return Ok(Self { file }),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(io_error("lock", &path)(error.into())),
            }
            if waited >= timeout {
                return Err(RootError::Locked {
                    root: layout.root().to_owned(),
                });
            }
            std::thread::sleep(LOCK_RETRY_DELAY);
            waited += LOCK_RETRY_DELAY;
        }
    }

    /// Keeps the lock until the process ends, whatever ends before it.
    pub fn hold_for_life(self) {
        std::mem::forget(self.file);
    }
}

/// Opens the lock for reading, which is possible on a read-only file system; std closes it on exec.
fn open_lock(path: &Path) -> io::Result<File> {
    match File::options()
        .read(true)
        .custom_flags(no_follow())
        .open(path)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(LOCK_MODE).custom_flags(no_follow()).open(path)
}

fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = || -> io::Result<bool> {
        let (held, named) = (file.metadata()?, fs::symlink_metadata(path)?);
        Ok((held.dev(), held.ino()) == (named.dev(), named.ino()))
    };
    same().unwrap_or(false)
}

#[cfg(test)]
mod tests;
