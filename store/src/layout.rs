//! The paths under the root directory.
//!
//! ```text
//! root/
//!   root.json                                 the root's identity
//!   lock                                      locked by the daemon that serves the root
//!   snapshots/<id>/manifest.json, data/       immutable
//!   snapshots/.staging-<id>/                  an import that is not finished
//!   instances/<uid>/manifest.json, data/, postgres.log
//!   run/<uid>/.s.PGSQL.5432                   the socket and settings of a running instance
//!   state/db/                                 sled
//!   state/notified.json                       the notifications that need not be sent again
//!   state/servers/<uid>.json                  a running server of the process runtime
//!   state/git/<project>/                      mirrors of remote repositories
//!   state/templates/<major>/                  one empty cluster per major, for imports
//!   quarantine/<uid>/                         clones that no name can have, kept until an operator decides
//!   trash/                                    directories that are being deleted
//! ```

use std::path::{Path, PathBuf};

use crate::ids::{InstanceUid, ProjectName, SnapshotId};

/// The name of an incomplete clone, beside its manifest.
pub const PARTIAL_DATA: &str = "data.partial";
/// The name of the state that a clone of another instance began with, beside its data.
pub const BASE_DATA: &str = "base";

/// The paths under one root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under `root`, which must be absolute.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file with the root's identity.
    pub fn marker(&self) -> PathBuf {
        self.root.join("root.json")
    }

    /// The file that the daemon locks.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// All snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// One snapshot's directory: its manifest and its data.
    pub fn snapshot(&self, id: &SnapshotId) -> PathBuf {
        self.snapshots().join(id.as_str())
    }

    /// One snapshot's data directory.
    pub fn snapshot_data(&self, id: &SnapshotId) -> PathBuf {
        self.snapshot(id).join("data")
    }

    /// Where an import prepares a snapshot before it is renamed into place.
    pub fn snapshot_staging(&self, id: &SnapshotId) -> PathBuf {
        self.snapshots().join(format!(".staging-{id}"))
    }

    /// All instances.
    pub fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    /// One instance's directory: its manifest, its data and its log.
    pub fn instance(&self, uid: InstanceUid) -> PathBuf {
        self.instances().join(uid.to_string())
    }

    /// One instance's data directory. It exists only when the clone is complete.
    pub fn instance_data(&self, uid: InstanceUid) -> PathBuf {
        self.instance(uid).join("data")
    }

    /// The state that a clone of another instance began with, for its resets.
    pub fn instance_base(&self, uid: InstanceUid) -> PathBuf {
        self.instance(uid).join(BASE_DATA)
    }

    /// The Postgres log of one instance, over all its starts.
    pub fn instance_log(&self, uid: InstanceUid) -> PathBuf {
        self.instance(uid).join("postgres.log")
    }

    /// The parent of the run directories.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The directory of one running instance's socket and settings.
    pub fn run_dir(&self, uid: InstanceUid) -> PathBuf {
        self.run().join(uid.to_string())
    }

    /// The daemon's own files.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The notifications that need not be sent again.
    pub fn notified(&self) -> PathBuf {
        self.state().join("notified.json")
    }

    /// The database of records.
    pub fn db(&self) -> PathBuf {
        self.state().join("db")
    }

    /// The daemon's files about the servers of the process runtime.
    pub fn servers(&self) -> PathBuf {
        self.state().join("servers")
    }

    /// The daemon's file about one server of the process runtime.
    pub fn server_file(&self, uid: InstanceUid) -> PathBuf {
        self.servers().join(format!("{uid}.json"))
    }

    /// The bare mirror of one project's remote repository.
    pub fn git_mirror(&self, project: &ProjectName) -> PathBuf {
        self.state().join("git").join(project.as_str())
    }

    /// The empty cluster that imports of one Postgres major start from.
    pub fn template(&self, postgres_major: u16) -> PathBuf {
        self.state()
            .join("templates")
            .join(postgres_major.to_string())
    }

    /// The parent of clones that no name can have.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The parent of directories that are being deleted.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}
