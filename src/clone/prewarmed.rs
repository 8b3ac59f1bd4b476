//! Clones of snapshots that are made before a client asks for them: `prewarm` in `[project.X]`.
//!
//! Each is a data directory in `instances/` under a hidden name and without a manifest, so it is no instance's, and a start
//! takes no notice of it. One rename makes it the data of a new instance, in the place of the rename of `data.partial`.
//! Which ones there are is known in memory alone: the clones of an earlier daemon go to the trash.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use multidb_actors::ports::CloneError;
use multidb_store::{Layout, ProjectName, SnapshotId, SnapshotRecord};
use tokio::sync::Notify;

use super::{Method, TreeCloner, exclusive_bytes, trash};

/// The prefix of the directories. Hidden, so that they are not taken for instances.
const PREFIX: &str = ".prewarmed-";

/// A clone that is kept ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrewarmedClone {
    /// The project of its snapshot.
    pub project: ProjectName,
    /// Its snapshot.
    pub snapshot: SnapshotId,
    /// When that was imported, which tells it from an earlier one of the same id.
    pub imported_at: Timestamp,
    /// Its data directory.
    pub path: PathBuf,
    /// The bytes that are its own, as they were measured when it was made.
    pub exclusive_bytes: u64,
}

impl PrewarmedClone {
    /// Whether it is a clone of this snapshot.
    pub fn is_of(&self, snapshot: &SnapshotRecord) -> bool {
        self.snapshot == snapshot.id && self.imported_at == snapshot.imported_at
    }
}

/// The clones that are kept ready.
#[derive(Debug, Default)]
pub(super) struct Prewarmed {
    ready: Mutex<Vec<PrewarmedClone>>,
    taken: Notify,
}

impl Prewarmed {
    fn ready(&self) -> MutexGuard<'_, Vec<PrewarmedClone>> {
        // Each change is one call.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out the first one of which this is true.
    fn take(&self, is_wanted: impl Fn(&PrewarmedClone) -> bool) -> Option<PrewarmedClone> {
        let mut ready = self.ready();
        let position = ready.iter().position(is_wanted)?;
        Some(ready.remove(position))
    }
}

/// Moves the clones of an earlier daemon to the trash.
pub(super) fn clean(layout: &Layout) -> io::Result<()> {
    for entry in fs::read_dir(layout.instances())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            trash::put(&layout.trash(), &entry.path())?;
        }
    }
    Ok(())
}

/// A name that no other clone has.
fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{:x}-{number}", Timestamp::now().as_nanosecond())
}

impl TreeCloner {
    /// Makes a clone of a snapshot and keeps it ready for the next instance that begins with that snapshot.
    ///
    /// # Errors
    ///
    /// There is no space, or the snapshot is damaged or gone. Leaves nothing then.
    pub fn prewarm(&self, snapshot: &SnapshotRecord) -> Result<(), CloneError> {
        self.check_reserve(0)?;
        let snapshot = self.check_snapshot(&snapshot.id)?;
        if self.chosen()? == Method::Copy {
            self.check_reserve(snapshot.bytes)?;
        }
        let path = self.layout.instances().join(name());
        let from = self.layout.snapshot_data(&snapshot.id);
        let made = match self.makes_snapshots_of(&from)? {
            true => self.snapshot_subvolume(&snapshot, &from, &path),
            false => self.clone_files(&snapshot, &path).map(drop),
        };
        let measured = made
            .and_then(|()| exclusive_bytes(&path).map_err(|error| self.tree_failed(error, None)));
        let exclusive_bytes = measured.inspect_err(|_| self.remove_failed(&path))?;
        self.prewarmed.ready().push(PrewarmedClone {
            project: snapshot.project,
            snapshot: snapshot.id,
            imported_at: snapshot.imported_at,
            path,
            exclusive_bytes,
        });
        Ok(())
    }

    /// The clones that are kept ready.
    pub fn prewarmed(&self) -> Vec<PrewarmedClone> {
        self.prewarmed.ready().clone()
    }

    /// Returns when one was taken since the last call.
    pub async fn prewarmed_taken(&self) {
        self.prewarmed.taken.notified().await;
    }

    /// Deletes one, unless an instance took it.
    ///
    /// # Errors
    ///
    /// It cannot be deleted.
    pub fn discard_prewarmed(&self, clone: &PrewarmedClone) -> Result<(), CloneError> {
        match self.prewarmed.take(|one| one == clone) {
            Some(clone) => self.remove_tree(&clone.path),
            None => Ok(()),
        }
    }

    /// Deletes the clones of a snapshot.
    ///
    /// # Errors
    ///
    /// One cannot be deleted.
    pub(crate) fn discard_prewarmed_of(&self, id: &SnapshotId) -> Result<(), CloneError> {
        while let Some(clone) = self.prewarmed.take(|one| one.snapshot == *id) {
            self.remove_tree(&clone.path)?;
        }
        Ok(())
    }

    /// Makes one of this snapshot the data of an instance, durably. Returns whether there was one.
    pub(super) fn take_prewarmed(
        &self,
        snapshot: &SnapshotRecord,
        manifest: &File,
        (directory, data): (&Path, &Path),
    ) -> Result<bool, CloneError> {
        let Some(clone) = self.prewarmed.take(|one| one.is_of(snapshot)) else {
            return Ok(false);
        };
        self.prewarmed.taken.notify_one();
        let synced = self.sync_manifest(manifest, directory);
        synced.inspect_err(|_| self.remove_failed(&clone.path))?;
        // Trusted path: only multidb can write either directory.
        match fs::rename(&clone.path, data) {
            Ok(()) => {}
            // The operator deleted it by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                self.remove_failed(&clone.path);
                return Err(self.io_failed("rename", data, &error));
            }
        }
        self.sync_clone(directory, self.file_method()?)?;
        Ok(true)
    }
}
