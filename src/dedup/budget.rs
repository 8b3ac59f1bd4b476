//! The extents that an older snapshot may have, and the runs of equal blocks that are worth theirs.
//!
//! A run in the middle of an extent leaves a part before it and one behind it, however long it is. So the longest runs
//! are shared first.

use std::ops::Range;

use crate::fsutil::fiemap::Extent;

/// The extents of a snapshot beyond which a clone takes visibly longer: 15 µs each.
pub(super) const EXTENTS_MAX: u64 = 20_000;

/// How many extents a snapshot has, and how the others that it may have are divided among its files: each has as many as
/// its share of the bytes, and what it does not need is for those behind it.
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

    /// How many more the next file may have, which has so many bytes.
    pub(super) fn allowance(&self, bytes: u64) -> u64 {
        let spare = EXTENTS_MAX.saturating_sub(self.extents);
        let part = u128::from(spare) * u128::from(bytes) / u128::from(self.bytes.max(1));
        u64::try_from(part).map_or(spare, |part| part.min(spare))
    }

    /// The next file is done, and its extents are so many where they were others before.
    pub(super) fn file_done(&mut self, bytes: u64, before: u64, after: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.extents = (self.extents + after).saturating_sub(before);
    }

    /// All files are done, and these bytes are looked at again.
    pub(super) fn begin_again(&mut self, bytes: u64) {
        self.bytes = bytes;
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

    pub(super) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// The extents that have bytes of a range.
pub(super) fn within<'a>(extents: &'a [Extent], range: &Range<u64>) -> &'a [Extent] {
    let first = extents.partition_point(|extent| extent.end() <= range.start);
    let end = extents.partition_point(|extent| extent.logical < range.end);
    extents.get(first..end).unwrap_or_default()
}

/// The runs that cost no extent, and of the others the longest, as long as they cost no more than the allowance; in the
/// order of the file. The bytes of the others are the second result.
pub(super) fn choose(runs: Vec<Run>, allowance: u64) -> (Vec<Range<u64>>, u64) {
    let (free, mut others): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|run| run.added <= 0);
    let mut spare = free
        .iter()
        .fold(allowance as i64, |spare, run| spare - run.added);
    let mut chosen: Vec<Range<u64>> = free.into_iter().map(|run| run.range).collect();
    others.sort_by_key(|run| (std::cmp::Reverse(run.bytes()), run.range.start));
    let mut left = 0;
    for run in others {
        if run.added <= spare {
            spare -= run.added;
            chosen.push(run.range);
        } else {
            left += run.bytes();
        }
    }
    chosen.sort_by_key(|range| range.start);
    (chosen, left)
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
    fn longest_runs_are_chosen_and_those_that_cost_nothing() {
        let runs = vec![
            run(0, 10, 2),
            run(20, 40, 2),
            run(70, 5, 0),
            run(80, 30, 2),
            run(120, 20, 1),
            run(150, 1, 0),
        ];
        assert_eq!(choose(runs.clone(), 0), (vec![70..75, 150..151], 100));
        assert_eq!(
            choose(runs.clone(), 3),
            (vec![20..60, 70..75, 120..140, 150..151], 40)
        );
        assert_eq!(choose(runs.clone(), 7).1, 0);
        // A file that was fragmented gets room by what it shares.
        let merged = [runs, vec![run(200, 8, -2)]].concat();
        assert_eq!(
            choose(merged, 0),
            (vec![20..60, 70..75, 150..151, 200..208], 60)
        );
    }

    #[test]
    fn file_has_its_part_of_the_extents_and_leaves_the_rest() {
        let mut budget = ExtentBudget::new(4_000, 100);
        assert_eq!(budget.allowance(50), 8_000);
        budget.file_done(50, 1_000, 2_000);
        assert_eq!(budget.extents(), 5_000);
        assert_eq!(budget.allowance(25), 7_500);
        budget.file_done(25, 0, 15_000);
        assert_eq!(budget.allowance(25), 0);
        budget.file_done(25, 10_000, 1_000);
        assert_eq!(budget.allowance(25), 9_000);
        budget.begin_again(25);
        assert_eq!(budget.allowance(5), 1_800);
    }
}
