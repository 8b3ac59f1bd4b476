//! How many instances each user created within the last minute.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);

/// When each user created instances. Only those of the last minute are kept.
#[derive(Debug, Default)]
pub(super) struct Creations(HashMap<String, VecDeque<Instant>>);

impl Creations {
    /// How many the user created within the last minute.
    pub(super) fn recent(&mut self, user: &str) -> usize {
        self.0.retain(|_, times| {
            while times.front().is_some_and(|time| time.elapsed() >= WINDOW) {
                times.pop_front();
            }
            !times.is_empty()
        });
        self.0.get(user).map_or(0, VecDeque::len)
    }

    /// Notes one more.
    pub(super) fn note(&mut self, user: &str) {
        let times = self.0.entry(user.to_owned()).or_default();
        times.push_back(Instant::now());
    }
}
