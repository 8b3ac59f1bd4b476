//! A clock that tests set.

use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::lock;
use crate::ports::Clock;

/// Begins at [`FakeClock::START`], and advances with tokio's clock, paused or not. A test lets time pass for both
/// clocks without any timer, or sets the wall clock alone.
pub struct FakeClock {
    created: Instant,
    /// The time that passed without tokio's clock.
    passed: Mutex<Duration>,
    /// How far the wall clock is ahead of the truth.
    ahead: Mutex<SignedDuration>,
    /// Tokio's time that counts, where only the test lets time pass.
    frozen: Mutex<Option<Duration>>,
}

impl FakeClock {
    /// The date at which each test begins.
    pub const START: Timestamp = Timestamp::constant(1_768_000_000, 0);

    /// Lets time pass for both clocks, as a suspended machine does: no timer fires.
    pub fn pass(&self, time: Duration) {
        let mut passed = lock(&self.passed);
        *passed = passed.saturating_add(time);
    }

    /// From now on only [`FakeClock::pass`] lets time pass. Paused time runs ahead while a thread works, and a test
    /// that counts hours must not depend on that.
    pub fn freeze(&self) {
        *lock(&self.frozen) = Some(self.created.elapsed());
    }

    /// Sets the wall clock ahead of the truth by this time, or behind it. The boot-time clock does not change.
    pub fn set_wall_ahead(&self, by: SignedDuration) {
        *lock(&self.ahead) = by;
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            passed: Mutex::default(),
            ahead: Mutex::default(),
            frozen: Mutex::default(),
        }
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.since_boot());
        let elapsed = elapsed.unwrap_or(SignedDuration::MAX);
        let now = Self::START.saturating_add(elapsed.saturating_add(*lock(&self.ahead)));
        now.unwrap_or(Timestamp::MAX)
    }

    fn since_boot(&self) -> Duration {
        let elapsed = lock(&self.frozen).unwrap_or_else(|| self.created.elapsed());
        elapsed.saturating_add(*lock(&self.passed))
    }
}
