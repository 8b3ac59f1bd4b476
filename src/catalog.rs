//! The snapshots on disk. Each is a directory with a manifest, which is its only record.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use multidb_actors::ports::{CloneError, SnapshotCatalog};
use multidb_store::manifest::ManifestError;
use multidb_store::{
    DiskFault, FileError, Layout, SnapshotId, SnapshotRecord, error_chain, manifest,
};

use crate::clone::{TreeCloner, failed, foreign};
use crate::import::release_programs;

/// The prefix of the directories in which imports prepare snapshots.
const STAGING_PREFIX: &[u8] = b".staging-";

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

    /// The staging directories. Before the first import begins they are of interrupted ones.
    ///
    /// # Errors
    ///
    /// The snapshots cannot be listed.
    pub fn staging(&self) -> Result<Vec<PathBuf>, CloneError> {
        let snapshots = self.layout.snapshots();
        let mut staging = Vec::new();
        let entries = fs::read_dir(&snapshots).map_err(|error| cannot_list(&snapshots, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| cannot_list(&snapshots, &error))?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(STAGING_PREFIX) {
                staging.push(entry.path());
            }
        }
        Ok(staging)
    }

    /// Deletes the staging directory of an interrupted import, on which nothing runs. A directory that cannot be
    /// deleted is logged, and blocks only imports of the same id.
    pub fn remove_staging(&self, path: &Path) {
        release_programs(path);
        match self.cloner.remove_tree(path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "staging directory of an interrupted import removed");
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove the staging directory of an interrupted import, remove it by hand");
            }
        }
    }
}

/// A directory with its snapshot, or why that cannot be used.
pub type Inspected = (PathBuf, Result<SnapshotRecord, Unusable>);

/// Why a snapshot cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The cause.
    pub why: String,
    /// Whether the disk failed or refused it, so that the snapshot may be intact.
    pub is_of_disk: bool,
}

impl From<&ManifestError> for Unusable {
    fn from(error: &ManifestError) -> Self {
        let fault = match error {
            ManifestError::Io(error) => error.fault(),
            ManifestError::Content { .. } | ManifestError::Version { .. } => None,
        };
        Self {
            why: error_chain(error),
            is_of_disk: fault.is_some(),
        }
    }
}

/// All directories of snapshots, intact or damaged. Changes nothing.
///
/// # Errors
///
/// The snapshots cannot be listed.
pub fn inspect(layout: &Layout) -> Result<Vec<Inspected>, CloneError> {
    let found = manifest::scan::<SnapshotRecord>(&layout.snapshots());
    let found = found.map_err(|error| match error {
        ManifestError::Io(error) => failed(error.action, &error.path, &error.source),
        error => CloneError::Failed {
            message: error_chain(&error),
        },
    })?;
    let inspect = |(directory, snapshot): (PathBuf, Result<SnapshotRecord, ManifestError>)| {
        let snapshot = snapshot.map_err(|error| Unusable::from(&error));
        let intact = snapshot.and_then(|snapshot| {
            check(layout, &directory, &snapshot)?;
            Ok(snapshot)
        });
        (directory, intact)
    };
    Ok(found.into_iter().map(inspect).collect())
}

/// Checks that a snapshot belongs to its directory and has data.
fn check(layout: &Layout, directory: &Path, snapshot: &SnapshotRecord) -> Result<(), Unusable> {
    let damaged = |why: &str| Unusable {
        why: why.to_owned(),
        is_of_disk: false,
    };
    if layout.snapshot(&snapshot.id) != directory {
        return Err(damaged(
            "the directory and its manifest have different names",
        ));
    }
    let data = layout.snapshot_data(&snapshot.id);
    match fs::metadata(&data) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Err(error) if DiskFault::of(&error).is_some() => Err(Unusable {
            why: error_chain(&FileError::at("read", &data)(error)),
            is_of_disk: true,
        }),
        Ok(_) | Err(_) => Err(damaged("it has no data directory")),
    }
}

fn cannot_list(path: &Path, error: &io::Error) -> CloneError {
    failed("list", path, error)
}

