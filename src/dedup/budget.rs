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
/// The extents that a run costs, unless it begins or ends where an extent does.
const EXTENTS_OF_RUN: u64 = 2;

/// How many extents a snapshot has.
#[derive(Debug)]
pub(super) struct ExtentBudget {
    extents: u64,
    /// Of the files that are not done.
    bytes: u64,
}

impl ExtentBudget {
    /// Before files that have so many extents and bytes.
    pub(super) fn new(extents: u64, bytes: u64) -> Self {
        Self { extents, bytes }
    }

    /// How many extents there are now.
    pub(super) fn extents(&self) -> u64 {
        self.extents
    }

    /// How many more there may be.
    pub(super) fn spare(&self) -> u64 {
        EXTENTS_MAX.saturating_sub(self.extents)
    }

    /// The length from which on all runs can be shared: there is room for as many as can be in the files that are not done.
    pub(super) fn run_bytes_min(&self) -> u64 {
        let runs = self.spare() / EXTENTS_OF_RUN;
        self.bytes.checked_div(runs).unwrap_or(u64::MAX)
    }

    /// A file of so many bytes is done, and has other extents than before.
    pub(super) fn file_done(&mut self, bytes: u64, before: u64, after: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.extents = (self.extents + after).saturating_sub(before);
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

    /// Whether it is worth its extents if runs of so many bytes are.
    pub(super) fn is_worth(&self, bytes_min: u64) -> bool {
        self.added <= 0 || self.bytes() >= bytes_min
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
pub(super) struct WaitingRuns(BinaryHeap<Reverse<(u64, usize, u64, i64)>>);

impl WaitingRuns {
    /// Adds the runs of a file. As many are kept as so many extents suffice for.
    pub(super) fn add(&mut self, file: usize, runs: Vec<Run>, spare: u64) {
        for run in runs {
            let waiting = (run.bytes(), file, run.range.start, run.added);
            self.0.push(Reverse(waiting));
            self.keep(spare);
        }
        self.keep(spare);
    }

    fn keep(&mut self, spare: u64) {
        while self.0.len() as u64 > spare / EXTENTS_OF_RUN {
            self.0.pop();
        }
    }

    /// The length of the shortest one, if all of so many extents are for those that wait: a shorter run is worth none.
    pub(super) fn run_bytes_min(&self, spare: u64) -> u64 {
        match self.0.peek() {
            Some(Reverse((bytes, ..))) if self.0.len() as u64 >= spare / EXTENTS_OF_RUN => *bytes,
            _ => 0,
        }
    }

    /// The longest ones that so many extents suffice for, by file.
    pub(super) fn longest(self, spare: u64) -> BTreeMap<usize, Vec<Range<u64>>> {
        let mut spare = i64::try_from(spare).unwrap_or(i64::MAX);
        let mut longest: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
        // Ascending by Reverse, so the longest are first.
        for Reverse((bytes, file, start, added)) in self.0.into_sorted_vec() {
            if added > spare {
                break;
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
    use super::*;

    fn run(start: u64, bytes: u64, added: i64) -> Run {
        Run {
            range: start..start + bytes,
            added,
        }
    }

    #[test]
    fn longest_runs_of_all_files_get_the_extents() {
        let mut waiting = WaitingRuns::default();
        waiting.add(0, vec![run(0, 10, 2), run(20, 40, 2), run(80, 30, 2)], 20);
        assert_eq!(waiting.run_bytes_min(20), 0);
        waiting.add(3, vec![run(5, 20, 1), run(30, 50, 2)], 9);
        assert_eq!(waiting.run_bytes_min(9), 20);
        let longest = waiting.longest(7);
        let expected = [(0, vec![20..60, 80..110]), (3, vec![5..25, 30..80])];
        assert_eq!(longest, BTreeMap::from(expected));
    }

    /// As a table with changed rows at even distances, and its indexes, for whose runs of a sixth of the length there is no
    /// room.
    #[test]
    fn evenly_changed_files_share_as_much_as_the_extents_allow() {
        const TABLE: (u64, u64) = (800, 325 << 12);
        const INDEX: (u64, u64) = (4_800, 53 << 12);
        let mut files = vec![TABLE; 13];
        files.extend([INDEX, INDEX, (800, INDEX.1)]);
        let total = files.iter().map(|(runs, bytes)| runs * bytes).sum();
        let mut budget = ExtentBudget::new(1_000, total);
        let (mut waiting, mut shared) = (WaitingRuns::default(), 0);
        for (number, (runs, bytes)) in files.into_iter().enumerate() {
            let spare = budget.spare();
            let bytes_min = budget.run_bytes_min().max(waiting.run_bytes_min(spare));
            let all = (0..runs).map(|number| run(number << 30, bytes, 2));
            let (worth, left): (Vec<_>, Vec<_>) = all.partition(|run| run.is_worth(bytes_min));
            let added = 2 * worth.len() as u64;
            assert!(added <= spare);
            shared += worth.len() as u64 * bytes;
            budget.file_done(runs * bytes, 1, 1 + added);
            waiting.add(number, left, budget.spare());
        }
        let longest = waiting.longest(budget.spare());
        let waited: u64 = longest
            .values()
            .flatten()
            .map(|run| run.end - run.start)
            .sum();
        assert_eq!(shared + waited, 9_500 * TABLE.1);
        // They are read twice.
        assert!(waited < total / 4, "{waited} of {total}");
    }

    #[test]
    fn runs_that_are_shared_at_once_have_room_whatever_follows() {
        let mut budget = ExtentBudget::new(EXTENTS_MAX - 200, 1000);
        assert_eq!(budget.run_bytes_min(), 10);
        assert!(run(0, 10, 2).is_worth(10) && !run(0, 9, 2).is_worth(10));
        assert!(run(0, 1, 0).is_worth(10));
        // Nothing was worth it, so there is more for the others.
        budget.file_done(500, 3, 3);
        assert_eq!(budget.run_bytes_min(), 5);
        budget.file_done(100, 3, 203);
        assert_eq!(budget.spare(), 0);
        assert_eq!(budget.run_bytes_min(), u64::MAX);
    }
}
