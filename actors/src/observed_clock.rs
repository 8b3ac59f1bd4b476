//! The clock of one root: the wall clock for people, and observed time for decisions.
//!
//! Observed time advances with the boot-time clock while a daemon of this root runs, and stands still otherwise. Nothing
//! expires by the wall clock, which may be wrong and may jump.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::ObservedTime;

use crate::ports::Clock;

/// The clock of one root. Clones share it.
#[derive(Clone)]
pub struct ObservedClock {
    clock: Arc<dyn Clock>,
    /// The observed time at the daemon's start, and the boot-time clock at that moment.
    start: ObservedTime,
    start_since_boot: Duration,
}

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock.
    pub wall: Timestamp,
    /// In observed time.
    pub observed: ObservedTime,
}

impl ObservedClock {
    /// A clock that goes on from this observed time.
    pub fn new(clock: Arc<dyn Clock>, start: ObservedTime) -> Self {
        Self {
            start_since_boot: clock.since_boot(),
            clock,
            start,
        }
    }

    /// The current moment.
    pub fn now(&self) -> Moment {
        let elapsed = self.clock.since_boot();
        Moment {
            wall: self.clock.now(),
            observed: self.start + elapsed.saturating_sub(self.start_since_boot),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::testing::{FakeClock, paused};

    #[test]
    fn observed_time_goes_on_from_the_stored_one_and_ignores_the_wall_clock() {
        paused(async {
            let fake = Arc::new(FakeClock::default());
            fake.pass(Duration::from_secs(1_000_000));
            let clock = ObservedClock::new(fake.clone(), ObservedTime::from_millis(5_000));
            assert_eq!(clock.now().observed, ObservedTime::from_millis(5_000));
            fake.set_wall_ahead(SignedDuration::from_hours(40 * 24));
            fake.pass(Duration::from_secs(3));
            let now = clock.now();
            assert_eq!(now.observed, ObservedTime::from_millis(8_000));
            let date = FakeClock::START + SignedDuration::from_hours(40 * 24);
            assert_eq!(now.wall, date + SignedDuration::from_secs(1_000_003));
            fake.set_wall_ahead(SignedDuration::from_hours(-24));
            assert_eq!(clock.now().observed, now.observed);
        });
    }
}
