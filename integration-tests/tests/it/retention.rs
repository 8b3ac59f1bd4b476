//! Unused instances expire unless they are pinned.

use std::time::Duration;

use multidb_integration_tests::eventually;

use crate::daemon;

/// The warning about an instance whose grace begins.
const EXPIRED: &str = "instance is expired, and is deleted unless somebody uses or pins it";

#[test]
fn unused_instance_expires_and_a_pinned_one_stays() {
    let daemon = daemon()
        .limit("retention", "3s")
        .limit("expiry_grace", "1s")
        .limit("instance_idle_timeout", "500ms")
        .start();
    daemon.expect_log(EXPIRED);
    drop(daemon.connect("instance:kept,snapshot:monday"));
    daemon.cli(&["instance", "pin", "kept"]).ok();
    let in_use = daemon.connect("instance:in-use,snapshot:monday");
    drop(daemon.connect("instance:unused,snapshot:monday"));
    daemon.wait_state("unused", "");
    assert_eq!(daemon.instance("kept")["pinned"], true);
    in_use.one("select 1");
    assert_eq!(daemon.refused("instance:unused").sqlstate(), "3D000");
    daemon.cli(&["instance", "unpin", "kept"]).ok();
    daemon.wait_state("kept", "");
    assert_eq!(daemon.state("in-use"), "running");
    eventually(
        "only one directory is left",
        Duration::from_secs(30),
        || {
            let count =
                |name: &str| std::fs::read_dir(daemon.root().join(name)).map_or(0, Iterator::count);
            count("instances") == 1 && count("trash") == 0
        },
    );
}

#[test]
fn pin_for_a_time_ends_with_it() {
    let daemon = daemon()
        .limit("retention", "1s")
        .limit("expiry_grace", "1s")
        .limit("instance_idle_timeout", "300ms")
        .start();
    daemon.expect_log(EXPIRED);
    let session = daemon.connect("instance:p,snapshot:monday");
    daemon.cli(&["instance", "pin", "p", "--for", "12s"]).ok();
    drop(session);
    drop(daemon.connect("instance:q,snapshot:monday"));
    daemon.wait_state("q", "");
    assert_eq!(daemon.state("p"), "stopped");
    daemon.wait_state("p", "");
}

#[test]
fn expiry_is_by_last_use_and_survives_a_restart() {
    let daemon = daemon().limit("retention", "2d").start();
    drop(daemon.connect("instance:e,snapshot:monday"));
    // The end of the session is a use, too.
    eventually("the session has ended", Duration::from_secs(30), || {
        daemon.instance("e")["connections"] == 0
    });
    let before = daemon.instance("e");
    let expires = before["expires_at"]
        .as_str()
        .expect("it expires")
        .to_owned();
    let used = before["last_used_at"]
        .as_str()
        .expect("it was used")
        .to_owned();
    assert!(expires > used, "{before}");
    daemon.restart();
    let after = daemon.instance("e");
    // The time between the two daemons does not count.
    assert!(after["expires_at"].as_str() >= Some(&*expires), "{after}");
    assert_eq!(after["last_used_at"], used.as_str());
    daemon.cli(&["instance", "pin", "e"]).ok();
    assert!(daemon.instance("e")["expires_at"].is_null());
}

#[test]
fn expired_instance_is_marked_and_a_use_takes_the_mark_away_for_good() {
    let daemon = daemon()
        .limit("retention", "2s")
        .limit("expiry_grace", "1h")
        .limit("instance_idle_timeout", "300ms")
        .start();
    daemon.expect_log(EXPIRED);
    let marked = || !daemon.instance("m")["marked_at"].is_null();
    let wait_marked = || eventually("it is marked", Duration::from_secs(30), marked);
    drop(daemon.connect("instance:m,snapshot:monday"));
    wait_marked();
    let listed = daemon.cli(&["instance", "ls"]);
    assert!(listed.ok().contains(" minutes, marked"), "{listed:?}");
    assert_eq!(daemon.json(&["status"])["marked"], 1);
    let log = daemon.log();
    assert_eq!(log.matches(EXPIRED).count(), 1, "{log}");
    // The mark survives a restart, and a use is durable before the client is served.
    daemon.restart();
    assert!(marked());
    let session = daemon.connect("instance:m");
    daemon.kill9();
    drop(session);
    daemon.start();
    assert!(!marked());
    wait_marked();
    daemon.cli(&["instance", "pin", "m"]).ok();
    assert!(!marked());
    assert!(daemon.instance("m")["expires_at"].is_null());
}

#[test]
fn crowd_of_expired_instances_goes_a_tenth_at_a_time() {
    let daemon = daemon()
        .limit("retention", "20s")
        .limit("expiry_grace", "1s")
        .limit("instance_idle_timeout", "300ms")
        .start();
    daemon.expect_log(EXPIRED);
    daemon.expect_log("more instances have expired than a tenth of all");
    for number in 0..3 {
        drop(daemon.connect(&format!("instance:i{number},snapshot:monday")));
    }
    let count = || {
        daemon
            .json(&["instance", "ls"])
            .as_array()
            .map_or(0, Vec::len)
    };
    daemon.wait_log("more instances have expired than a tenth of all");
    // The one permitted deletion may still be on its way.
    eventually("one is gone", Duration::from_secs(10), || count() < 3);
    assert_eq!(count(), 2);
}
