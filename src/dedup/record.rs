//! The record of a snapshot's de-duplication: a small file beside its manifest.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use multidb_store::{Layout, SnapshotId, atomic_file};
use serde::{Deserialize, Serialize};

use super::pair::Sharing;
use super::pass::Snapshots;
use crate::fsutil::unless_missing;

const MODE: u32 = 0o644;

/// How far a snapshot shares the blocks of a newer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupRecord {
    /// The newer snapshot.
    pub onto: SnapshotId,
    /// When that was imported; an earlier version did not record it.
    #[serde(default)]
    pub onto_imported_at: Option<Timestamp>,
    /// The last file before which all were done, where the comparison is not complete.
    pub last_file: Option<PathBuf>,
    /// When it was complete.
    pub finished_at: Option<Timestamp>,
    /// The bytes that were compared.
    pub bytes_examined: u64,
    /// The bytes whose blocks both have.
    pub bytes_shared: u64,
    /// The bytes of them that were freed.
    pub bytes_saved: u64,
    /// The extents of the snapshot when it was complete.
    pub extents: u64,
}

impl DedupRecord {
    pub(super) fn new(snapshots: &Snapshots) -> Self {
        Self {
            onto: snapshots.newer.clone(),
            onto_imported_at: Some(snapshots.newer_imported_at),
            last_file: None,
            finished_at: None,
            bytes_examined: 0,
            bytes_shared: 0,
            bytes_saved: 0,
            extents: 0,
        }
    }

    /// Whether it is about the newer one of these.
    pub(super) fn is_of(&self, snapshots: &Snapshots) -> bool {
        let imported_at = snapshots.newer_imported_at;
        let is_same = match self.onto_imported_at {
            Some(at) => at == imported_at,
            // A comparison that ended after the import was one with this snapshot.
            None => self.finished_at.is_some_and(|at| at > imported_at),
        };
        is_same && self.onto == snapshots.newer
    }

    pub(super) fn add(&mut self, sharing: Sharing) {
        self.bytes_examined += sharing.examined;
        self.bytes_shared += sharing.shared;
        self.bytes_saved += sharing.saved;
    }

    /// The record of a snapshot; none before the first de-duplication. An unreadable record counts as none, which
    /// costs another comparison.
    pub(super) fn read(layout: &Layout, id: &SnapshotId) -> Option<Self> {
        let text = std::fs::read(path(layout, id)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes it. A snapshot that was removed meanwhile needs none.
    pub(super) fn write(&self, layout: &Layout, id: &SnapshotId) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let written = atomic_file::replace(&path(layout, id), &text, MODE, |_| Ok(()));
        unless_missing(written)
    }
}

fn path(layout: &Layout, id: &SnapshotId) -> PathBuf {
    Path::join(&layout.snapshot(id), "dedup.json")
}
