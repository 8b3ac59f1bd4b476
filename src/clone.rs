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
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use multidb_actors::ports::{CloneError, CloneReport, Cloner};
use multidb_store::{InstanceRecord, InstanceUid, Layout, SnapshotRecord, manifest};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub mod btrfs;
pub mod extents;
pub mod probe;
mod trash;
mod tree;

pub use self::tree::TreeSize;

use self::tree::{FileCopy, TreeError};

/// The name of a clone that is not complete.
const PARTIAL: &str = "data.partial";

/// How clones are made, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The best of the first two that works. Never a full copy.
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

/// Whether a tree shares its blocks with what it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// It does.
    Shared,
    /// It is a full copy.
    Copied,
}

/// Makes, deletes and measures trees under one root.
pub struct TreeCloner {
    layout: Layout,
    method: Method,
    reserve_bytes: u64,
}

impl TreeCloner {
    /// Prepares the directories under the root, and probes what clones work between them.
    ///
    /// # Errors
    ///
    /// A directory cannot be made, or no method works and none was asked for by name.
    pub fn open(
        layout: Layout,
        method: Method,
        reserve_bytes: u64,
        owner: (u32, u32),
    ) -> Result<Self, CloneError> {
        prepare_root(&layout, owner).map_err(|error| failed("prepare", layout.root(), &error))?;
        let found =
            probe::probe(&layout).map_err(|error| failed("probe", layout.root(), &error))?;
        let method = found.resolve(method)?;
        Ok(Self {
            layout,
            method,
            reserve_bytes,
        })
    }

    /// Clones a tree to another place under the root. A source on another file system is copied.
    ///
    /// # Errors
    ///
    /// The source holds what is no file or directory, or there is no space. What was made of the
    /// copy is left to the caller.
    pub fn clone_tree(&self, from: &Path, to: &Path) -> Result<(TreeSize, Sharing), CloneError> {
        let reflinked = match self.method {
            Method::Copy => Err(TreeError::cannot_share()),
            Method::Auto | Method::BtrfsSnapshot | Method::Reflink => {
                tree::copy(from, to, FileCopy::Reflink).map(|size| (size, Sharing::Shared))
            }
        };
        match reflinked {
            Err(error) if error.is_cannot_share() => {
                if to.exists() {
                    fs::remove_dir_all(to).map_err(|error| failed("remove", to, &error))?;
                }
                let copied = tree::copy(from, to, FileCopy::Copy);
                copied.map(|size| (size, Sharing::Copied))
            }
            other => other,
        }
        .map_err(|error| self.tree_failed(error, None))
    }

    /// Makes an empty directory that clones of it can be made from: a subvolume where clones are
    /// snapshots of subvolumes.
    ///
    /// # Errors
    ///
    /// It exists, or cannot be made.
    pub fn make_data_dir(&self, path: &Path) -> Result<(), CloneError> {
        let made = match self.method {
            Method::BtrfsSnapshot => btrfs::create_subvolume(path),
            Method::Auto | Method::Reflink | Method::Copy => {
                fs::DirBuilder::new().mode(0o700).create(path)
            }
        };
        made.map_err(|error| failed("create", path, &error))
    }

    /// Deletes a tree under the root that multidb made, by way of the trash.
    ///
    /// # Errors
    ///
    /// It cannot be moved or deleted.
    pub fn remove_tree(&self, path: &Path) -> Result<(), CloneError> {
        trash::remove(&self.layout.trash(), path).map_err(|error| failed("delete", path, &error))
    }

    /// Deletes what an interrupted deletion left in the trash.
    ///
    /// # Errors
    ///
    /// It cannot be listed or deleted.
    pub fn sweep_trash(&self) -> Result<(), CloneError> {
        let trash = self.layout.trash();
        trash::sweep(&trash).map_err(|error| failed("empty", &trash, &error))
    }

