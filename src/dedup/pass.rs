//! All files of an older snapshot, in the order of their paths.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{Layout, SnapshotId};
use tokio::time::Instant;

use super::pace::Pace;
use super::pair;
use super::record::DedupRecord;
use super::{DedupError, ExtentBudget};
use crate::fsutil::beneath::{Directory, Kind, TreeError, Walk};
use crate::relations::{Counterparts, Relations};

/// The time between two writes of how far it is.
const RECORD_INTERVAL: Duration = Duration::from_secs(5);

/// An older snapshot, and the newer one whose blocks it is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshots {
    /// Its blocks are given up where the other one has the same bytes.
    pub older: SnapshotId,
    /// It is only read.
    pub newer: SnapshotId,
    /// Tells it from an earlier one of the same name.
    pub newer_imported_at: Timestamp,
}

/// A pass over one older snapshot.
pub(super) struct Pass<'a> {
    pub(super) layout: &'a Layout,
    pub(super) snapshots: Snapshots,
    pub(super) pace: &'a mut Pace,
    /// Called with the bytes of the files that are done, and of all.
    pub(super) report: &'a dyn Fn(u64, u64),
}

impl Pass<'_> {
    /// Compares the files that an earlier pass onto the same snapshot has not, and shares their equal
    /// blocks.
    pub(super) fn run(mut self) -> Result<(), DedupError> {
        // Cancelled or paused before the first byte.
        self.pace.take(0)?;
        let Snapshots { older, newer, .. } = self.snapshots.clone();
        let record = DedupRecord::read(self.layout, &older);
        let mut record = record
            .filter(|record| record.is_of(&self.snapshots) && record.finished_at.is_none())
            .unwrap_or_else(|| DedupRecord::new(&self.snapshots));
        let result = self.files(&mut record);
        if matches!(result, Ok(())) {
            record.last_file = None;
            record.finished_at = Some(Timestamp::now());
        }
        let written = self.write(&record);
        result?;
        written?;
        tracing::info!(
            snapshot = %older,
            onto = %newer,
            examined = record.bytes_examined,
            shared = record.bytes_shared,
            saved = record.bytes_saved,
            extents = record.extents,
            "snapshot shares the blocks of a newer one"
        );
        Ok(())
    }

    fn files(&mut self, record: &mut DedupRecord) -> Result<(), DedupError> {
        let open = |id| Directory::open(&self.layout.snapshot_data(id));
        let (older, newer) = (open(&self.snapshots.older)?, open(&self.snapshots.newer)?);
        let files = files(open(&self.snapshots.older)?)?;
        let relations = |id| Relations::read(&self.layout.snapshot(id));
        let counterparts = Counterparts::new(
            relations(&self.snapshots.older),
            relations(&self.snapshots.newer).as_ref(),
        );
        let total = files.iter().map(|(_, bytes)| bytes).sum();
        let mut done = 0;
        let mut budget = ExtentBudget::new(record.extents);
        let mut written = Instant::now();
        for (path, bytes) in files {
            done += bytes;
            let is_done = record.last_file.as_ref().is_some_and(|last| path <= *last);
            if !is_done {
                let file = older.file(&path)?;
                let counterpart = counterparts.of(&path);
                let sharing = match counterpart.map(|path| newer.file(&path)).transpose() {
                    Ok(Some(newer)) => pair::share(&newer, &file, &mut budget, self.pace)?,
                    Ok(None) => pair::leave(&file, &mut budget)?,
                    Err(error) if error.is_missing() => pair::leave(&file, &mut budget)?,
                    Err(error) => return Err(error.into()),
                };
                record.add(sharing);
                record.extents = budget.extents();
                record.last_file = Some(path);
                (self.report)(done, total);
            }
            if written.elapsed() >= RECORD_INTERVAL {
                self.write(record)?;
                written = Instant::now();
            }
        }
        Ok(())
    }

    fn write(&self, record: &DedupRecord) -> Result<(), DedupError> {
        let written = record.write(self.layout, &self.snapshots.older);
        written.map_err(|source| DedupError::Io {
            action: "write the record of",
            source,
        })
    }
}

/// The regular files of a tree with their bytes, by their paths.
fn files(top: Directory) -> Result<Vec<(PathBuf, u64)>, TreeError> {
    let mut found = Vec::new();
    let mut walk = Walk::new(top)?;
    while let Some(kind) = walk.advance()? {
        match kind {
            Kind::Directory => drop(walk.enter()?),
            Kind::File => found.push((
                walk.relative().to_owned(),
                walk.stat()?.st_size.cast_unsigned(),
            )),
            Kind::Other | Kind::End => {}
        }
    }
    found.sort_unstable();
    Ok(found)
}
