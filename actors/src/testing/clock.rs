//! A clock that tests set.

use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::lock;
use crate::ports::Clock;

/// Begins at [`FakeClock::START`], and advances with tokio's clock, paused or not. A test changes the date
/// without letting that time pass.
pub struct FakeClock {
    created: Instant,
    /// What tests added to the date.
    ahead: Mutex<SignedDuration>,
}

impl FakeClock {
    /// The date at which each test begins.
    pub const START: Timestamp = Timestamp::constant(1_768_000_000, 0);

    /// Advances the date, and nothing else: no timer fires.
    pub fn advance(&self, by: SignedDuration) {
        let mut ahead = lock(&self.ahead);
        *ahead += by;
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            ahead: Mutex::default(),
        }
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.created.elapsed());
        let elapsed = elapsed.unwrap_or(SignedDuration::MAX);
        let now = Self::START.saturating_add(elapsed.saturating_add(*lock(&self.ahead)));
        now.unwrap_or(Timestamp::MAX)
    }

    fn since_boot(&self) -> Duration {
        self.created.elapsed()
    }
}
