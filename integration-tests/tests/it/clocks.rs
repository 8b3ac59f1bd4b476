//! A wall clock that is wrong, or jumps, expires nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use multidb_integration_tests::{Daemon, WallClock, eventually};

use crate::daemon;

/// The retention, and a grace so short that the daemon looks every second.
const RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A daemon with a clock of its own, which is right.
fn daemon_with_clock() -> (Daemon, WallClock) {
    let daemon = daemon()
        .limit("retention", "30d")
        .limit("expiry_grace", "10s")
        .limit("instance_idle_timeout", "300ms")
        .prepare();
    let clock = WallClock::new(daemon.dir());
    daemon.start_with(&clock.environment());
    daemon.expect_log("the wall clock jumped");
    (daemon, clock)
}

/// The time until the instance is deleted, by a wall clock that is ahead by so many days.
fn expires_in(daemon: &Daemon, name: &str, days_ahead: i64) -> SignedDuration {
    let shown = daemon.instance(name);
    assert!(shown["marked_at"].is_null(), "{shown}");
    let at = shown["expires_at"].as_str().expect("it expires");
    let at: Timestamp = at.parse().expect("it is a time");
    at.duration_since(Timestamp::now()) - SignedDuration::from_hours(24 * days_ahead)
}

/// Asserts that the instance was used just now.
#[track_caller]
fn assert_used_now(daemon: &Daemon, name: &str, days_ahead: i64) {
    let expires = expires_in(daemon, name, days_ahead);
    let used = (expires - RETENTION).as_secs().abs();
    assert!(used < 120, "{name} expires in {expires:?}");
}

fn jumps(daemon: &Daemon) -> usize {
    daemon.log().matches("the wall clock jumped").count()
}

/// Sets the clock, and waits until the daemon has seen that.
fn jump(daemon: &Daemon, clock: &WallClock, days_ahead: i64) {
    let before = jumps(daemon);
    clock.set_ahead_days(days_ahead);
    eventually("the jump is seen", Duration::from_secs(30), || {
        jumps(daemon) > before
    });
}

#[test]
fn clock_that_is_40_days_ahead_deletes_nothing() {
    let (daemon, clock) = daemon_with_clock();
    drop(daemon.connect("instance:a,snapshot:monday"));
    daemon.wait_state("a", "stopped");
    jump(&daemon, &clock, 40);
    assert_eq!(daemon.state("a"), "stopped");
    assert_used_now(&daemon, "a", 40);
    let status = daemon.json(&["status"]);
    let paused = status["expiry_paused_seconds"].as_u64();
    assert!(paused.is_some_and(|seconds| seconds > 3000), "{status}");
    let shown = daemon.cli(&["status"]);
    assert!(
        shown.ok().contains("since the wall clock jumped"),
        "{shown:?}"
    );
    let doctor = daemon.cli(&["doctor"]);
    assert!(
        doctor.stdout.contains("the wall clock jumped"),
        "{doctor:?}"
    );
    // A daemon that begins under the wrong clock has nothing to compare it with.
    daemon.stop();
    daemon.start_with(&clock.environment());
    assert_used_now(&daemon, "a", 40);
    let status = daemon.json(&["status"]);
    assert!(status["expiry_paused_seconds"].is_null(), "{status}");
    daemon.connect("instance:a").one("select 1");
}

#[test]
fn uses_under_a_late_clock_count_after_it_is_corrected() {
    let (daemon, clock) = daemon_with_clock();
    let names = ["client", "start", "reset", "pin", "unpin"];
    for name in names {
        drop(daemon.connect(&format!("instance:{name},snapshot:monday")));
        daemon.wait_state(name, "stopped");
    }
    let before = daemon.instance("client")["last_used_at"].clone();
    daemon.cli(&["instance", "pin", "unpin"]).ok();
    jump(&daemon, &clock, -40);
    daemon.connect("instance:client").one("select 1");
    daemon.cli(&["instance", "start", "start"]).ok();
    daemon.cli(&["instance", "reset", "reset", "--yes"]).ok();
    daemon.cli(&["instance", "pin", "pin", "--for", "1h"]).ok();
    daemon.cli(&["instance", "unpin", "unpin"]).ok();
    for name in names {
        daemon.wait_state(name, "stopped");
    }
    clock.set_ahead_days(0);
    daemon.stop();
    daemon.start_with(&clock.environment());
    for name in names {
        assert_used_now(&daemon, name, 0);
    }
    let after = daemon.instance("client")["last_used_at"].clone();
    assert!(after.as_str() >= before.as_str(), "{before} {after}");
}

#[test]
fn unpin_shows_an_expiry_in_the_future() {
    let (daemon, clock) = daemon_with_clock();
    drop(daemon.connect("instance:old,snapshot:monday"));
    daemon.cli(&["instance", "pin", "old"]).ok();
    daemon.wait_state("old", "stopped");
    jump(&daemon, &clock, 400);
    let unpinned = daemon.cli(&["instance", "unpin", "old"]);
    let line = unpinned.ok();
    let at = line.trim().rsplit(' ').next().unwrap_or_default();
    let at: Timestamp = at.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
    let expected = Timestamp::now() + SignedDuration::from_hours(400 * 24) + RETENTION;
    assert!(
        at.duration_since(expected).abs() < SignedDuration::from_mins(2),
        "{line}"
    );
    assert_used_now(&daemon, "old", 400);
}