    /// The files of a tree and their bytes.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn tree_size(&self, path: &Path) -> Result<TreeSize, CloneError> {
        tree::size(path).map_err(|error| self.tree_failed(error, None))
    }

    /// Makes everything written to a tree durable.
    ///
    /// # Errors
    ///
    /// The file system failed.
    pub fn sync(&self, path: &Path) -> Result<(), CloneError> {
        sync_file_system(path).map_err(|error| failed("sync", path, &error))
    }

    fn snapshot_of(&self, record: &InstanceRecord) -> Result<SnapshotRecord, CloneError> {
        let damaged = |message: String| CloneError::SnapshotDamaged {
            snapshot: record.snapshot.to_string(),
            message,
        };
        let directory = self.layout.snapshot(&record.snapshot);
        let snapshot: SnapshotRecord = manifest::read(&directory)
            .map_err(|error| damaged(multidb_store::error_chain(&error)))?;
        let version = self
            .layout
            .snapshot_data(&record.snapshot)
            .join("PG_VERSION");
        let version = fs::read_to_string(&version)
            .map_err(|error| damaged(format!("its PG_VERSION cannot be read: {error}")))?;
        if version.trim() != snapshot.postgres_major.to_string() {
            return Err(damaged(format!(
                "its data is of PostgreSQL {}, its manifest says {}",
                version.trim(),
                snapshot.postgres_major
            )));
        }
        Ok(snapshot)
    }

    /// Clones the snapshot's data to a directory, and says how many files that took; 0 where the
    /// file system does not tell.
    fn clone_data(
        &self,
        snapshot: &SnapshotRecord,
        from: &Path,
        to: &Path,
    ) -> Result<u64, CloneError> {
        if self.method == Method::BtrfsSnapshot && btrfs::is_subvolume(from) {
            btrfs::snapshot(from, to).map_err(|error| self.io_failed("clone", to, &error))?;
            return Ok(0);
        }
        let how = match self.method {
            Method::Copy => FileCopy::Copy,
            Method::Auto | Method::BtrfsSnapshot | Method::Reflink => FileCopy::Reflink,
        };
        let id = Some(snapshot.id.as_str());
        let size = tree::copy(from, to, how).map_err(|error| self.tree_failed(error, id))?;
        if size.files != snapshot.files {
            return Err(CloneError::SnapshotDamaged {
                snapshot: snapshot.id.to_string(),
                message: format!(
                    "it has {} files, its manifest says {}",
                    size.files, snapshot.files
                ),
            });
        }
        Ok(size.files)
    }

    fn make(&self, record: &InstanceRecord) -> Result<u64, CloneError> {
        let snapshot = self.snapshot_of(record)?;
        let directory = self.layout.instance(record.uid);
        let data = self.layout.instance_data(record.uid);
        let partial = directory.join(PARTIAL);
        let made = fs::DirBuilder::new()
            .mode(0o711)
            .recursive(true)
            .create(&directory);
        made.map_err(|error| self.io_failed("create", &directory, &error))?;
        self.write_manifest(record)?;
        if partial.exists() {
            self.remove_tree(&partial)?;
        }
        let from = self.layout.snapshot_data(&record.snapshot);
        let files = self.clone_data(&snapshot, &from, &partial)?;
        fs::rename(&partial, &data).map_err(|error| self.io_failed("rename", &partial, &error))?;
        self.make_durable(&directory, files)?;
        Ok(files)
    }

    /// On XFS an fsync of the directory is enough: it forces the log up to the rename, and the log
    /// holds all transactions in the order of their commits, the reflinks' before it
    /// (`xfs_log_force_seq`). A Btrfs snapshot is committed by its ioctl. On other file systems the
    /// order of a log tree is not promised, so everything is written.
    fn make_durable(&self, directory: &Path, files: u64) -> Result<(), CloneError> {
        let ordered = files == 0 || probe::is_xfs(directory);
        if self.method == Method::Copy || !ordered {
            sync_file_system(directory).map_err(|error| failed("sync", directory, &error))?;
        }
        manifest::sync_directory(directory)
            .and_then(|()| manifest::sync_directory(&self.layout.instances()))
            .map_err(|error| CloneError::Failed {
                message: multidb_store::error_chain(&error),
            })
    }

    fn check_reserve(&self) -> Result<(), CloneError> {
        let free_bytes = self.disk_free_bytes()?;
        if free_bytes < self.reserve_bytes {
            return Err(CloneError::NoSpace {
                free_bytes,
                reserve_bytes: self.reserve_bytes,
            });
        }
        Ok(())
    }

    fn tree_failed(&self, error: TreeError, snapshot: Option<&str>) -> CloneError {
        match (error, snapshot) {
            (TreeError::Foreign { path, kind }, Some(snapshot)) => CloneError::SnapshotDamaged {
                snapshot: snapshot.to_owned(),
                message: format!("{} is a {kind}", path.display()),
            },
            (TreeError::Foreign { path, kind }, None) => CloneError::Failed {
                message: format!("{} is a {kind}, which cannot be cloned", path.display()),
            },
            (
                TreeError::Io {
                    action,
                    path,
                    source,
                },
                _,
            ) => self.io_failed(action, &path, &source),
        }
    }

    fn io_failed(&self, action: &str, path: &Path, error: &io::Error) -> CloneError {
        let no_space = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        match self.disk_free_bytes() {
            Ok(free_bytes) if no_space => CloneError::NoSpace {
                free_bytes,
                reserve_bytes: self.reserve_bytes,
            },
            _ => failed(action, path, error),
        }
    }
}

