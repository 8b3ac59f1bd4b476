//! `[dedup]`: how snapshots come to share their blocks.

use bytesize::ByteSize;

use super::section::{Report, Section};

/// Slower, an old snapshot is not done within a day.
const BANDWIDTH_MIN: u64 = 1 << 20;

/// De-duplication in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupConfig {
    /// Whether it begins by itself, after each import.
    pub enabled: bool,
    /// It reads at most so many bytes a second.
    pub bandwidth: u64,
}

pub(super) fn read(mut section: Section, report: &mut Report) -> DedupConfig {
    let enabled = section.get("enabled", true, report);
    let bandwidth = section
        .get("bandwidth", ByteSize::mib(200), report)
        .as_u64();
    if bandwidth < BANDWIDTH_MIN {
        report.fault("dedup.bandwidth", "is less than 1MiB a second");
    }
    section.close(report);
    DedupConfig { enabled, bandwidth }
}
