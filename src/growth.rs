//! Which running instances are stopped before they take too much of the disk: pure.
//!
//! An instance is stopped when it has more bytes of its own than `limits.max_instance_bytes`. Its write-ahead log and the
//! state that its resets go back to are part of them, since they take the disk as its tables do.
//!
//! When the disk would come below `limits.disk_reserve` within the next seconds at its present rate, the instances that
//! have grown most lately are stopped, one after the other, until the rest would not. A reserve that is a constant
//! early warning would be too late for a fast writer, and too early for a slow one. Instances that grow little go on,
//! and so do all of them where something else fills the disk: their stop would save nothing.
//!
//! A stop frees nothing, so such an instance starts again only once there is more room than at its stop.

use std::time::Duration;

use multidb_actors::instance::OverLimit;

/// The reserve must last for so many seconds at the present rate: a look to see it, one to see which instances grow, and
/// the stop of a server that still writes.
const SECONDS_AHEAD: u64 = 4;
/// Likewise, before instances are measured so as to know which ones grow.
const SECONDS_NEAR: u64 = 20;
/// An instance that grew by less than one part in `SHARE_MIN` of the largest growth goes on.
const SHARE_MIN: u64 = 8;
/// Unless instances take at least one part in so many of the bytes that the disk loses, something else fills it.
const PART_OF_LOSS: u64 = 2;
/// A run is measured again at the latest after this time, since the deletion of one may hide the growth of another.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// There is room again when the free bytes have grown by this part of the reserve.
const ROOM_SHARE: u64 = 8;

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrowthLimits {
    /// `limits.max_instance_bytes`.
    pub max_instance_bytes: Option<u64>,
    /// `limits.disk_reserve`.
    pub reserve_bytes: u64,
}

/// The disk at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Its free bytes.
    pub free_bytes: u64,
    /// The bytes that it lost in a second, at most, between two of the last looks.
    pub rate: u64,
}

impl Disk {
    /// The disk if only runs that grew by `grown` of `all` bytes go on.
    pub fn of_part(self, grown: u64, all: u64) -> Self {
        let rate = u128::from(self.rate) * u128::from(grown) / u128::from(all.max(1));
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        Self { rate, ..self }
    }
}

/// A run that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// Its exclusive bytes.
    pub bytes: u64,
    /// How long ago that was.
    pub age: Duration,
    /// The free bytes of the disk at that time.
    pub free_bytes: u64,
}

impl GrowthLimits {
    /// Whether the disk may come to its reserve soon, so that it has to be known which instances grow.
    pub fn is_near(&self, disk: Disk) -> bool {
        let ahead = disk.rate.saturating_mul(SECONDS_NEAR);
        disk.free_bytes < self.reserve_bytes.saturating_mul(2).saturating_add(ahead)
    }

    /// Whether it would come below its reserve within the next seconds.
    pub fn is_critical(&self, disk: Disk) -> bool {
        disk.rate > 0 && self.spare(disk.free_bytes) < disk.rate.saturating_mul(SECONDS_AHEAD)
    }

    /// Whether a run is to be measured for `max_instance_bytes`: it never was, or it may have come half the way to its
    /// limit since.
    pub fn is_due(&self, last: Option<Measurement>, free_bytes: u64) -> bool {
        let Some(limit) = self.max_instance_bytes else {
            return false;
        };
        last.is_none_or(|last| {
            let lost = last.free_bytes.saturating_sub(free_bytes);
            last.age >= INTERVAL_MAX || lost >= limit.saturating_sub(last.bytes) / 2
        })
    }

    /// The limit that an instance with so many bytes is over.
    pub fn over_bytes(&self, exclusive_bytes: u64) -> Option<OverLimit> {
        let limit_bytes = self.max_instance_bytes?;
        (exclusive_bytes > limit_bytes).then_some(OverLimit::MaxInstanceBytes {
            exclusive_bytes,
            limit_bytes,
        })
    }

    /// The indexes in `grown` of the runs that are stopped on a critical disk, the one that grew most first. `grown`
    /// has the bytes by which each run grew lately, while the disk lost `lost_bytes`. Its loss in a second before that
    /// counts, too.
    pub fn over_reserve(&self, disk: Disk, grown: &[u64], lost_bytes: u64) -> Vec<usize> {
        let all: u64 = grown.iter().sum();
        let most = grown.iter().copied().max().unwrap_or(0);
        if !self.is_critical(disk) || most == 0 || all < lost_bytes.max(disk.rate) / PART_OF_LOSS {
            return Vec::new();
        }
        let mut order: Vec<usize> = (0..grown.len()).collect();
        order.sort_by_key(|place| std::cmp::Reverse(grown[*place]));
        order.retain(|place| grown[*place] >= most.div_ceil(SHARE_MIN));
        let mut left = all;
        let rest = order.into_iter().take_while(|place| {
            let rest = disk.of_part(left, all);
            left -= grown[*place];
            self.is_critical(rest)
        });
        rest.collect()
    }

