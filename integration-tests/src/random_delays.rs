//! Reproducible random delays.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A source of random delays. It prints its seed, and accepts one in `MULTIDB_TEST_SEED`.
pub struct RandomDelays {
    rng: StdRng,
}

impl RandomDelays {
    /// A source with a new seed, or the seed of the environment.
    #[expect(clippy::print_stderr, reason = "a failed test shows what repeats it")]
    #[expect(clippy::new_without_default, reason = "it prints")]
    pub fn new() -> Self {
        let given = std::env::var("MULTIDB_TEST_SEED").ok();
        let seed = given
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| rand::rng().random());
        eprintln!("MULTIDB_TEST_SEED={seed}");
        Self {
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// A delay between these, in milliseconds.
    pub fn milliseconds(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(least..=most))
    }
}
