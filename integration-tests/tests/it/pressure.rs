//! Room is made on a disk that is above `disk_high_water`, in a fixed order, and never at the cost of data in use.

use std::fs;
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Session, eventually, poll};
use serde_json::Value;

use crate::daemon;

const TIMEOUT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 1024 * MIB;
/// The mark, in percent.
const MARK: u64 = 60;
/// The least bytes that an instance has of its own for each part of its data.
const PART_BYTES: u64 = 18 * MIB;

/// Writes so many parts of data.
fn fill(session: &Session, parts: u64) {
    let rows = 16_000 * parts;
    session.one(&format!(
        "create unlogged table fat as select repeat(md5(i::text), 40) from generate_series(1, {rows}) i; select 1"
    ));
}

/// The used and the free bytes of the root's file system.
fn usage(daemon: &Daemon) -> (u64, u64) {
    let mut df = Command::new("df");
    df.args(["--sync", "--block-size=1", "--output=used,avail"]);
    let output = df.arg(daemon.root()).output().expect("it can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    (numbers[0], numbers[1])
}

/// Takes so many bytes that the disk is above the mark by this.
fn fill_above_mark(daemon: &Daemon, bytes: u64) {
    // The overhead of a file system depends on how full it is.
    for (name, above, below) in [("near", 0, 20 * MIB), ("above", bytes, 0)] {
        let (used, free) = usage(daemon);
        let target = (used + free) * MARK / 100 + above - below;
        let filler = target.checked_sub(used).expect("it is below yet");
        let mut fallocate = Command::new("fallocate");
        fallocate.args(["--length", &filler.to_string()]);
        let status = fallocate.arg(daemon.root().join(name)).status();
        assert!(status.expect("it can be run").success());
    }
}

fn exclusive_bytes(daemon: &Daemon, noun: &str, key: &str, name: &str) -> Option<u64> {
    let list = daemon.json(&[noun, "ls"]);
    let found = list.as_array()?.iter().find(|one| one[key] == name)?;
    found["exclusive_bytes"].as_u64()
}

/// A new instance with data of its own.
fn filled(daemon: &Daemon, name: &str, class: &str, parts: u64) -> Session {
    let session = daemon.connect(&format!("instance:{name},snapshot:tuesday,class:{class}"));
    fill(&session, parts);
    session
}

/// The bytes of its own, once it is stopped and measured.
fn measured(daemon: &Daemon, name: &str, parts: u64) -> u64 {
    daemon.wait_state(name, "stopped");
    poll("it is measured", TIMEOUT, || {
        let bytes = exclusive_bytes(daemon, "instance", "name", name);
        bytes
            .filter(|bytes| *bytes > parts * PART_BYTES)
            .ok_or(bytes)
    })
}

fn steps(status: &Value) -> Vec<String> {
    let steps = status["disk_pressure"]["steps"].as_array();
    let steps = steps.into_iter().flatten();
    steps
        .filter_map(|step| step["what"].as_str().map(str::to_owned))
        .collect()
}

/// A daemon with an instance that is marked, a de-duplication that was cancelled, and a snapshot that only its pin
/// keeps.
fn prepared(disk: Disk) -> Daemon {
    let daemon = daemon()
        .small_disk_of(disk, DISK_BYTES)
        .limit("retention", "2s")
        .limit("expiry_grace", "1h")
        .limit("instance_idle_timeout", "300ms")
        .limit("disk_reserve", "16MiB")
        .set_raw("project.demo.refresh", "keep", "{ last = 9 }")
        .start();
    daemon.expect_log("instance is expired, and is deleted unless somebody uses or pins it");
    drop(filled(&daemon, "marked", "scratch", 1));
    eventually("it is marked", TIMEOUT, || {
        !daemon.instance("marked")["marked_at"].is_null()
    });
    daemon.cli(&["snapshot", "pin", "monday"]).ok();
    daemon.cli(&["dedup", "pause"]).ok();
    daemon.stop();
    daemon.reconfigure("last = 9", "last = 1");
    daemon.reconfigure("retention = \"2s\"", "retention = \"30d\"");
    let mark = format!("disk_high_water = \"{MARK}%\"");
    daemon.reconfigure("disk_high_water = \"none\"", &mark);
    daemon.reconfigure("enabled = false", "enabled = true");
    daemon.start();
    // The daemon answers before it begins the job that the last one has not completed.
    let id = poll("the de-duplication begins", TIMEOUT, || {
        let jobs = daemon.json(&["job", "ls"]);
        let all = jobs.as_array().into_iter().flatten();
        let mut dedups = all.filter(|job| job["kind"] == "dedup");
        dedups.next().map(|job| job["id"].to_string()).ok_or(jobs)
    });
    daemon.cli(&["job", "cancel", id.trim_matches('"')]).ok();
    daemon
}

fn room_is_made_in_order_on(disk: Disk) {
    let daemon = prepared(disk);
    let others = [
        ("pinned", "scratch", 1),
        ("first", "scratch", 3),
        ("second", "scratch", 1),
        ("young", "durable", 1),
    ];
    for (name, class, parts) in others {
        drop(filled(&daemon, name, class, parts));
    }
    daemon.cli(&["instance", "pin", "pinned"]).ok();
    let busy = filled(&daemon, "busy", "scratch", 1);
    for (name, _, parts) in others {
        measured(&daemon, name, parts);
    }
    let marked = measured(&daemon, "marked", 1);
    let monday = poll("it is measured", TIMEOUT, || {
        exclusive_bytes(&daemon, "snapshot", "id", "monday").ok_or(())
    });
    daemon.cli(&["snapshot", "unpin", "monday"]).ok();
    daemon.cli(&["dedup", "resume"]).ok();
    let left = daemon.root().join("trash").join("left");
    fs::write(&left, vec![1; 8 << 20]).expect("it can be written");
    for text in [
        "the disk is above limits.disk_high_water, making room",
        "an instance makes room, since the disk is above limits.disk_high_water",
    ] {
        daemon.expect_log(text);
    }
    fill_above_mark(&daemon, 8 * MIB + monday + marked + 8 * MIB);
    let status = poll("the disk is below its mark again", TIMEOUT, || {
        busy.one("insert into fat values ('x'); select 1");
        let status = daemon.json(&["status"]);
        let is_done = steps(&status).len() >= 5 && status["disk_pressure"]["bytes_above"] == 0;
        if is_done { Ok(status) } else { Err(status) }
    });
    let expected = [
        "emptied the trash",
        "began to let the snapshots share their blocks",
        "deleted 1 snapshot beyond keep",
        "deleted instance marked, which was marked as expired",
        "deleted instance first, the least recently used one",
    ];
    assert_eq!(steps(&status), expected, "{status}");
    assert_eq!(status["disk_high_water"], MARK, "{status}");
    assert!(
        status["disk_used_percent"].as_u64() <= Some(MARK),
        "{status}"
    );
    assert!(!left.exists());
    for name in ["pinned", "second", "young", "busy"] {
        assert_ne!(daemon.state(name), "", "{name}");
    }
    assert!(busy.one("select count(*) from fat").as_str() > "16000");
    let doctor = daemon.cli(&["doctor"]);
    assert!(
        doctor.stdout.contains("room is made above 60%"),
        "{doctor:?}"
    );
}

#[test]
fn room_is_made_in_order_and_not_beyond_the_mark_on_xfs() {
    room_is_made_in_order_on(Disk::Xfs);
}

#[test]
fn room_is_made_in_order_and_not_beyond_the_mark_on_btrfs() {
    room_is_made_in_order_on(Disk::Btrfs);
}
