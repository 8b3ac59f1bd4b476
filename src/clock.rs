//! The machine's clock, as the actors' port.

use std::time::Duration;

use jiff::Timestamp;
use multidb_actors::ports::Clock;

/// The date and time of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn since_boot(&self) -> Duration {
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // The kernel's clock is neither negative nor without a whole number of nanoseconds.
        let seconds = u64::try_from(since.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(since.tv_nsec).unwrap_or_default())
    }
}
