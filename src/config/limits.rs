//! `[limits]`: times, counts, and how full the disk may be.

use std::convert::Infallible;
use std::time::Duration;

use bytesize::ByteSize;
use multidb_actors::limits::{IdleLimits, IdleTimeouts, Limits};

use super::section::{Report, Section};
use super::value::{OptionalSize, Percent};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// The section, by its users.
pub(super) struct LimitsSection {
    pub(super) limits: Limits,
    pub(super) disk_reserve_bytes: u64,
    pub(super) disk_high_water: Option<u8>,
    pub(super) max_instance_bytes: Option<u64>,
    pub(super) fetch_timeout: Duration,
}

pub(super) fn read(mut section: Section, report: &mut Report) -> LimitsSection {
    let idle = idle_limits(&mut section, report);
    let mut time = |name, default| positive_time(&mut section, name, default, report);
    let instance_idle_timeout = time("instance_idle_timeout", 5 * MINUTE);
    let retention = time("retention", 30 * DAY);
    let expiry_grace = time("expiry_grace", DAY);
    let start_timeout = time("start_timeout", 30);
    let login_timeout = time("login_timeout", 10);
    let fetch_timeout = time("fetch_timeout", 20);
    // Zero is valid: running queries are ended at once.
    let shutdown_grace = section.get("shutdown_grace", Duration::from_secs(10), report);
    let max_running = positive_count(&mut section, "max_running", 50, report);
    let Percent(memory_high_water) = section.get("memory_high_water", Percent(None), report);
    let max_connections = positive_count(&mut section, "max_connections", 1000, report);
    // All clients that can have a session can log in at the same time.
    let max_unauthenticated =
        positive_count(&mut section, "max_unauthenticated", max_connections, report);
    let disk_reserve = section.get("disk_reserve", ByteSize::gib(5), report);
    let disk_high_water = section.get("disk_high_water", Percent(Some(85)), report);
    let max_instance_bytes = max_instance_bytes(&mut section, report);
    section.close(report);
    let limits = Limits {
        idle,
        instance_idle_timeout,
        retention,
        expiry_grace,
        start_timeout,
        login_timeout,
        shutdown_grace,
        max_running,
        memory_high_water,
        max_connections,
        max_unauthenticated,
    };
    LimitsSection {
        limits,
        disk_reserve_bytes: disk_reserve.as_u64(),
        disk_high_water: disk_high_water.0,
        max_instance_bytes,
        fetch_timeout,
    }
}

/// The most bytes that one instance may have of its own. A smaller limit would end each run: a server has segments of its
/// write-ahead log of its own, of 16 MiB each, as soon as it writes.
fn max_instance_bytes(section: &mut Section, report: &mut Report) -> Option<u64> {
    const LEAST: ByteSize = ByteSize::mib(64);
    let OptionalSize(limit) = section.get("max_instance_bytes", OptionalSize(None), report);
    if limit.is_some_and(|limit| limit < LEAST) {
        let fault = "must be at least \"64MiB\": write-ahead log is part of it";
        report.fault(section.key("max_instance_bytes"), fault);
    }
    limit.map(|limit| limit.as_u64())
}

/// The idle limits of all sessions.
fn idle_limits(section: &mut Section, report: &mut Report) -> IdleLimits {
    let defaults = IdleLimits::default();
    let set = idle_timeouts(section, report, |name| match name {
        "session_idle_timeout" => Some(defaults.session),
        "transaction_idle_timeout" => Some(defaults.transaction),
        _ => None,
    });
    defaults.overridden_by(set)
}

/// The idle limits that this section sets, or that have a default.
pub(super) fn idle_timeouts(
    section: &mut Section,
    report: &mut Report,
    default: impl Fn(&str) -> Option<Duration>,
) -> IdleTimeouts {
    let Ok(timeouts) = IdleTimeouts::read(|name| {
        let time = match default(name) {
            Some(default) => Some(section.get(name, default, report)),
            None => section.optional(name, report),
        };
        if time.is_some_and(|time| time.is_zero()) {
            report.fault(section.key(name), "must be longer than zero");
        }
        Ok::<_, Infallible>(time)
    });
    timeouts
}

fn positive_time(
    section: &mut Section,
    name: &'static str,
    default_seconds: u64,
    report: &mut Report,
) -> Duration {
    let time = section.get(name, Duration::from_secs(default_seconds), report);
    if time.is_zero() {
        report.fault(section.key(name), "must be longer than zero");
    }
    time
}

fn positive_count(
    section: &mut Section,
    name: &'static str,
    default: usize,
    report: &mut Report,
) -> usize {
    let count = section.get(name, default, report);
    if count == 0 {
        report.fault(section.key(name), "must be at least 1");
    }
    count
}
