//! Unused instances expire unless they are pinned.

use std::time::Duration;

use multidb_integration_tests::eventually;

use crate::daemon;

#[test]
fn unused_instance_expires_and_a_pinned_one_stays() {
    let daemon = daemon()
        .limit("retention", "3s")
        .limit("instance_idle_timeout", "500ms")
        .start();
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
        .limit("instance_idle_timeout", "300ms")
        .start();
    let session = daemon.connect("instance:p,snapshot:monday");
    daemon.cli(&["instance", "pin", "p", "--for", "6s"]).ok();
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
    assert_eq!(daemon.instance("e")["expires_at"], expires.as_str());
    daemon.cli(&["instance", "pin", "e"]).ok();
    assert!(daemon.instance("e")["expires_at"].is_null());
}
