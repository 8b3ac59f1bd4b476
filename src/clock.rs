//! The machine's clock, as the actors' port.

use jiff::Timestamp;
use multidb_actors::ports::Clock;

/// The date and time of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
