//! The counter of epochs of a root: each clone gets a higher one than any before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives epochs. Clones share the counter. It is as durable as the records and manifests that have them.
#[derive(Debug, Clone, Default)]
pub struct Epochs(Arc<AtomicU64>);

impl Epochs {
    /// A counter that goes on from this epoch.
    pub fn after(highest: u64) -> Self {
        Self(Arc::new(AtomicU64::new(highest)))
    }

    /// The next epoch.
    pub fn next_epoch(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}
