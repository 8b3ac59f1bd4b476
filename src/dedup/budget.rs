//! The extents that an older snapshot may have, and the runs of equal blocks that are worth theirs.
//!
//! A run in the middle of an extent leaves a part before it and one behind it, however long it is. So the longest runs of
//! all files are shared. Those that are long enough in any case are shared when they are found, with their blocks in the
//! page cache; the others wait for the end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use crate::fsutil::fiemap::Extent;

/// The extents of a snapshot beyond which a clone takes visibly longer: 15 µs each.
pub(super) const EXTENTS_MAX: u64 = 20_000;
/// The extents that a run costs, where the newer file has one extent there, and the older one has more on both sides.
const EXTENTS_OF_RUN: u64 = 2;

/// How many extents a snapshot has and may get, and the runs that wait for them.
#[derive(Debug)]
pub(super) struct ExtentBudget {
    extents: u64,
    /// Of the files that are not done, and of the one that is at work.
    bytes: u64,
    /// The number of the file at work.
    file: usize,
    /// The extents that there were before it.
    extents_before: u64,
    /// The length from which on its runs are long enough.
    run_bytes_min: u64,
    waiting: WaitingRuns,
}

impl ExtentBudget {
    /// Before files that have so many extents and bytes.
    pub(super) fn new(extents: u64, bytes: u64) -> Self {
        Self {
            extents,
            bytes,
            file: 0,
            extents_before: extents,
            run_bytes_min: 0,
            waiting: WaitingRuns::default(),
        }
    }

    /// How many extents there are now.
    pub(super) fn extents(&self) -> u64 {
        self.extents
    }

    /// Whether a run of a file before waits.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.0.is_empty()
    }

    /// Begins the file of this number.
    pub(super) fn begin_file(&mut self, file: usize) {
        self.file = file;
        self.extents_before = self.extents;
        // Beside those that wait, there is room for as many of that length as can be in the files that are not done. So they
        // are among the longest of all.
        let free = self.room().saturating_sub(self.waiting.0.len() as u64);
        self.run_bytes_min = match free {
            0 => u64::MAX,
            free => self.bytes.div_ceil(free),
        };
    }

    /// Whether this run of the file is shared now. Otherwise it waits.
    pub(super) fn takes(&mut self, run: &Run) -> bool {
        let is_long = run.bytes() >= self.run_bytes_min;
        let takes = run.added <= 0 || (is_long && run.added.unsigned_abs() <= self.spare());
        if takes {
            self.extents = self.extents.saturating_add_signed(run.added);
        } else {
            self.waiting.push(self.file, run);
        }
        self.waiting.keep(self.room());
        takes
    }

    /// The file of so many bytes is done, and has other extents than before.
    pub(super) fn file_done(&mut self, bytes: u64, before: u64, after: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.extents = (self.extents_before + after).saturating_sub(before);
        self.waiting.keep(self.room());
    }

    /// The longest runs that wait and have room, by file.
    pub(super) fn longest(&mut self) -> BTreeMap<usize, Vec<Range<u64>>> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.longest(self.spare())
    }

    fn spare(&self) -> u64 {
        EXTENTS_MAX.saturating_sub(self.extents)
    }

    /// How many more runs have room.
    fn room(&self) -> u64 {
        self.spare() / EXTENTS_OF_RUN
    }
}

/// A run of blocks that are equal in both files, and can be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) range: Range<u64>,
    /// The extents that the older file has more once it is shared, or fewer.
    added: i64,
}

impl Run {
    /// A run in files with these extents.
    pub(super) fn new(range: Range<u64>, older: &[Extent], newer: &[Extent]) -> Self {
        let (own, others) = (within(older, &range), within(newer, &range));
        let is_split = [
            own.first().is_some_and(|first| first.logical < range.start),
            own.last().is_some_and(|last| range.end < last.end()),
        ];
        let split = is_split.into_iter().filter(|is_split| *is_split).count();
        Self {
            added: (split + others.len()) as i64 - own.len() as i64,
            range,
        }
    }

    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// The extents that have bytes of a range.
pub(super) fn within<'a>(extents: &'a [Extent], range: &Range<u64>) -> &'a [Extent] {
    let first = extents.partition_point(|extent| extent.end() <= range.start);
    let end = extents.partition_point(|extent| extent.logical < range.end);
    extents.get(first..end).unwrap_or_default()
}

/// The longest runs that wait, by their lengths: of each the number of its file, where it begins, and its extents.
#[derive(Debug, Default)]
struct WaitingRuns(BinaryHeap<Reverse<(u64, usize, u64, i64)>>);

impl WaitingRuns {
    fn push(&mut self, file: usize, run: &Run) {
        let waiting = (run.bytes(), file, run.range.start, run.added);
        self.0.push(Reverse(waiting));
    }

