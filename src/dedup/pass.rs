//! All files of an older snapshot, in the order of their paths.

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
        let mut extents = 0;
        for (path, _) in &files {
            extents += count_extents(&trees.older.file(path)?)?;
        }
        let mut budget = ExtentBudget::new(extents, bytes_of(&files));
        let left = self.first_round(&trees, &files, &mut budget, record)?;
        // Files behind them did not need all of their extents.
        budget.begin_again(bytes_of(&left));
        for (path, bytes) in left {
            let sharing = self.share(&trees, &path, bytes, &mut budget)?;
            record.add(sharing);
            record.extents = budget.extents();
        }
        Ok(())
    }

    /// Returns the files that have equal blocks which were left alone, with their bytes.
    fn first_round(
        &mut self,
        trees: &Trees,
        files: &[(PathBuf, u64)],
        budget: &mut ExtentBudget,
        record: &mut DedupRecord,
    ) -> Result<Vec<(PathBuf, u64)>, DedupError> {
        let total = bytes_of(files);
        let (mut done, mut left) = (0, Vec::new());
        let mut written = Instant::now();
        for (path, bytes) in files {
            done += bytes;
            if record.last_file.as_ref().is_some_and(|last| path <= last) {
                budget.file_done(*bytes, 0, 0);
                continue;
            }
            let sharing = self.share(trees, path, *bytes, budget)?;
            if sharing.left > 0 {
                left.push((path.clone(), sharing.left));
            }
            record.add(sharing);
            record.extents = budget.extents();
            record.last_file = Some(path.clone());
            (self.report)(done, total);
            if written.elapsed() >= RECORD_INTERVAL {
                self.write(record)?;
                written = Instant::now();
            }
        }
        Ok(left)
    }

    /// Shares the blocks of a file, which is `bytes` of those that the budget is for.
    fn share(
        &mut self,
        trees: &Trees,
        path: &Path,
        bytes: u64,
        budget: &mut ExtentBudget,
    ) -> Result<Sharing, DedupError> {
        let older = trees.older.file(path)?;
        let before = count_extents(&older)?;
        let counterpart = trees.counterparts.of(path);
        let newer = counterpart.map(|path| trees.newer.file(path)).transpose();
        let sharing = match newer {
            Ok(Some(newer)) => pair::share(&newer, &older, budget.allowance(bytes), self.pace)?,
            Ok(None) => pair::leave(&older)?,
            Err(error) if error.is_missing() => pair::leave(&older)?,
            Err(error) => return Err(error.into()),
        };
        budget.file_done(bytes, before, sharing.extents);
        Ok(sharing)
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

fn bytes_of(files: &[(PathBuf, u64)]) -> u64 {
    files.iter().map(|(_, bytes)| bytes).sum()
}
