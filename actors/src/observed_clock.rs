//! The clock of one root: the wall clock for people, and observed time for decisions.
//!
//! Observed time advances with the boot-time clock while a daemon of this root runs and looks at it, and stands still
//! otherwise: while no daemon runs, and while the machine sleeps, when no client could have used an instance either.
//! Nothing expires by the wall clock, which may be wrong and may jump.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::ObservedTime;

use crate::ports::Clock;

/// The longest time between two looks at the clock that counts. The Supervisor looks every minute, so a longer one is a
/// suspended machine; its length is only as right as the clock that the machine woke up with.
const GAP_MAX: Duration = Duration::from_secs(600);

/// The clock of one root. Clones share it.
#[derive(Clone)]
pub struct ObservedClock {
    clock: Arc<dyn Clock>,
    /// The observed time at the daemon's start.
    start: ObservedTime,
    looks: Arc<Mutex<Looks>>,
}

/// The readings at the last look.
#[derive(Debug)]
struct Looks {
    /// The boot-time clock.
    since_boot: Duration,
    /// The observed time since the daemon's start.
    elapsed: Duration,
}

/// One moment by all clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock.
    pub wall: Timestamp,
    /// By the boot-time clock.
    pub since_boot: Duration,
    /// In observed time.
    pub observed: ObservedTime,
}

impl ObservedClock {
    /// A clock that goes on from this observed time.
    pub fn new(clock: Arc<dyn Clock>, start: ObservedTime) -> Self {
        let looks = Looks {
            since_boot: clock.since_boot(),
            elapsed: Duration::ZERO,
        };
        Self {
            clock,
            start,
            looks: Arc::new(Mutex::new(looks)),
        }
    }

    /// The current moment.
    pub fn now(&self) -> Moment {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let since_boot = self.clock.since_boot();
        let passed = since_boot.saturating_sub(looks.since_boot);
        looks.since_boot = since_boot;
        if passed <= GAP_MAX {
            looks.elapsed += passed;
        }
        Moment {
            wall: self.clock.now(),
            since_boot,
            observed: self.start + looks.elapsed,
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

    #[test]
    fn sleep_of_the_machine_does_not_count() {
        paused(async {
            let fake = Arc::new(FakeClock::default());
            let clock = ObservedClock::new(fake.clone(), ObservedTime::default());
            let other = clock.clone();
            for (passes, observed) in [(599, 599), (600, 1199), (601, 1199), (1, 1200)] {
                fake.pass(Duration::from_secs(passes));
                let expected = ObservedTime::from_millis(observed * 1000);
                assert_eq!(clock.now().observed, expected);
                assert_eq!(other.now().observed, expected);
            }
        });
    }
}
