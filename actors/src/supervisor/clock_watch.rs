//! Whether the wall clock agrees with the boot-time clock.
//!
//! Nothing expires by the wall clock, but one that jumps is a sign that this machine's time is wrong, or that it was
//! restored from an earlier state. Expiry waits until both clocks have agreed for a while.

use std::time::Duration;

use jiff::SignedDuration;
use multidb_store::ObservedTime;

use crate::observed_clock::Moment;

/// The greatest difference between the times that passed by both clocks since the last look.
const DIFFERENCE_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Compares the two clocks of each moment with those of the one before.
#[derive(Debug)]
pub(super) struct ClockWatch {
    last: Moment,
    /// When they last disagreed.
    disagreed: Option<ObservedTime>,
    /// For how long they have to agree after that.
    agreement: Duration,
}

impl ClockWatch {
    /// Begins to compare at this moment.
    pub(super) fn new(now: Moment, agreement: Duration) -> Self {
        Self {
            last: now,
            disagreed: None,
            agreement,
        }
    }

    /// Looks at the clocks. Returns by how much the wall clock jumped since the last look, if it did.
    pub(super) fn look(&mut self, now: Moment) -> Option<SignedDuration> {
        let last = std::mem::replace(&mut self.last, now);
        let passed = now.since_boot.saturating_sub(last.since_boot);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let jump = now.wall.duration_since(last.wall).saturating_sub(passed);
        if jump.abs() <= DIFFERENCE_MAX {
            return None;
        }
        self.disagreed = Some(now.observed);
        Some(jump)
    }

    /// For how long the clocks still have to agree.
    pub(super) fn remaining(&self, now: ObservedTime) -> Option<Duration> {
        let agreed = now.since(self.disagreed?);
        let remaining = self.agreement.saturating_sub(agreed);
        (!remaining.is_zero()).then_some(remaining)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn now(wall: i64, observed: u64) -> Moment {
        Moment {
            wall: Timestamp::from_second(1_000_000 + wall).unwrap(),
            since_boot: Duration::from_secs(observed),
            observed: ObservedTime::from_millis(observed * 1000),
        }
    }

    #[test]
    fn jump_of_the_wall_clock_lasts_until_both_have_agreed() {
        let hour = Duration::from_secs(3600);
        let mut watch = ClockWatch::new(now(0, 0), hour);
        // Both pass, slightly apart, or after a suspend.
        for moment in [now(60, 60), now(179, 120), now(1_000_170, 1_000_120)] {
            assert_eq!(watch.look(moment), None);
            assert_eq!(watch.remaining(moment.observed), None);
        }
        for (wall, jump) in [(2_000_170, 1_000_000), (1_000_300, -999_930)] {
            let jumped = now(wall, if jump > 0 { 1_000_120 } else { 1_000_180 });
            assert_eq!(watch.look(jumped), Some(SignedDuration::from_secs(jump)));
            assert_eq!(watch.remaining(jumped.observed), Some(hour));
        }
        let later = |seconds: u64| now(1_000_300 + seconds.cast_signed(), 1_000_180 + seconds);
        assert_eq!(watch.look(later(3599)), None);
        let remaining = watch.remaining(later(3599).observed);
        assert_eq!(remaining, Some(Duration::from_secs(1)));
        assert_eq!(watch.remaining(later(3600).observed), None);
    }
}
