//! At `max_running` the least recently used instance without sessions is stopped.

use std::time::Duration;

use multidb_integration_tests::{Session, WallClock, eventually, is_alive, postmaster_pid};
use tokio::time::Instant;

use crate::daemon;

#[test]
fn least_recently_used_instance_without_sessions_is_stopped() {
    let daemon = daemon().set_raw("limits", "max_running", "2").start();
    drop(daemon.connect("instance:oldest,snapshot:monday"));
    drop(daemon.connect("instance:newer,snapshot:monday"));
    eventually("both are without sessions", Duration::from_secs(30), || {
        daemon.json(&["status"])["connections"] == 0
    });
    let third = daemon.connect("instance:third,snapshot:monday");
    third.one("select 1");
    daemon.wait_state("oldest", "stopped");
    assert_eq!(daemon.state("newer"), "running");
    let back = daemon.connect("instance:oldest");
    back.one("select 1");
    daemon.wait_state("newer", "stopped");
}

#[test]
fn client_waits_for_a_slot_and_is_then_refused() {
    let daemon = daemon()
        .set_raw("limits", "max_running", "1")
        .limit("start_timeout", "5s")
        .start();
    daemon.expect_log("slots for running instances are in use");
    let holder = daemon.connect("instance:holder,snapshot:monday");
    let failure = daemon.refused("instance:waiter,snapshot:monday");
    assert_eq!(failure.sqlstate(), "53300", "{failure:?}");
    holder.one("select 1");
}

#[test]
fn waiting_client_is_served_when_an_instance_becomes_unused() {
    let daemon = daemon().set_raw("limits", "max_running", "1").start();
    let holder = daemon.connect("instance:holder,snapshot:monday");
    let config = daemon.config("instance:waiter,snapshot:monday");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| multidb_integration_tests::Session::connect(&config));
        eventually(
            "the waiter waits for a slot",
            Duration::from_secs(30),
            || {
                let listed = daemon.json(&["instance", "ls", "--state", "starting"]);
                listed[0]["name"] == "waiter" && listed[0]["waiting_for"] == "slot"
            },
        );
        drop(holder);
        let session = waiter.join().expect("no panic").expect("it is served");
        assert_eq!(session.one("select 1"), "1");
        let shown = daemon.json(&["instance", "show", "waiter"]);
        assert!(shown["waiting_for"].is_null(), "{shown}");
    });
}

#[test]
fn servers_found_beyond_max_running_are_stopped_before_they_count_as_stopped() {
    let daemon = daemon().set_raw("limits", "max_running", "2").start();
    let names = ["a", "b"];
    for name in names {
        let session = daemon.connect(&format!("instance:{name},snapshot:monday"));
        let made = session.query("create table kept as select 1 as x");
        made.expect("it is writable");
    }
    daemon.kill9();
    daemon.reconfigure("max_running = 2", "max_running = 1");
    daemon.start();
    daemon.wait_state("b", "stopped");
    assert_eq!(postmaster_pid(&daemon.data_dir("b")), None);
    assert_eq!(daemon.state("a"), "running");
    for name in names {
        let session = daemon.connect(&format!("instance:{name}"));
        assert_eq!(session.one("select x from kept"), "1");
    }
}

#[test]
fn instances_past_max_running_take_turns_that_are_worth_their_start() {
    /// The least time that an instance keeps its slot.
    const RESIDENCY: Duration = Duration::from_millis(250);
    let daemon = daemon().set_raw("limits", "max_running", "1").start();
    let names = ["a", "b"];
    for name in names {
        drop(daemon.connect(&format!("instance:{name},snapshot:monday")));
    }
    let starts = || daemon.log().matches("to=\"running\"").count();
    let (before, began) = (starts(), Instant::now());
    std::thread::scope(|scope| {
        for name in names {
            let config = daemon.config(&format!("instance:{name}"));
            scope.spawn(move || {
                for _ in 0..40 {
                    Session::connect(&config)
                        .expect("it is served")
                        .one("select 1");
                }
            });
        }
    });
    let elapsed = began.elapsed();
    let turns = elapsed.as_millis() / RESIDENCY.as_millis() + 2;
    assert!((starts() - before) as u128 <= turns, "{elapsed:?}");
}

#[test]
fn instance_whose_actor_panics_keeps_its_slot_and_no_data_goes_under_its_session() {
    let daemon = daemon()
        .set_raw("limits", "max_running", "1")
        .limit("start_timeout", "3s")
        .prepare();
    let clock = WallClock::new(daemon.dir());
    daemon.start_with(&clock.environment());
    for expected in ["panicked", "slots for running instances are in use"] {
        daemon.expect_log(expected);
    }
    let session = daemon.connect("instance:a,snapshot:monday");
    let made = session.query("create table kept as select 1 as x");
    made.expect("it is writable");
    let other = daemon.connect("instance:a");
    let data = daemon.data_dir("a");
    let server = postmaster_pid(&data).expect("it runs");
    // The actor reads the clock as a session ends.
    clock.set_ahead_days(WallClock::DAYS_OUT_OF_RANGE);
    drop(other);
    daemon.wait_log("panicked");
    clock.set_ahead_days(0);
    daemon.wait_state("a", "running");
    assert_eq!(daemon.instance("a")["connections"], 1);
    assert_eq!(session.one("select x from kept"), "1");
    let failure = daemon.refused("instance:b,snapshot:monday");
    assert_eq!(failure.sqlstate(), "53300", "{failure:?}");
    assert_eq!(postmaster_pid(&data), Some(server));
    daemon.cli(&["instance", "rm", "--yes", "a"]).ok();
    session.wait_end(Duration::from_secs(30));
    assert!(!is_alive(server));
    assert!(!data.exists());
}

#[test]
fn no_instance_starts_while_more_of_the_memory_is_used_than_memory_high_water() {
    let daemon = daemon()
        .limit("memory_high_water", "1%")
        .limit("start_timeout", "2s")
        .start();
    daemon.expect_log("no free slot to start postgres in");
    let failure = daemon.refused("instance:a,snapshot:monday");
    assert_eq!(failure.sqlstate(), "53300", "{failure:?}");
    let detail = failure.detail.as_deref().unwrap_or_default();
    assert!(detail.contains("limits.memory_high_water"), "{failure:?}");
    let status = daemon.json(&["status"]);
    assert!(status["memory_used_percent"].as_u64() > Some(1), "{status}");
    daemon.stop();
    daemon.reconfigure("memory_high_water = \"1%\"", "memory_high_water = \"none\"");
    daemon.start();
    assert_eq!(daemon.connect("instance:a").one("select 1"), "1");
}
