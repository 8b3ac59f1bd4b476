//! The staging directory of an import: `snapshots/.staging-<id>`.
//!
//! Creating it reserves the snapshot's id. The rename to `snapshots/<id>` publishes the snapshot,
//! after everything in it is durable. A staging directory that a crash leaves is removed by the
//! catalog at the next start.

use std::io;
use std::path::{Path, PathBuf};

use multidb_actors::ports::CloneError;
use multidb_store::{Layout, SnapshotId, SnapshotRecord, manifest};

use super::error::ImportError;
use super::tree::check_snapshot;
use crate::clone::{TreeCloner, failed};
use crate::fsutil::beneath::{Directory, TreeError};
use crate::fsutil::directory;
use crate::relations::Relations;

/// Lets the user of the servers pass through to the data.
const MODE: u32 = 0o711;

/// The directory in which one snapshot is prepared.
#[derive(Debug, Clone)]
pub(super) struct Staging {
    id: SnapshotId,
    path: PathBuf,
    /// The path of the finished snapshot.
    published: PathBuf,
}

impl Staging {
    pub(super) fn new(layout: &Layout, id: &SnapshotId) -> Self {
        Self {
            id: id.clone(),
            path: layout.snapshot_staging(id),
            published: layout.snapshot(id),
        }
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory in it.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Creates the directory. This reserves the id.
    pub(super) fn create(&self) -> Result<(), ImportError> {
        let id = || self.id.clone();
        // Trusted path: only multidb can write the directory of the snapshots.
        let exists = self.published.try_exists();
        if exists.map_err(|source| ImportError::io("read", &self.published, source))? {
            return Err(ImportError::Exists { id: id() });
        }
        match directory::create_new(&self.path, MODE) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ImportError::InProgress { id: id() })
            }
            Err(source) => Err(ImportError::io("create", &self.path, source)),
        }
    }

    /// Makes the snapshot durable, then visible; returns its record with the size of its data.
    /// Blocks.
    pub(super) fn publish(
        &self,
        cloner: &TreeCloner,
        record: SnapshotRecord,
        relations: Option<&Relations>,
        source: &Path,
    ) -> Result<SnapshotRecord, ImportError> {
        // This also refuses links: the script of a dump can create a tablespace.
        let size = check_snapshot(&self.data(), source)?;
        let record = SnapshotRecord {
            bytes: size.bytes,
            files: size.files,
            ..record
        };
        self.remove_all_but_data()?;
        if let Some(relations) = relations {
            let written = relations.write(&self.path);
            written.map_err(|error| ImportError::io("write a file in", &self.path, error))?;
        }
        manifest::write(&self.path, &record)?;
        cloner.sync(&self.path)?;
        directory::rename_new(&self.path, &self.published)
            .map_err(|error| ImportError::io("create", &self.published, error))?;
        Ok(record)
    }

    /// Removes the log, the FIFOs and other scratch files.
    fn remove_all_but_data(&self) -> Result<(), ImportError> {
        let failed = |error: TreeError| ImportError::io("clear", &self.path, error.into());
        let directory = Directory::open(&self.path).map_err(failed)?;
        for name in directory.names().map_err(failed)? {
            let name = name.map_err(failed)?;
            if name != "data" {
                directory.remove(&name).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Removes everything of a failed import. Blocks.
    ///
    /// An import that is cancelled during [`Self::publish`] may have renamed the directory, but has
    /// not announced the snapshot.
    pub(super) fn remove(&self, cloner: &TreeCloner) -> Result<(), CloneError> {
        // Trusted path: only multidb can write the directory of the snapshots.
        let exists = self.path.try_exists();
        if exists.map_err(|error| failed("read", &self.path, &error))? {
            cloner.remove_tree(&self.path)
        } else {
            cloner.remove_tree(&self.published)
        }
    }
}