    /// Drops the shortest ones, but for as many as have room.
    fn keep(&mut self, room: u64) {
        while self.0.len() as u64 > room {
            self.0.pop();
        }
    }

    /// The longest ones that so many extents suffice for, by file.
    fn longest(self, spare: u64) -> BTreeMap<usize, Vec<Range<u64>>> {
        let mut spare = i64::try_from(spare).unwrap_or(i64::MAX);
        let mut longest: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
        // Ascending by Reverse, so the longest are first.
        for Reverse((bytes, file, start, added)) in self.0.into_sorted_vec() {
            if added > spare {
                continue;
            }
            spare -= added;
            longest.entry(file).or_default().push(start..start + bytes);
        }
        for ranges in longest.values_mut() {
            ranges.sort_unstable_by_key(|range| range.start);
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(start: u64, bytes: u64, added: i64) -> Run {
        Run {
            range: start..start + bytes,
            added,
        }
    }

    /// The bytes of the runs that are shared at once and at the end, of files with runs of so many bytes, and the most that
    /// could be.
    fn share(extents: u64, files: &[Vec<u64>]) -> (u64, u64, u64) {
        let total = files.iter().flatten().sum();
        let mut budget = ExtentBudget::new(extents, total);
        let mut at_once = 0;
        for (number, runs) in files.iter().enumerate() {
            budget.begin_file(number);
            let mut added = 0;
            for (place, bytes) in (0..).zip(runs) {
                if budget.takes(&run(place << 30, *bytes, 2)) {
                    at_once += bytes;
                    added += 2;
                }
            }
            budget.file_done(runs.iter().sum(), 1, 1 + added);
            assert!(budget.extents() <= EXTENTS_MAX);
        }
        let longest = budget.longest();
        let ranges = longest.values().flatten();
        let waited = ranges.map(|range| range.end - range.start).sum();
        let mut all: Vec<u64> = files.concat();
        all.sort_unstable_by_key(|bytes| Reverse(*bytes));
        let room = (EXTENTS_MAX - extents) / 2;
        let most = all.iter().take(room as usize).sum();
        (at_once, waited, most)
    }

    #[test]
    fn longest_that_wait_get_the_room() {
        let mut waiting = WaitingRuns::default();
        for (file, run) in [(0, run(0, 10, 2)), (0, run(20, 40, 2)), (3, run(5, 20, 1))] {
            waiting.push(file, &run);
        }
        // One that costs more than there is keeps no other one out.
        waiting.push(3, &run(30, 50, 9));
        waiting.keep(3);
        let longest = waiting.longest(3);
        assert_eq!(
            longest.into_values().flatten().collect::<Vec<_>>(),
            [20..60, 5..25]
        );
    }

    /// As of an instance that was written to at random: an older file that shares its blocks has as many extents.
    #[test]
    fn run_with_more_extents_than_there_may_be_is_left_alone() {
        let mut budget = ExtentBudget::new(1_000, 2 << 30);
        budget.begin_file(0);
        assert!(!budget.takes(&run(0, 1 << 30, 30_000)));
        assert!(budget.takes(&run(1 << 30, 1 << 30, 15_000)));
        budget.file_done(2 << 30, 1, 15_001);
        assert_eq!(budget.extents(), 16_000);
        assert!(budget.longest().is_empty());
    }

    /// As a table with changed rows at even distances, and its indexes, for whose runs of a sixth of the length there is no
    /// room.
    #[test]
    fn evenly_changed_files_share_as_much_as_the_extents_allow() {
        let (table, index) = (vec![325 << 12; 800], vec![53 << 12; 4_800]);
        let mut files = vec![table; 13];
        files.extend([index.clone(), index, vec![53 << 12; 800]]);
        let (at_once, waited, most) = share(1_000, &files);
        assert_eq!(at_once + waited, most);
    }

    #[test]
    fn few_runs_wait_where_there_is_room_for_all() {
        let files = vec![(1..700).map(|number| number << 12).collect(); 3];
        let (at_once, waited, most) = share(1_000, &files);
        assert_eq!(at_once + waited, most);
        assert!(waited < most / 20, "{waited} of {most}");
    }

    proptest! {
        #[test]
        fn the_longest_runs_are_shared_whatever_the_order(
            files in prop::collection::vec((1..4_000_usize, 12..22_u32, 0..4_u64), 1..12),
            extents in 1_000..19_000_u64,
        ) {
            let files: Vec<Vec<u64>> = files
                .into_iter()
                .map(|(count, bits, spread)| {
                    (0..count as u64).map(|number| (1 << bits) + (number % 7) * (spread << 12)).collect()
                })
                .collect();
            let (at_once, waited, most) = share(extents, &files);
            prop_assert_eq!(at_once + waited, most);
        }
    }
}
