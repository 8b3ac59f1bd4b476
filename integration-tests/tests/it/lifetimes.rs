//! The time to live and the class of an instance, which serve at its creation.

use crate::daemon;

#[test]
fn ttl_and_class_are_given_at_creation_and_kept() {
    let daemon = daemon().limit("retention", "3d").start();
    let session = daemon.connect("instance:t,snapshot:monday,ttl:2h,class:scratch");
    session.one("select 1");
    let notices = format!("{:?}", session.notices());
    assert!(!notices.contains("lifetime"), "{notices}");
    drop(session);
    let lifetime = || {
        let shown = daemon.instance("t");
        assert!(shown["parent"].is_null(), "{shown}");
        (shown["class"].clone(), shown["ttl_seconds"].clone())
    };
    let given = ("scratch".into(), 7200.into());
    assert_eq!(lifetime(), given);
    drop(daemon.connect("instance:d,snapshot:monday"));
    let at = |name: &str| daemon.instance(name)["expires_at"].to_string();
    assert!(at("t") < at("d"), "{} {}", at("t"), at("d"));
    assert_eq!(daemon.instance("d")["class"], "durable");

    // A stack that restarts with the same words is told nothing, with others it is told of the difference.
    let same = daemon.connect("instance:t,ttl:120m,class:scratch");
    same.one("select 1");
    assert!(same.notices().is_empty(), "{:?}", same.notices());
    let other = daemon.connect("instance:t,ttl:1h,class:durable");
    other.one("select 1");
    let notices = format!("{:?}", other.notices());
    for expected in [
        "with another lifetime",
        "Its ttl is 2 hours, not 1 hour. Its class is scratch, not durable.",
    ] {
        assert!(notices.contains(expected), "{notices}");
    }
    drop((same, other));
    daemon.cli(&["instance", "reset", "t", "--yes"]).ok();
    daemon.restart();
    assert_eq!(lifetime(), given);
}

#[test]
fn ttl_beyond_the_retention_is_refused_at_creation_alone() {
    let daemon = daemon().limit("retention", "1d").start();
    let refusal = daemon.refused("instance:t,snapshot:monday,ttl:2d");
    assert_eq!(refusal.sqlstate(), "22023");
    let text = format!("{refusal:?}");
    assert!(text.contains("at most 1 day (limits.retention)"), "{text}");
    drop(daemon.connect("instance:t,snapshot:monday"));
    drop(daemon.connect("instance:t,ttl:2d"));
}

#[test]
fn instance_is_created_by_command() {
    let daemon = daemon().limit("retention", "1d").start();
    let create = |args: &[&str]| daemon.cli(&[&["instance", "create"], args].concat());
    let told = create(&["c", "--gitref", "v1", "--ttl", "2h", "--class", "scratch"]);
    assert!(
        told.ok()
            .contains("instance c is running, a clone of snapshot monday"),
        "{told:?}"
    );
    let shown = daemon.instance("c");
    assert_eq!(
        (&shown["ttl_seconds"], &shown["gitref"]),
        (&7200.into(), &"v1".into())
    );
    for (args, message) in [
        (&["c", "--snapshot", "latest"][..], "instance \"c\" exists"),
        (
            &["l", "--snapshot", "latest", "--ttl", "2d"],
            "longer than the retention",
        ),
        (&["n", "--snapshot", "none"], "has no snapshot \"none\""),
        (&["g", "--gitref", "none"], "none"),
    ] {
        let refused = create(args);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(message), "{refused:?}");
    }
    drop(daemon.connect("instance:c"));
}
