//! Copy-on-write clones of data directories: the actors' port [`Cloner`], and the same methods on
//! other directories for imports.
//!
//! | method | a clone is | durable by |
//! | --- | --- | --- |
//! | `btrfs-snapshot` | a writable snapshot of the subvolume | the ioctl, which commits |
//! | `reflink` | a new tree whose files share all blocks | XFS: its log; others: `syncfs` |
//! | `copy` | a full copy, only where the configuration asks for it | `syncfs` |

use std::fs;
use std::io;
use std::path::Path;

use multidb_actors::ports::{CloneError, CloneReport, Cloner};
use multidb_store::quarantine::{self, Quarantined};
use multidb_store::{InstanceRecord, InstanceUid, Layout, clones, manifest};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

mod copy;
mod create;
mod error;
mod extents;
pub mod probe;
mod root;
mod trash;
mod tree;

pub use self::extents::Extents;
pub use self::probe::Findings;
pub use self::tree::TreeSize;

use self::copy::FileCopy;
use self::error::failed;
use crate::fsutil::beneath::{Directory, TreeError};
use crate::fsutil::btrfs;

/// How data directories are cloned, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The first of the next two that works. Never a full copy.
    #[default]
    Auto,
    /// A snapshot of a Btrfs subvolume.
    BtrfsSnapshot,
    /// FICLONE of each file.
    Reflink,
    /// A full copy.
    Copy,
}

impl Method {
    /// The name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::BtrfsSnapshot => "btrfs-snapshot",
            Self::Reflink => "reflink",
            Self::Copy => "copy",
        }
    }
}

/// Whether a tree shares its blocks with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All files share their blocks.
    Shared,
    /// At least one file is a full copy.
    Copied,
}

/// Clones, deletes and measures trees under one root.
#[derive(Debug)]
pub struct TreeCloner {
    layout: Layout,
    /// The method that the probe chose: never `Auto`.
    method: Method,
    reserve_bytes: u64,
}

/// The extents of a snapshot's data directory: for `doctor`, which has no cloner since it changes
/// nothing under the root.
///
/// # Errors
///
/// It cannot be read.
pub fn snapshot_extents(data_dir: &Path) -> Result<Extents, CloneError> {
    extents::of_tree(data_dir).map_err(|error| match error {
        TreeError::Io {
            action,
            path,
            source,
        } => failed(action, &path, &source),
        other => CloneError::Failed {
            message: other.to_string(),
        },
    })
}

impl TreeCloner {
    /// Prepares the directories under the root, and probes which methods work between them. `run`
    /// gets the group of the data's owner; clones keep the owner of their source.
    ///
    /// # Errors
    ///
    /// A directory cannot be created, or the configured method does not work.
    pub fn open(
        layout: Layout,
        method: Method,
        reserve_bytes: u64,
        data_owner: (u32, u32),
    ) -> Result<Self, CloneError> {
        root::prepare(&layout, data_owner)
            .map_err(|(path, error)| failed("prepare", &path, &error))?;
        probe::clean(&layout).map_err(|error| failed("probe", layout.root(), &error))?;
        let cloner = Self {
            layout,
            method,
            reserve_bytes,
        };
        let method = cloner.findings()?.resolve(method)?;
        Ok(Self { method, ..cloner })
    }

    /// Probes the directories again: for `doctor`.
    ///
    /// # Errors
    ///
    /// A directory cannot be read or written.
    pub fn findings(&self) -> Result<Findings, CloneError> {
        let root = self.layout.root();
        probe::probe(&self.layout).map_err(|error| failed("probe", root, &error))
    }

    /// Clones a tree to another path under the root, which must not exist or be an empty directory.
    /// Files that cannot be reflinked, for instance from another file system, are copied.
    ///
    /// # Errors
    ///
    /// The source contains other things than files and directories, or there is no space. The caller
    /// removes an incomplete copy.
    pub fn clone_tree(&self, from: &Path, to: &Path) -> Result<(TreeSize, Sharing), CloneError> {
        let how = match self.method {
            Method::Copy => FileCopy::Full,
            Method::Auto | Method::BtrfsSnapshot | Method::Reflink => FileCopy::ReflinkOrFull,
        };
        if !to.exists() {
            self.make_data_dir(to)?;
        }
        copy::copy(from, to, how).map_err(|error| self.tree_failed(error, None))
    }

