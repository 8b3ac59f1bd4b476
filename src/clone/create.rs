//! The creation of a clone, from the check of its snapshot until it is durable.
//!
//! ```text
//! instances/<uid>/             created, or reused after a crash
//!   manifest.json              written first: it marks the directory as multidb's
//!   base/                      the state that a clone of another instance begins with, for its resets
//!   data.partial/              cloned while the manifest is synced
//!   data/                      renamed from data.partial, or a clone that was kept ready; a Btrfs snapshot is created here
//! ```
//!
//! `data` never exists without a durable manifest. [`clones::is_unfinished`] recognizes the directories that a
//! crash can leave without one: they contain no `data` and no foreign files.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;

use multidb_actors::ports::{CloneError, CloneSource, ClonedFrom, SuperuserAccess};
use multidb_store::manifest::ManifestError;
use multidb_store::{
    InstanceRecord, InstanceUid, SnapshotId, SnapshotRecord, clones, error_chain, manifest,
};

use super::copy::{self, Activity, FileCopy};
use super::error::{failed, foreign};
use super::{Method, TreeCloner, probe, root, tree};
use crate::fsutil::beneath::Directory;
use crate::fsutil::btrfs;

/// The name of an incomplete clone.
pub(super) const PARTIAL: &str = multidb_store::layout::PARTIAL_DATA;
/// The most that is read of a `PG_VERSION`.
const VERSION_BYTES_MAX: u64 = 64;

/// A source that can be cloned.
enum Checked<'a> {
    Snapshot(Box<SnapshotRecord>),
    Running(InstanceUid, &'a SuperuserAccess),
    /// That of this clone is kept.
    Base(InstanceUid),
}

impl Checked<'_> {
    fn origin(&self) -> ClonedFrom {
        match self {
            Self::Snapshot(_) => ClonedFrom::Snapshot,
            Self::Running(..) => ClonedFrom::Instance,
            Self::Base(_) => ClonedFrom::Base,
        }
    }
}

impl TreeCloner {
    /// Creates the clone and returns its source in the end, and the number of cloned files: 0 if it is a Btrfs
    /// snapshot or existed already. Leaves nothing behind when it fails.
    pub(super) fn make(
        &self,
        record: &InstanceRecord,
        source: &CloneSource,
    ) -> Result<(ClonedFrom, u64), CloneError> {
        let directory = self.layout.instance(record.uid);
        // Trusted path: only multidb can write the instance's directory.
        if self.exists(&self.layout.instance_data(record.uid))? {
            // A crash may have prevented its sync.
            self.require_own(&directory, record.uid)?;
            self.write_record(record)?;
            self.sync_clone(&directory, self.chosen()?)?;
            return Ok((ClonedFrom::from(source), 0));
        }
        self.check_reserve(0)?;
        let source = self.check_source(record, source)?;
        // Trusted path: as above.
        if self.exists(&directory)? {
            self.require_own(&directory, record.uid)?;
        }
        self.fill(record, &source, &directory)
            .inspect_err(|_| self.remove_failed(&directory))
    }