impl SnapshotCatalog for DiskCatalog {
    fn load(&self) -> Result<Vec<SnapshotRecord>, CloneError> {
        let mut snapshots = Vec::new();
        for (directory, snapshot) in inspect(&self.layout)? {
            match snapshot {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(Unusable {
                    why,
                    is_of_disk: true,
                }) => tracing::error!(
                    directory = %directory.display(),
                    why,
                    "ignoring a snapshot that the disk cannot read, mend the disk and start multidb again"
                ),
                Err(Unusable { why, .. }) => tracing::warn!(
                    directory = %directory.display(),
                    damage = why,
                    "ignoring a damaged snapshot, move the directory away and import the snapshot again"
                ),
            }
        }
        Ok(snapshots)
    }

    fn delete(&self, id: &SnapshotId) -> Result<(), CloneError> {
        let directory = self.layout.snapshot(id);
        if fs::symlink_metadata(&directory).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        let problem = match manifest::read::<SnapshotRecord>(&directory) {
            Err(ManifestError::Io(error)) if error.fault().is_some() => {
                return Err(failed(error.action, &error.path, &error.source));
            }
            Ok(snapshot) if snapshot.id == *id => {
                self.cloner.discard_prewarmed_of(id)?;
                return self.cloner.remove_tree(&directory);
            }
            Ok(snapshot) => format!("its manifest names the snapshot {}", snapshot.id),
            Err(error) => error_chain(&error),
        };
        Err(foreign(&directory, &problem))
    }
}

#[cfg(test)]
mod tests {
    use multidb_actors::testing;

    use super::*;
    use crate::clone::Method;

    fn catalog() -> (tempfile::TempDir, Layout, DiskCatalog) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let cloner = TreeCloner::open(layout.clone(), Method::Copy, 0, (0, 0)).unwrap();
        let catalog = DiskCatalog::new(layout.clone(), Arc::new(cloner));
        (root, layout, catalog)
    }

    fn snapshot(layout: &Layout, directory: &str, id: &str) -> SnapshotRecord {
        let record = testing::snapshot(id, 0, &[]);
        let directory = layout.snapshots().join(directory);
        fs::create_dir_all(directory.join("data")).unwrap();
        manifest::write(&directory, &record).unwrap();
        record
    }

    #[test]
    fn damaged_snapshots_are_ignored() {
        let (_root, layout, catalog) = catalog();
        let good = snapshot(&layout, "good", "good");
        snapshot(&layout, "renamed", "other");
        snapshot(&layout, "empty", "empty");
        fs::remove_dir(layout.snapshots().join("empty/data")).unwrap();
        snapshot(&layout, "torn", "torn");
        fs::write(layout.snapshots().join("torn/manifest.json"), "{").unwrap();
        snapshot(&layout, ".staging-next", "next");
        assert_eq!(catalog.load().unwrap(), [good]);
    }

    #[test]
    fn snapshot_can_be_deleted_twice() {
        let (_root, layout, catalog) = catalog();
        let id = snapshot(&layout, "monday", "monday").id;
        catalog.delete(&id).unwrap();
        catalog.delete(&id).unwrap();
        assert!(!layout.snapshot(&id).exists());
        assert_eq!(fs::read_dir(layout.trash()).unwrap().count(), 0);
    }

    #[test]
    fn unknown_directory_is_never_deleted() {
        let (_root, layout, catalog) = catalog();
        fs::create_dir(layout.snapshots().join("mine")).unwrap();
        snapshot(&layout, "copied", "original");
        for name in ["mine", "copied"] {
            let error = catalog.delete(&name.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains("is not touched"), "{error}");
            assert!(layout.snapshots().join(name).is_dir());
        }
    }

    #[test]
    fn staging_directories_are_removed_and_snapshots_stay() {
        let (_root, layout, catalog) = catalog();
        let good = snapshot(&layout, "good", "good");
        fs::create_dir_all(layout.snapshots().join(".staging-half/data/base")).unwrap();
        fs::create_dir_all(layout.snapshots().join(".something-else")).unwrap();
        for staging in catalog.staging().unwrap() {
            catalog.remove_staging(&staging);
        }
        assert!(!layout.snapshots().join(".staging-half").exists());
        assert!(layout.snapshots().join(".something-else").exists());
        assert_eq!(catalog.load().unwrap(), [good]);
    }
}
