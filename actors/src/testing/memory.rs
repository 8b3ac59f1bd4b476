//! A memory that tests fill.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::ports::{Memory, MemoryUsage};

/// Empty, until a test fills it.
#[derive(Debug, Default)]
pub struct FakeMemory(AtomicU8);

impl FakeMemory {
    /// Fills it to this percentage.
    pub fn fill(&self, percent: u8) {
        self.0.store(percent, Ordering::Relaxed);
    }
}

impl Memory for FakeMemory {
    fn usage(&self) -> Option<MemoryUsage> {
        Some(MemoryUsage {
            used_bytes: self.0.load(Ordering::Relaxed).into(),
            total_bytes: 100,
        })
    }
}
