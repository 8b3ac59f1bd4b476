//! The two copies of one record, in the database and in the manifest of its clone.

use jiff::Timestamp;

use crate::records::{InstanceRecord, ObservedTime, Pin};

/// A moment of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUse {
    /// By the wall clock.
    pub at: Timestamp,
    /// In observed time.
    pub observed: ObservedTime,
}

impl Default for LastUse {
    fn default() -> Self {
        Self {
            at: Timestamp::UNIX_EPOCH,
            observed: ObservedTime::default(),
        }
    }
}

/// The record of one clone from its two copies.
pub(super) fn merge(
    record: &InstanceRecord,
    manifest: &InstanceRecord,
    last_use: LastUse,
) -> InstanceRecord {
    let mut merged = record.clone();
    if manifest.sequence <= record.sequence {
        merged.pin = stronger(record.pin, manifest.pin);
        merged.runtime = record.runtime.or(manifest.runtime);
    } else {
        // The database has lost writes, of the last use too.
        merged = manifest.clone();
        merged.name = record.name.clone();
        count_as_used(&mut merged, last_use);
    }
    merged.last_used_at = merged.last_used_at.max(record.last_used_at);
    merged.last_used_observed = merged.last_used_observed.max(record.last_used_observed);
    merged
}

/// The pin that protects for longer.
fn stronger(a: Pin, b: Pin) -> Pin {
    match (a, b) {
        (Pin::Forever, _) | (_, Pin::Forever) => Pin::Forever,
        (Pin::Until(a), Pin::Until(b)) => Pin::Until(a.max(b)),
        (pin @ Pin::Until(_), Pin::None) | (Pin::None, pin @ Pin::Until(_)) => pin,
        (Pin::None, Pin::None) => Pin::None,
    }
}

/// Counts the instance as used at that moment, which clears its mark.
pub(super) fn count_as_used(record: &mut InstanceRecord, last_use: LastUse) {
    record.last_used_at = record.last_used_at.max(last_use.at);
    record.last_used_observed = record.last_used_observed.max(last_use.observed);
    record.marked = None;
}