    /// The free bytes with which an instance that was stopped for the reserve may start again.
    pub fn needed_bytes(&self, free_bytes_at_stop: u64) -> u64 {
        let before = free_bytes_at_stop.max(self.reserve_bytes);
        before.saturating_add((self.reserve_bytes / ROOM_SHARE).max(1))
    }

    fn spare(&self, free_bytes: u64) -> u64 {
        free_bytes.saturating_sub(self.reserve_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: GrowthLimits = GrowthLimits {
        max_instance_bytes: Some(1000),
        reserve_bytes: 500,
    };

    fn disk(free_bytes: u64, rate: u64) -> Disk {
        Disk { free_bytes, rate }
    }

    #[test]
    fn only_what_may_have_come_near_its_limit_is_measured() {
        let last = |bytes, age| Measurement {
            bytes,
            age: Duration::from_secs(age),
            free_bytes: 5000,
        };
        for (last, free, due) in [
            (None, 5000, true),
            (Some(last(100, 1)), 5000, false),
            (Some(last(100, 1)), 4551, false),
            (Some(last(100, 1)), 4550, true),
            (Some(last(990, 1)), 4996, false),
            (Some(last(990, 1)), 4995, true),
            (Some(last(100, 10)), 5000, true),
            (Some(last(100, 1)), 6000, false),
        ] {
            assert_eq!(LIMITS.is_due(last, free), due, "{last:?} {free}");
        }
        let none = GrowthLimits {
            max_instance_bytes: None,
            ..LIMITS
        };
        assert!(!none.is_due(None, 0) && none.over_bytes(u64::MAX).is_none());
        assert!(LIMITS.over_bytes(1000).is_none() && LIMITS.over_bytes(1001).is_some());
    }

    #[test]
    fn those_that_grow_are_stopped_until_the_reserve_lasts() {
        for (disk, grown, lost, expected) in [
            // The reserve lasts.
            (disk(10_000, 100), &[100, 50, 1][..], 151, &[][..]),
            (disk(900, 100), &[100, 50, 1], 151, &[]),
            // The others alone would leave it.
            (disk(899, 100), &[50, 100, 1], 151, &[1]),
            (disk(590, 100), &[50, 100, 1], 151, &[1, 0]),
            // Below it, the instances that have a part in the growth are stopped.
            (disk(400, 100), &[50, 100, 1], 151, &[1, 0]),
            // Nothing grows any more, or something else does.
            (disk(400, 0), &[50, 100, 1], 151, &[]),
            (disk(400, 100), &[0, 0], 100, &[]),
            (disk(400, 100), &[40, 0], 100, &[]),
            // It did before they were looked at.
            (disk(400, 100), &[40, 0], 40, &[]),
            (disk(400, 100), &[], 100, &[]),
        ] {
            let stopped = LIMITS.over_reserve(disk, grown, lost);
            assert_eq!(stopped, expected, "{disk:?} {grown:?}");
        }
    }

    #[test]
    fn an_instance_starts_again_once_there_is_more_room() {
        for (before, needed) in [(700, 762), (500, 562), (100, 562)] {
            assert_eq!(LIMITS.needed_bytes(before), needed, "{before}");
        }
    }

    proptest! {
        /// At each look the disk has lost the bytes that the running instances wrote.
        #[test]
        fn the_reserve_is_not_touched_by_steady_writers(
            rates in prop::collection::vec(0_u64..200, 1..20),
            reserve in 0_u64..10_000,
        ) {
            let limits = GrowthLimits { max_instance_bytes: None, reserve_bytes: reserve };
            let mut running: Vec<bool> = vec![true; rates.len()];
            let mut free = reserve + 30_000;
            for _ in 0..2000 {
                let grown: Vec<u64> = (rates.iter().zip(&running))
                    .map(|(rate, runs)| if *runs { *rate } else { 0 })
                    .collect();
                let rate = grown.iter().sum();
                let disk = Disk { free_bytes: free, rate };
                for place in limits.over_reserve(disk, &grown, rate) {
                    running[place] = false;
                }
                let still = rates.iter().zip(&running).filter(|(_, runs)| **runs);
                let lost: u64 = still.map(|(rate, _)| rate).sum();
                prop_assert!(lost == 0 || free - lost >= reserve, "{free} {lost}");
                free -= lost;
            }
        }
    }
}
