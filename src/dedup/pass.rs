//! All files of an older snapshot, in the order of their paths.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{Layout, SnapshotId};
use tokio::time::Instant;

use super::DedupError;
use super::budget::ExtentBudget;
use super::pace::Pace;
use super::pair::{self, Sharing, count_extents};
use super::record::DedupRecord;
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

/// The files of both.
struct Trees {
    older: Directory,
    newer: Directory,
    counterparts: Counterparts,
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
        let trees = Trees {
            older,
            newer,
            counterparts,
        };
        let (mut extents, mut total) = (0, 0);
        for (path, bytes) in &files {
            self.pace.take(0)?;
            extents += count_extents(&trees.older.file(path)?)?;
            total += bytes;
        }
        let mut budget = ExtentBudget::new(extents, total);
        let (mut done, mut written) = (0, Instant::now());
        for (number, (path, bytes)) in files.iter().enumerate() {
            done += bytes;
            budget.begin_file(number);
            if record.last_file.as_ref().is_some_and(|last| path <= last) {
                budget.file_done(*bytes, 0, 0);
                continue;
            }
            let sharing = self.share(&trees, path, |newer, older, pace| {
                pair::share(newer, older, &mut budget, pace)
            })?;
            budget.file_done(*bytes, sharing.extents_before, sharing.extents);
            record.add(sharing);
            record.extents = budget.extents();
            // The runs that wait are only in memory.
            if !budget.has_waiting() {
                record.last_file = Some(path.clone());
            }
            (self.report)(done, total);
            if written.elapsed() >= RECORD_INTERVAL {
                self.write(record)?;
                written = Instant::now();
            }
        }
        for (number, ranges) in budget.longest() {
            let Some((path, _)) = files.get(number) else {
                continue;
            };
            budget.begin_file(number);
            let sharing = self.share(&trees, path, |newer, older, pace| {
                pair::share_ranges(newer, older, ranges, pace)
            })?;
            budget.file_done(0, sharing.extents_before, sharing.extents);
            record.add(sharing);
            record.extents = budget.extents();
            (self.report)(done, total);
        }
        Ok(())
    }

    /// Shares the blocks of a file with those of its counterpart, if there is one.
    fn share(
        &mut self,
        trees: &Trees,
        path: &Path,
        share: impl FnOnce(&File, &File, &mut Pace) -> Result<Sharing, DedupError>,
    ) -> Result<Sharing, DedupError> {
        let older = trees.older.file(path)?;
        let counterpart = trees.counterparts.of(path);
        match counterpart.map(|path| trees.newer.file(path)).transpose() {
            Ok(Some(newer)) => share(&newer, &older, self.pace),
            Ok(None) => pair::leave(&older),
            Err(error) if error.is_missing() => pair::leave(&older),
            Err(error) => Err(error.into()),
        }
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
