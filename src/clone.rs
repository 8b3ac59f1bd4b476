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
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use multidb_actors::ports::{CloneError, CloneReport, CloneSource, Cloner, Taken};
use multidb_store::quarantine::{self, Quarantined};
use multidb_store::{InstanceRecord, InstanceUid, Layout, clones, error_chain, manifest};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

mod copy;
mod create;
mod error;
mod extents;
mod growing;
mod prewarmed;
pub mod probe;
mod root;
mod running;
mod trash;
mod tree;

pub use self::extents::Extents;
pub use self::growing::GrowingTree;
pub use self::prewarmed::PrewarmedClone;
pub use self::probe::{DiskUsage, Findings};
pub use self::tree::TreeSize;

use self::copy::{Activity, FileCopy};
pub(crate) use self::error::{failed, foreign};
use self::prewarmed::Prewarmed;
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

/// The bytes of a tree that no other file shares. Blocks.
///
/// # Errors
///
/// A file cannot be read.
pub fn exclusive_bytes(tree: &Path) -> Result<u64, TreeError> {
    Ok(extents::of_tree(tree)?.exclusive_bytes)
}

/// The bytes of an instance's data, and of the state that its resets go back to, that no other file shares. Blocks.
///
/// # Errors
///
/// A file cannot be read.
pub fn instance_bytes(layout: &Layout, uid: InstanceUid) -> Result<u64, TreeError> {
    let data = exclusive_bytes(&layout.instance_data(uid))?;
    match exclusive_bytes(&layout.instance_base(uid)) {
        Ok(base) => Ok(data + base),
        Err(error) if error.is_missing() => Ok(data),
        Err(error) => Err(error),
    }
}

/// Clones, deletes and measures trees under one root.
#[derive(Debug)]
pub struct TreeCloner {
    layout: Layout,
    data_owner: (u32, u32),
    configured: Method,
    /// The method that the probe chose: never `Auto`. Not known while the disk refuses the probe.
    chosen: OnceLock<Method>,
    reserve_bytes: u64,
    /// The bytes that deletions would free, as they were measured last.
    taken: Mutex<Option<Taken>>,
    /// The clones that are kept ready.
    prewarmed: Prewarmed,
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
    /// gets the group of the data's owner; clones keep the owner of their source. On a disk that is full,
    /// read-only or failing, the first creation after that does so.
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
        let cloner = Self {
            layout,
            data_owner,
            configured: method,
            chosen: OnceLock::new(),
            reserve_bytes,
            taken: Mutex::default(),
            prewarmed: Prewarmed::default(),
        };
        match cloner.chosen() {
            Err(CloneError::Disk(error)) => tracing::error!(
                error = error_chain(&error),
                hint = error.fault.hint(),
                "cannot try how to make clones, running instances are served and no new ones are made until that works"
            ),
            chosen => drop(chosen?),
        }
        Ok(cloner)
    }

    /// The method of clones.
    fn chosen(&self) -> Result<Method, CloneError> {
        if let Some(method) = self.chosen.get() {
            return Ok(*method);
        }
        root::prepare(&self.layout, self.data_owner)
            .map_err(|(path, error)| failed("prepare", &path, &error))?;
        probe::clean(&self.layout).map_err(|error| failed("probe", self.layout.root(), &error))?;
        prewarmed::clean(&self.layout)
            .map_err(|error| failed("delete", &self.layout.instances(), &error))?;
        let method = self.findings()?.resolve(self.configured)?;
        Ok(*self.chosen.get_or_init(|| method))
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
        let how = match self.chosen()? {
            Method::Copy => FileCopy::Full,
            Method::Auto | Method::BtrfsSnapshot | Method::Reflink => FileCopy::ReflinkOrFull,
        };
        if !self.exists(to)? {
            self.make_data_dir(to)?;
        }
        let copied = copy::copy(from, to, how, Activity::AtRest);
        copied.map_err(|error| self.tree_failed(error, None))
    }

    /// Creates an empty directory that can be cloned later: a subvolume for Btrfs snapshots.
    ///
    /// # Errors
    ///
    /// It exists, or cannot be created.
    pub fn make_data_dir(&self, path: &Path) -> Result<(), CloneError> {
        use std::os::unix::fs::DirBuilderExt;
        let made = match self.chosen()? {
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

    /// Notes the bytes that deletions would free, for the errors of a full disk.
    pub fn note_taken(&self, taken: Taken) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    }

    fn taken(&self) -> Option<Taken> {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How full the root's file system is.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn disk_usage(&self) -> Result<DiskUsage, CloneError> {
        let root = self.layout.root();
        probe::usage(root).map_err(|error| failed("read the free space of", root, &error))
    }

    /// The bytes that were written and that [`disk_usage`](Self::disk_usage) still counts as free; at most, since files of
    /// other file systems are among them.
    pub fn unplaced_bytes(&self) -> u64 {
        probe::unplaced_bytes(self.layout.root())
    }

    /// The number of trees in the trash that nothing deletes now.
    ///
    /// # Errors
    ///
    /// The trash cannot be listed.
    pub fn trash_count(&self) -> Result<usize, CloneError> {
        let trash = self.layout.trash();
        trash::count(&trash).map_err(|error| failed("list", &trash, &error))
    }

    /// Deletes the trees in the trash that nothing else deletes now, and logs the ones that it cannot delete. Can take
    /// long, so it runs on a thread of its own.
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

    /// Whether a path exists whose directory only multidb can write.
    fn exists(&self, path: &Path) -> Result<bool, CloneError> {
        let exists = path.try_exists();
        exists.map_err(|error| self.io_failed("read", path, &error))
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

/// With less room than this, records may not be writable.
const ROOM_BYTES_MIN: u64 = 16 << 20;
/// The longest time until a file system gives out the room of deleted files.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
const ROOM_INTERVAL: Duration = Duration::from_millis(20);

impl TreeCloner {
    /// On a full disk, waits until the file system has given out the room of a deletion, which is needed for the
    /// record of it. Btrfs does so when it has committed the deletion.
    fn wait_for_room(&self, free_before: u64) {
        let began = Instant::now();
        let is_full = || {
            let free = self.disk_free_bytes();
            free.is_ok_and(|free| free < ROOM_BYTES_MIN && free <= free_before)
        };
        while is_full() && began.elapsed() < ROOM_TIMEOUT {
            if let Err(error) = self.sync(self.layout.root()) {
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot make room on a full disk"
                );
                return;
            }
            std::thread::sleep(ROOM_INTERVAL);
        }
    }
}

impl Cloner for TreeCloner {
    fn method(&self) -> &'static str {
        // Until the disk has let a probe through.
        self.chosen.get().map_or("unknown", |method| method.name())
    }

    fn create(
        &self,
        record: &InstanceRecord,
        source: &CloneSource,
    ) -> Result<CloneReport, CloneError> {
        let began = Instant::now();
        let (source, files) = self.make(record, source)?;
        Ok(CloneReport {
            source,
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
        let free_before = self.disk_free_bytes()?;
        self.remove_tree(&directory)?;
        self.wait_for_room(free_before);
        Ok(())
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
        let bytes = instance_bytes(&self.layout, uid);
        bytes.map_err(|error| self.tree_failed(error, None))
    }

    fn disk_free_bytes(&self) -> Result<u64, CloneError> {
        let root = self.layout.root();
        probe::free_bytes(root).map_err(|error| failed("read the free space of", root, &error))
    }
}

#[cfg(test)]
mod tests;
