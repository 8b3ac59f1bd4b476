//! How many instances expiry may delete: at most a tenth of them within an hour, and at least one.

use std::collections::VecDeque;
use std::time::Duration;

use multidb_store::ObservedTime;

/// One in so many instances.
const SHARE: usize = 10;

/// The deletions within the last hour.
#[derive(Debug)]
pub(super) struct DeletionRate {
    window: Duration,
    /// When an earlier daemon last deleted one. How many it deleted is not stored, so for the rest of that hour it
    /// counts as all that were permitted.
    by_earlier_daemon: Option<ObservedTime>,
    deleted: VecDeque<ObservedTime>,
}

impl DeletionRate {
    pub(super) fn new(window: Duration, by_earlier_daemon: Option<ObservedTime>) -> Self {
        Self {
            window,
            by_earlier_daemon,
            deleted: VecDeque::new(),
        }
    }

    /// The instances that may be deleted now, where so many exist that are not being deleted.
    pub(super) fn permitted(&mut self, existing: usize, now: ObservedTime) -> usize {
        let is_over = |at: &ObservedTime| now.since(*at) >= self.window;
        while self.deleted.front().is_some_and(is_over) {
            self.deleted.pop_front();
        }
        if self
            .by_earlier_daemon
            .as_ref()
            .is_some_and(|at| !is_over(at))
        {
            return 0;
        }
        let all = existing.saturating_add(self.deleted.len());
        (all / SHARE).max(1).saturating_sub(self.deleted.len())
    }

    /// Notes a deletion.
    pub(super) fn note(&mut self, at: ObservedTime) {
        self.deleted.push_back(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(second: u64) -> ObservedTime {
        ObservedTime::from_millis(second * 1000)
    }

    #[test]
    fn a_tenth_may_go_in_any_hour_and_at_least_one() {
        let mut rate = DeletionRate::new(HOUR, None);
        assert_eq!(rate.permitted(0, at(0)), 1);
        assert_eq!(rate.permitted(9, at(0)), 1);
        assert_eq!(rate.permitted(100, at(0)), 10);
        for second in 0..10 {
            rate.note(at(second));
        }
        assert_eq!(rate.permitted(90, at(3599)), 0);
        assert_eq!(rate.permitted(90, at(3600)), 0, "90 and 9 that went");
        assert_eq!(rate.permitted(90, at(3601)), 1);
    }

    #[test]
    fn restart_permits_no_more_within_the_hour() {
        let mut rate = DeletionRate::new(HOUR, Some(at(100)));
        assert_eq!(rate.permitted(1000, at(50)), 0);
        assert_eq!(rate.permitted(1000, at(3699)), 0);
        assert_eq!(rate.permitted(1000, at(3700)), 100);
    }
}