    /// Makes the cheap checks of the source, which is the snapshot if there is no other one.
    fn check_source<'a>(
        &self,
        record: &InstanceRecord,
        source: &'a CloneSource,
    ) -> Result<Checked<'a>, CloneError> {
        match source {
            CloneSource::Running { uid, server } => return Ok(Checked::Running(*uid, server)),
            CloneSource::Base(uid) if self.exists(&self.layout.instance_base(*uid))? => {
                return Ok(Checked::Base(*uid));
            }
            CloneSource::Base(_) | CloneSource::Snapshot => {}
        }
        let snapshot = self.check_snapshot(&record.snapshot)?;
        if self.chosen()? == Method::Copy {
            self.check_reserve(snapshot.bytes)?;
        }
        Ok(Checked::Snapshot(Box::new(snapshot)))
    }

    fn fill(
        &self,
        record: &InstanceRecord,
        source: &Checked<'_>,
        directory: &Path,
    ) -> Result<(ClonedFrom, u64), CloneError> {
        root::make(directory, 0o711)
            .map_err(|error| self.io_failed("create", directory, &error))?;
        let manifest = manifest::create(directory, record).map_err(|e| self.manifest_failed(&e))?;
        let partial = directory.join(PARTIAL);
        // Trusted path: as above.
        if self.exists(&partial)? {
            self.remove_tree(&partial)?;
        }
        let data = self.layout.instance_data(record.uid);
        if let Checked::Snapshot(snapshot) = source {
            if self.take_prewarmed(snapshot, &manifest, (directory, &data))? {
                return Ok((ClonedFrom::Prewarmed, 0));
            }
            let from = self.layout.snapshot_data(&snapshot.id);
            if self.makes_snapshots_of(&from)? {
                self.sync_manifest(&manifest, directory)?;
                self.snapshot_subvolume(snapshot, &from, &data)?;
                return Ok((ClonedFrom::Snapshot, 0));
            }
        }
        // In parallel: an fsync takes milliseconds, enough to clone hundreds of files.
        let (synced, cloned) = thread::scope(|scope| {
            let synced = scope.spawn(|| self.sync_manifest(&manifest, directory));
            let cloned = match source {
                Checked::Snapshot(snapshot) => self.clone_files(snapshot, &partial),
                Checked::Running(uid, server) => self.with_base(record, |base| {
                    self.copy_running_twice(*uid, server, base, &partial)
                }),
                Checked::Base(uid) => self.with_base(record, |base| {
                    self.copy_base(&self.layout.instance_base(*uid), base, &partial)
                }),
            };
            let panicked = |_| Err(failed_thread(directory));
            (synced.join().unwrap_or_else(panicked), cloned)
        });
        let files = cloned?;
        synced?;
        let base = self.layout.instance_base(record.uid);
        if !matches!(source, Checked::Snapshot(_)) && self.makes_snapshots_of(&base)? {
            // With everything that was done in `base`, it is durable when this returns.
            self.snapshot(&base, &data)?;
            return Ok((source.origin(), files));
        }
        // Trusted path: only multidb can write the instance's directory.
        fs::rename(&partial, &data).map_err(|error| self.io_failed("rename", &partial, &error))?;
        self.sync_clone(directory, self.file_method()?)?;
        Ok((source.origin(), files))
    }

    /// The method of clones that are made file by file.
    pub(super) fn file_method(&self) -> Result<Method, CloneError> {
        Ok(match self.chosen()? {
            Method::Copy => Method::Copy,
            Method::Auto | Method::BtrfsSnapshot | Method::Reflink => Method::Reflink,
        })
    }

    pub(super) fn snapshot_subvolume(
        &self,
        snapshot: &SnapshotRecord,
        from: &Path,
        data: &Path,
    ) -> Result<(), CloneError> {
        let files = tree::count(from);
        let files = files.map_err(|error| self.tree_failed(error, Some(snapshot.id.as_str())))?;
        check_count(snapshot, files)?;
        self.snapshot(from, data)
    }

    /// Makes a snapshot of a Btrfs subvolume.
    fn snapshot(&self, from: &Path, to: &Path) -> Result<(), CloneError> {
        Directory::open(from)
            .map_err(io::Error::from)
            .and_then(|from| btrfs::snapshot(&from, to))
            .map_err(|error| self.io_failed("clone", to, &error))
    }

    /// Whether this data directory is cloned as a whole.
    pub(super) fn makes_snapshots_of(&self, data: &Path) -> Result<bool, CloneError> {
        Ok(self.chosen()? == Method::BtrfsSnapshot && btrfs::is_subvolume(data))
    }

    pub(super) fn clone_files(
        &self,
        snapshot: &SnapshotRecord,
        to: &Path,
    ) -> Result<u64, CloneError> {
        let from = self.layout.snapshot_data(&snapshot.id);
        let id = Some(snapshot.id.as_str());
        let copied = copy::copy(&from, to, self.file_copy()?, Activity::AtRest);
        let (size, _) = copied.map_err(|error| self.tree_failed(error, id))?;
        check_count(snapshot, size.files)?;
        Ok(size.files)
    }

    /// Makes a base, which is kept for resets, in the place of a base that a crash left.
    fn with_base(
        &self,
        record: &InstanceRecord,
        make: impl FnOnce(&Path) -> Result<u64, CloneError>,
    ) -> Result<u64, CloneError> {
        let base = self.layout.instance_base(record.uid);
        // Trusted path: only multidb can write the instance's directory.
        if self.exists(&base)? {
            self.remove_tree(&base)?;
        }
        make(&base)
    }

    /// Copies the base of another clone to `base`, and that to `data` unless it is a snapshot of a Btrfs subvolume.
    fn copy_base(&self, from: &Path, base: &Path, data: &Path) -> Result<u64, CloneError> {
        if self.makes_snapshots_of(from)? {
            self.snapshot(from, base)?;
            return tree::count(base).map_err(|error| self.tree_failed(error, None));
        }
        let copied = copy::copy_twice(from, [base, data], self.file_copy()?, Activity::AtRest);
        let size = copied.map_err(|error| self.tree_failed(error, None))?;
        Ok(size.files)
    }

    /// How a clone's files are copied: never in full, unless that was asked for.
    pub(super) fn file_copy(&self) -> Result<FileCopy, CloneError> {
        Ok(match self.chosen()? {
            Method::Copy => FileCopy::Full,
            Method::Auto | Method::BtrfsSnapshot | Method::Reflink => FileCopy::Reflink,
        })
    }

    /// Makes the cheap checks. The files are counted when they are cloned.
    pub(super) fn check_snapshot(&self, of: &SnapshotId) -> Result<SnapshotRecord, CloneError> {
        let id = of.as_str();
        let directory = self.layout.snapshot(of);
        let snapshot: SnapshotRecord = match manifest::read(&directory) {
            // Trusted path: only multidb can write the directory of the snapshots.
            Err(error) if error.is_missing() && !self.exists(&directory)? => {
                return Err(CloneError::SnapshotGone {
                    snapshot: id.to_owned(),
                });
            }
            Err(error) if error.is_missing() || error.is_damage() => {
                return Err(damaged(id, error_chain(&error)));
            }
            read => read.map_err(|error| self.manifest_failed(&error))?,
        };
        let data = self.layout.snapshot_data(of);
        let data = match Directory::open(&data) {
            Err(error) if error.is_missing() => {
                return Err(damaged(id, "its data directory is missing".to_owned()));
            }
            opened => opened.map_err(|error| self.tree_failed(error, Some(id)))?,
        };
        let version = match data.read("PG_VERSION", VERSION_BYTES_MAX) {
            Ok(Some(version)) => String::from_utf8_lossy(&version).into_owned(),
            Ok(None) => return Err(damaged(id, "it has no PG_VERSION".to_owned())),
            Err(error) => return Err(self.tree_failed(error, Some(id))),
        };
        if version.trim() != snapshot.postgres_major.to_string() {
            let message = format!(
                "its data is from PostgreSQL {}, but its manifest says {}",
                version.trim(),
                snapshot.postgres_major
            );
            return Err(damaged(id, message));
        }
        Ok(snapshot)
    }

    /// Checks that the reserve stays free after so many more bytes are written.
    pub(crate) fn check_reserve(&self, bytes: u64) -> Result<(), CloneError> {
        let instances = self.layout.instances();
        let free_bytes = probe::free_bytes(&instances)
            .map_err(|error| failed("read the free space of", &instances, &error))?;
        let needed = self.reserve_bytes.saturating_add(bytes);
        if free_bytes < needed {
            return Err(CloneError::NoSpace {
                free_bytes,
                reserve_bytes: self.reserve_bytes,
                missing_bytes: needed - free_bytes,
                taken: self.taken(),
            });
        }
        Ok(())
    }

    pub(super) fn sync_manifest(
        &self,
        manifest: &File,
        directory: &Path,
    ) -> Result<(), CloneError> {
        let synced = manifest.sync_all();
        synced.map_err(|error| self.io_failed("sync the manifest of", directory, &error))
    }

    /// Makes a clone durable.
    ///
    /// On XFS an fsync of the directory is enough: `xfs_dir_fsync` (fs/xfs/xfs_file.c) forces the
    /// log up to the last change of the directory, the rename, and a checkpoint of the log includes
    /// everything that was committed before, such as the reflinks (Documentation/filesystems/xfs/
    /// xfs-delayed-logging-design.rst). Their blocks belong to the snapshot and are on the disk. On
    /// Btrfs, an fsync of a directory logs only that directory (fs/btrfs/tree-log.c), and other file
    /// systems are not known well enough: there, as after a copy, the whole file system is synced.
    pub(super) fn sync_clone(&self, directory: &Path, method: Method) -> Result<(), CloneError> {
        let ordered = method != Method::Copy && probe::is_xfs(directory);
        if !ordered {
            self.sync(directory)?;
        }
        manifest::sync_directory(directory)
            .and_then(|()| manifest::sync_directory(&self.layout.instances()))
            .map_err(|error| self.manifest_failed(&error))
    }

    pub(super) fn write_record(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        let directory = self.layout.instance(record.uid);
        manifest::write(&directory, record).map_err(|error| self.manifest_failed(&error))
    }

    /// Refuses a directory that multidb did not create for this clone.
    pub(super) fn require_own(&self, directory: &Path, uid: InstanceUid) -> Result<(), CloneError> {
        let problem = match manifest::read::<InstanceRecord>(directory) {
            Ok(record) if record.uid == uid => return Ok(()),
            Ok(record) => format!("its manifest names the clone {}", record.uid),
            Err(_) if clones::is_unfinished(directory) => return Ok(()),
            Err(ManifestError::Io(error)) if error.fault().is_some() => {
                return Err(self.manifest_failed(&ManifestError::Io(error)));
            }
            Err(error) => error_chain(&error),
        };
        Err(foreign(directory, &problem))
    }

    pub(super) fn remove_failed(&self, directory: &Path) {
        if let Err(error) = self.remove_tree(directory) {
            tracing::error!(
                directory = %directory.display(),
                %error,
                "cannot remove a failed clone, the next start of multidb tries again"
            );
        }
    }
}

fn damaged(snapshot: &str, message: String) -> CloneError {
    CloneError::SnapshotDamaged {
        snapshot: snapshot.to_owned(),
        message,
    }
}

/// Refuses a snapshot that lacks files: its instance would fail much later.
fn check_count(snapshot: &SnapshotRecord, files: u64) -> Result<(), CloneError> {
    if files == snapshot.files {
        return Ok(());
    }
    let counted = if files == 1 { "file" } else { "files" };
    let message = format!(
        "it has {files} {counted}, but its manifest says {}; import it again",
        snapshot.files
    );
    Err(damaged(snapshot.id.as_str(), message))
}

fn failed_thread(directory: &Path) -> CloneError {
    let error = io::Error::other("its thread panicked");
    failed("sync the manifest of", directory, &error)
}
