//! The identity of a root directory, and the lock of the daemon that serves it.
//!
//! `root.json` has the root's UUID and the version of its format. It is made only in an empty or missing
//! directory, or in a root of an earlier version, which is recognized by its records and manifests. Any other
//! directory is refused: its files belong to another program or user.
//!
//! A root that was moved, or is reached by another path, is the same root. A copy of it is not: servers that run
//! on the clones of the one would be taken for those of the other. `root.json` also has the time at which
//! `instances/` was created, which a move does not change and a copy does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod id;
mod lock;

pub use self::id::{InvalidRootId, RootId};
pub use self::lock::RootLock;

use crate::atomic_file;
use crate::disk_fault::{DiskFault, FileError};
use crate::layout::Layout;
use crate::manifest::{self, Described};
use crate::records::{InstanceRecord, SnapshotRecord};

/// The version of the layout that this multidb reads and writes.
const FORMAT: u32 = 1;
const MARKER_MODE: u32 = 0o644;
const MARKER_BYTES_MAX: u64 = 4096;
/// The entries that an error names.
const NAMED_MAX: usize = 5;

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
    /// It was copied: its instances are in another directory than those of the root with this identity.
    #[error(
        "{} is a copy of a root, or its instances/ is not the one of its root.json",
        .root.display()
    )]
    Copied {
        /// The directory.
        root: PathBuf,
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
    #[error(transparent)]
    Io(#[from] FileError),
}

impl RootError {
    /// Advice for an operator.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Foreign { .. } => Some(
                "Name an empty or missing directory as the root. If this was a root of multidb, restore its root.json, or its state/db.",
            ),
            Self::Newer { .. } => Some("Install a multidb that is at least as new."),
            Self::Copied { .. } => Some(
                "If it was copied or restored, delete the root.json in it: it gets an identity of its own, and servers of the original are left alone. If not, mount the disk of its instances/.",
            ),
            Self::Marker { .. } => Some(
                "Restore it from a backup. Without it the root gets a new identity, and containers of the old one are not recognized.",
            ),
            Self::Locked { .. } => {
                Some("Stop the other daemon first, or name another root in the configuration.")
            }
            Self::Io(error) => error.fault().map(DiskFault::hint),
        }
    }
}

/// The state of a directory as a root.
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
    /// When `instances/` was created; none where the file system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instances_created_at: Option<Timestamp>,
}

/// The state of the directory as a root. Changes nothing.
///
/// # Errors
///
/// It is not a root and not empty, a copy, of a newer version, or cannot be read.
pub fn inspect(layout: &Layout) -> Result<RootKind, RootError> {
    let root = layout.root();
    if let Some(marker) = read_marker(layout)? {
        let created_at = marker.instances_created_at;
        if created_at.is_some() && created_at != instances_created_at(layout)? {
            let root = root.to_owned();
            return Err(RootError::Copied { root });
        }
        return Ok(RootKind::Marked(marker.id));
    }
    let names = match list(root) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RootKind::New),
        Err(error) => return Err(FileError::at("list", root)(error).into()),
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

/// The identity of the root. Makes the marker of a new root, of a root of an earlier version, or of a copy whose marker
/// was deleted; durable when it returns. The directory must exist.
///
/// # Errors
///
/// As [`inspect`], or the marker cannot be written.
pub fn identify(layout: &Layout) -> Result<RootId, RootError> {
    if let RootKind::Marked(id) = inspect(layout)? {
        return Ok(id);
    }
    let instances = layout.instances();
    match fs::create_dir(&instances) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(FileError::at("create", &instances)(error).into());
        }
        Ok(()) | Err(_) => {}
    }
    let path = layout.marker();
    let marker = Marker {
        multidb_root: FORMAT,
        id: RootId::random().map_err(FileError::at("choose the identity in", &path))?,
        instances_created_at: instances_created_at(layout)?,
    };
    let content = |source| RootError::Marker {
        path: path.clone(),
        source,
    };
    let mut text = serde_json::to_vec_pretty(&marker).map_err(content)?;
    text.push(b'\n');
    atomic_file::replace(&path, &text, MARKER_MODE, |_| Ok(()))
        .map_err(FileError::at("write", &path))?;
    Ok(marker.id)
}

/// When `instances/`, which may be a link, was created; none if it is missing or the file system does not tell.
fn instances_created_at(layout: &Layout) -> Result<Option<Timestamp>, RootError> {
    let path = layout.instances();
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::at("read", &path)(error).into()),
    };
    let created = metadata.created().ok();
    Ok(created.and_then(|created| created.try_into().ok()))
}

fn read_marker(layout: &Layout) -> Result<Option<Marker>, RootError> {
    let path = layout.marker();
    let size = match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => {
            let error = io::Error::other("it is not a file");
            return Err(FileError::at("read", &path)(error).into());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::at("read", &path)(error).into()),
    };
    if size > MARKER_BYTES_MAX {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, "it is too large");
        return Err(FileError::at("read", &path)(error).into());
    }
    let text = fs::read(&path).map_err(FileError::at("read", &path))?;
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
    Ok(Some(marker))
}

fn list(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    let name =
        |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect()
}

/// Whether there is a database of records, or a database that was moved aside.
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

#[cfg(test)]
mod tests;
