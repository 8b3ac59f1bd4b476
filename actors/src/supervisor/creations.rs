//! The number of instances that each user created within the last minute.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);

/// The times of each user's creations within the last minute.
#[derive(Debug, Default)]
pub(super) struct Creations(HashMap<String, VecDeque<Instant>>);

impl Creations {
    /// The user's creations within the last minute.
    pub(super) fn recent(&mut self, user: &str) -> usize {
        self.0.retain(|_, times| {
            while times.front().is_some_and(|time| time.elapsed() >= WINDOW) {
                times.pop_front();
            }
            !times.is_empty()
        });
        self.0.get(user).map_or(0, VecDeque::len)
    }

    /// Adds a creation.
    pub(super) fn note(&mut self, user: &str) {
        let times = self.0.entry(user.to_owned()).or_default();
        times.push_back(Instant::now());
    }
}
