//! The snapshots on disk: each a directory with a manifest, which is its only record.

use std::fs;
use std::sync::Arc;

use multidb_actors::ports::{CloneError, SnapshotCatalog};
use multidb_store::{Layout, SnapshotId, SnapshotRecord, error_chain, manifest};

use crate::clone::TreeCloner;

/// The snapshots under one root.
pub struct DiskCatalog {
    layout: Layout,
    cloner: Arc<TreeCloner>,
}

impl DiskCatalog {
    /// The snapshots under this root, deleted by this cloner.
    pub fn new(layout: Layout, cloner: Arc<TreeCloner>) -> Self {
        Self { layout, cloner }
    }

    /// Deletes what interrupted imports left.
    ///
    /// # Errors
    ///
    /// The snapshots cannot be listed.
    pub fn remove_staging(&self) -> Result<(), CloneError> {
        let snapshots = self.layout.snapshots();
        let entries = fs::read_dir(&snapshots).map_err(|error| CloneError::Failed {
            message: format!("cannot list {}: {error}", snapshots.display()),
        })?;
        for entry in entries.flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(b".staging-")
            {
                tracing::info!(path = %entry.path().display(), "an interrupted import is removed");
                self.cloner.remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl SnapshotCatalog for DiskCatalog {
    fn load(&self) -> Result<Vec<SnapshotRecord>, CloneError> {
        let found = manifest::scan::<SnapshotRecord>(&self.layout.snapshots());
        let found = found.map_err(|error| CloneError::Failed {
            message: error_chain(&error),
        })?;
        let mut snapshots = Vec::new();
        for (directory, snapshot) in found {
            let damage = match &snapshot {
                Ok(snapshot) if self.layout.snapshot(&snapshot.id) != directory => {
                    Some("its directory has another name than its manifest".to_owned())
                }
                Ok(_) if !directory.join("data").is_dir() => Some("it has no data".to_owned()),
                Ok(_) => None,
                Err(error) => Some(error_chain(error)),
            };
            match (damage, snapshot) {
                (None, Ok(snapshot)) => snapshots.push(snapshot),
                (damage, _) => tracing::warn!(
                    directory = %directory.display(),
                    damage,
                    "a damaged snapshot is left out, import it again and remove the directory"
                ),
            }
        }
        Ok(snapshots)
    }

    fn delete(&self, id: &SnapshotId) -> Result<(), CloneError> {
        let directory = self.layout.snapshot(id);
        if !directory.exists() {
            return Ok(());
        }
        if let Err(error) = manifest::read::<SnapshotRecord>(&directory) {
            return Err(CloneError::Failed {
                message: format!(
                    "{} is left alone, since it has no manifest of ours: {}",
                    directory.display(),
                    error_chain(&error)
                ),
            });
        }
        self.cloner.remove_tree(&directory)
    }
}
