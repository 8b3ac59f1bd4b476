//! The expiry of instances, as pure functions of a record.
//!
//! ```text
//!   last use ──retention──▶ marked ──grace──▶ deleted
//!      ▲                      │
//!      └──────── a use ───────┘
//! ```
//!
//! An instance with a time to live expires after that in place of the retention time, with a grace no longer than that:
//! a short life is meant to end.
//!
//! Both periods are observed time. A pin that ends holds for as long as it had left at the last use, in observed time,
//! and also by the wall clock: whichever clock is wrong, the other one keeps the instance.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use multidb_store::{Class, InstanceRecord, ObservedTime, Pin};

use crate::limits::Limits;
use crate::observed_clock::Moment;

/// A durable instance that was used within this observed time is not deleted for want of disk space.
const PROTECTED: Duration = Duration::from_secs(86_400);

/// The periods of an expiry, in observed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpiryPeriods {
    /// From the last use to the mark.
    pub retention: Duration,
    /// From the mark to the deletion.
    pub grace: Duration,
}

/// A step of an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryStep {
    /// The instance is marked as expired.
    Mark,
    /// Its data is deleted.
    Delete,
}

/// The next step, and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The step.
    pub step: ExpiryStep,
    /// When, if the instance stays unused.
    pub at: ObservedTime,
}

impl From<&Limits> for ExpiryPeriods {
    fn from(limits: &Limits) -> Self {
        Self {
            retention: limits.retention,
            grace: limits.expiry_grace,
        }
    }
}

impl ExpiryPeriods {
    /// The periods of this instance: its time to live bounds both of them.
    fn of(self, record: &InstanceRecord) -> Self {
        let ttl = record.ttl.unwrap_or(Duration::MAX);
        Self {
            retention: self.retention.min(ttl),
            grace: self.grace.min(ttl),
        }
    }
}

/// The next step of the instance's expiry if it stays unused; `None` if it never expires.
pub fn due(record: &InstanceRecord, periods: ExpiryPeriods) -> Option<Due> {
    let periods = periods.of(record);
    let pinned = match record.pin {
        Pin::None => Duration::ZERO,
        Pin::Until(until) => time_between(record.last_used_at, until),
        Pin::Forever => return None,
    };
    let expires = record.last_used_observed + periods.retention.max(pinned);
    // A mark from before the last use is not of this expiry.
    let mark = record
        .marked
        .filter(|mark| mark.observed >= record.last_used_observed);
    Some(match mark {
        None => Due {
            step: ExpiryStep::Mark,
            at: expires,
        },
        Some(mark) => Due {
            step: ExpiryStep::Delete,
            at: mark.observed.max(expires) + periods.grace,
        },
    })
}

/// The step that is due now, if any.
pub fn due_now(record: &InstanceRecord, periods: ExpiryPeriods, now: Moment) -> Option<ExpiryStep> {
    let due = due(record, periods)?;
    let is_pinned = matches!(record.pin, Pin::Until(until) if now.wall < until);
    (due.at <= now.observed && !is_pinned).then_some(due.step)
}

/// Whether the instance may be deleted before its expiry, where the disk is above its mark: it was unused for a day of
/// observed time (for its whole retention where that is shorter), or for the idle time of an instance if it is scratch,
/// and it is not pinned.
pub fn may_make_room(record: &InstanceRecord, limits: &Limits, now: Moment) -> bool {
    let unused = now.observed.since(record.last_used_observed);
    let pinned = match record.pin {
        Pin::None => Duration::ZERO,
        Pin::Until(until) if now.wall < until => return false,
        Pin::Until(until) => time_between(record.last_used_at, until),
        Pin::Forever => return false,
    };
    let protected = match record.class {
        Class::Durable => PROTECTED,
        Class::Scratch => limits.instance_idle_timeout,
    };
    let protected = protected.min(ExpiryPeriods::from(limits).of(record).retention);
    unused >= protected.max(pinned)
}

/// When the instance is deleted if it stays unused and the daemon goes on running; `None` if it never expires.
/// Not in the past, even if the clocks jump.
pub fn expires_at(
    record: &InstanceRecord,
    periods: ExpiryPeriods,
    now: Moment,
) -> Option<Timestamp> {
    let due = due(record, periods)?;
    let periods = periods.of(record);
    let remaining = SignedDuration::try_from(due.at.since(now.observed));
    let remaining = remaining.unwrap_or(SignedDuration::MAX);
    let mut at = now.wall.saturating_add(remaining).unwrap_or(Timestamp::MAX);
    if let Pin::Until(until) = record.pin {
        at = at.max(until);
    }
    if due.step == ExpiryStep::Mark {
        let grace = SignedDuration::try_from(periods.grace).unwrap_or(SignedDuration::MAX);
        at = at.saturating_add(grace).unwrap_or(Timestamp::MAX);
    }
    Some(at)
}

/// The pin of these two that keeps the instance for longer.
pub fn more_protective(one: Pin, other: Pin) -> Pin {
    match (one, other) {
        (Pin::Forever, _) | (_, Pin::Forever) => Pin::Forever,
        (Pin::Until(one), Pin::Until(other)) => Pin::Until(one.max(other)),
        (Pin::None, pin) | (pin, Pin::None) => pin,
    }
}

fn time_between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