impl Cloner for TreeCloner {
    fn method(&self) -> &'static str {
        self.method.name()
    }

    fn create(&self, record: &InstanceRecord) -> Result<CloneReport, CloneError> {
        let began = Instant::now();
        if self.layout.instance_data(record.uid).is_dir() {
            return Ok(CloneReport {
                files: 0,
                elapsed: began.elapsed(),
            });
        }
        self.check_reserve()?;
        match self.make(record) {
            Ok(files) => Ok(CloneReport {
                files,
                elapsed: began.elapsed(),
            }),
            Err(error) => {
                let directory = self.layout.instance(record.uid);
                if directory.exists()
                    && let Err(error) = self.remove_tree(&directory)
                {
                    tracing::error!(%error, "a clone that failed was not removed, the next start of multidb tries again");
                }
                Err(error)
            }
        }
    }

    fn delete(&self, uid: InstanceUid) -> Result<(), CloneError> {
        let directory = self.layout.instance(uid);
        if !directory.exists() {
            return Ok(());
        }
        if let Err(error) = manifest::read::<InstanceRecord>(&directory) {
            return Err(CloneError::Failed {
                message: format!(
                    "{} is left alone, since it has no manifest of ours: {}",
                    directory.display(),
                    multidb_store::error_chain(&error)
                ),
            });
        }
        self.remove_tree(&directory)
    }

    fn write_manifest(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        manifest::write(&self.layout.instance(record.uid), record).map_err(|error| match &error {
            manifest::ManifestError::Io { path, source, .. } => {
                self.io_failed("write", path, source)
            }
            _ => CloneError::Failed {
                message: multidb_store::error_chain(&error),
            },
        })
    }

    fn existing(&self) -> Result<Vec<InstanceUid>, CloneError> {
        let found = manifest::scan::<InstanceRecord>(&self.layout.instances());
        let found = found.map_err(|error| CloneError::Failed {
            message: multidb_store::error_chain(&error),
        })?;
        let mut existing = Vec::new();
        for (directory, record) in found {
            let uid = directory.file_name().and_then(|name| name.to_str());
            match (uid.and_then(|uid| uid.parse().ok()), record) {
                (Some(uid), Ok(_)) => existing.push(uid),
                (_, record) => tracing::warn!(
                    directory = %directory.display(),
                    error = record.err().map(|error| multidb_store::error_chain(&error)),
                    "a directory that is none of ours is left alone, remove it by hand"
                ),
            }
        }
        Ok(existing)
    }

    fn exclusive_bytes(&self, uid: InstanceUid) -> Result<u64, CloneError> {
        let directory = self.layout.instance(uid);
        extents::exclusive_bytes(&directory).map_err(|error| failed("measure", &directory, &error))
    }

    fn disk_free_bytes(&self) -> Result<u64, CloneError> {
        let root = self.layout.root();
        let stat = rustix::fs::statvfs(root).map_err(|error| failed("ask", root, &error.into()))?;
        Ok(stat.f_bavail * stat.f_frsize)
    }
}

fn failed(action: &str, path: &Path, error: &io::Error) -> CloneError {
    CloneError::Failed {
        message: format!("cannot {action} {}: {error}", path.display()),
    }
}

fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(path)?)?)
}

/// Makes the directories. Postgres' user passes through to its data; `run` is for it and for us;
/// the rest is ours.
fn prepare_root(layout: &Layout, (_, gid): (u32, u32)) -> io::Result<()> {
    let make = |path: PathBuf, mode: u32| -> io::Result<PathBuf> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)?;
        Ok(path)
    };
    make(layout.root().to_owned(), 0o711)?;
    make(layout.snapshots(), 0o711)?;
    make(layout.instances(), 0o711)?;
    make(layout.state(), 0o711)?;
    make(layout.trash(), 0o700)?;
    let run = make(layout.run(), 0o710)?;
    if Uid::effective().is_root() {
        chown(&run, Some(0), Some(gid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
