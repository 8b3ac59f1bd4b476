//! The memory that running instances share.

/// Tells how full the memory is.
pub trait Memory: Send + Sync + 'static {
    /// How full it is; `None` where that cannot be told, so that nothing waits for it. Must not block.
    fn usage(&self) -> Option<MemoryUsage>;
}

/// How full the memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUsage {
    /// The bytes in use that nothing could give back at once.
    pub used_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

impl MemoryUsage {
    /// The used part in percent, rounded up.
    pub fn percent(self) -> u8 {
        let used = u128::from(self.used_bytes) * 100;
        let percent = used.div_ceil(u128::from(self.total_bytes.max(1)));
        u8::try_from(percent).unwrap_or(100).min(100)
    }
}