    /// Creates an empty directory that can be cloned later: a subvolume for Btrfs snapshots.
    ///
    /// # Errors
    ///
    /// It exists, or cannot be created.
    pub fn make_data_dir(&self, path: &Path) -> Result<(), CloneError> {
        use std::os::unix::fs::DirBuilderExt;
        let made = match self.method {
            Method::BtrfsSnapshot => btrfs::create_subvolume(path),
            Method::Auto | Method::Reflink | Method::Copy => {
                fs::DirBuilder::new().mode(0o700).create(path)
            }
        };
        made.map_err(|error| self.io_failed("create", path, &error))
    }

    /// Deletes a tree under the root that multidb created, by way of the trash. A missing tree is no
    /// error.
    ///
    /// # Errors
    ///
    /// It cannot be moved or deleted.
    pub fn remove_tree(&self, path: &Path) -> Result<(), CloneError> {
        trash::remove(&self.layout.trash(), path).map_err(|error| failed("delete", path, &error))
    }

    /// Deletes the leftovers of earlier processes in the trash, and logs those that it cannot delete.
    /// Can take long and nothing waits for it, so it runs on a thread of its own.
    ///
    /// # Errors
    ///
    /// The trash cannot be listed.
    pub fn sweep_trash(&self) -> Result<(), CloneError> {
        let trash = self.layout.trash();
        let left = trash::sweep(&trash).map_err(|error| failed("empty", &trash, &error))?;
        for (path, error) in left {
            tracing::warn!(path = %path.display(), %error, "cannot delete a leftover in the trash, remove it by hand");
        }
        Ok(())
    }

    /// The files of a data directory and their bytes, as a clone has them.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn tree_size(&self, path: &Path) -> Result<TreeSize, CloneError> {
        tree::size(path).map_err(|error| self.tree_failed(error, None))
    }

    /// Makes all writes to the file system of the path durable.
    ///
    /// # Errors
    ///
    /// The file system failed.
    pub fn sync(&self, path: &Path) -> Result<(), CloneError> {
        let sync = || -> io::Result<()> { Ok(rustix::fs::syncfs(Directory::open(path)?)?) };
        sync().map_err(|error| self.io_failed("sync", path, &error))
    }
}

impl Cloner for TreeCloner {
    fn method(&self) -> &'static str {
        self.method.name()
    }

    fn create(&self, record: &InstanceRecord) -> Result<CloneReport, CloneError> {
        let began = Instant::now();
        let files = self.make(record)?;
        Ok(CloneReport {
            files,
            elapsed: began.elapsed(),
        })
    }

    fn delete(&self, uid: InstanceUid) -> Result<(), CloneError> {
        let directory = self.layout.instance(uid);
        if fs::symlink_metadata(&directory).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        self.require_own(&directory, uid)?;
        self.remove_tree(&directory)
    }

    fn write_manifest(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        self.write_record(record)
    }

    fn read_manifest(&self, uid: InstanceUid) -> Result<Option<InstanceRecord>, CloneError> {
        let directory = self.layout.instance(uid);
        if fs::symlink_metadata(&directory).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let record = manifest::read::<InstanceRecord>(&directory);
        record
            .map(Some)
            .map_err(|error| self.manifest_failed(&error))
    }

    fn quarantine(&self, uid: InstanceUid, why: &str) -> Result<(), CloneError> {
        let note = quarantine::Note {
            why: why.to_owned(),
            at: jiff::Timestamp::now(),
        };
        let directory = self.layout.instance(uid);
        quarantine::put(&self.layout, uid, &note)
            .map_err(|error| self.io_failed("quarantine", &directory, &error))
    }

    fn quarantined(&self) -> Result<Vec<Quarantined>, CloneError> {
        Ok(quarantine::list(&self.layout))
    }

    fn take_from_quarantine(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        let directory = self.layout.instance(record.uid);
        quarantine::take(&self.layout, record)
            .map_err(|error| self.io_failed("recover", &directory, &error))
    }

    fn why_unusable(&self, record: &InstanceRecord) -> Result<Option<String>, CloneError> {
        let is_there = self.layout.instance(record.uid).is_dir();
        let clone = is_there.then(|| clones::inspect(&self.layout, record.uid));
        Ok(clones::why_unusable(record, clone.as_ref()))
    }

    fn exclusive_bytes(&self, uid: InstanceUid) -> Result<u64, CloneError> {
        let extents = extents::of_tree(&self.layout.instance_data(uid));
        let extents = extents.map_err(|error| self.tree_failed(error, None))?;
        Ok(extents.exclusive_bytes)
    }

    fn disk_free_bytes(&self) -> Result<u64, CloneError> {
        let root = self.layout.root();
        probe::free_bytes(root).map_err(|error| failed("read the free space of", root, &error))
    }
}

#[cfg(test)]
mod tests;
