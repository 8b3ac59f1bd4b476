//! The disk space that is an instance's or a snapshot's alone.

use std::time::Duration;

use multidb_integration_tests::{Disk, Engine, eventually};
use serde_json::Value;

use crate::daemon_on;

const LIMIT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

fn of<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    let list = list.as_array().expect("it is a list");
    let found = list.iter().find(|one| one[key] == name);
    found.unwrap_or_else(|| panic!("{name} is listed: {list:?}"))
}

fn exclusive_bytes_are_measured_on(disk: Disk) {
    let daemon = daemon_on(disk, Engine::Process).start();
    let session = daemon.connect("instance:c,snapshot:monday");
    let bytes = || {
        let list = daemon.json(&["instance", "ls"]);
        of(&list, "name", "c")["exclusive_bytes"].as_u64()
    };
    eventually("a running instance is measured", LIMIT, || {
        bytes().is_some()
    });
    session.one("create table fat as select repeat(md5(i::text), 40) from generate_series(1, 8000) i; select 1");
    drop(session);
    daemon.cli(&["instance", "stop", "c", "--yes"]).ok();
    eventually("it is measured again after its stop", LIMIT, || {
        bytes().is_some_and(|bytes| bytes > 8 * MIB)
    });
    eventually("its snapshot shares its blocks", LIMIT, || {
        let list = daemon.json(&["snapshot", "ls"]);
        let snapshot = of(&list, "id", "monday");
        let exclusive = snapshot["exclusive_bytes"].as_u64();
        exclusive.is_some_and(|bytes| bytes < snapshot["bytes"].as_u64().unwrap_or(0) / 2)
    });
    let status = daemon.json(&["status"]);
    assert!(
        status["exclusive_bytes"].as_u64() > Some(8 * MIB),
        "{status}"
    );
    assert!(status["disk_saved_bytes"].as_u64() > Some(MIB), "{status}");
    daemon.cli(&["instance", "rm", "c", "--yes"]).ok();
    eventually("a deleted instance costs nothing", LIMIT, || {
        daemon.json(&["status"])["exclusive_bytes"].as_u64() < Some(8 * MIB)
    });
}

#[test]
fn exclusive_bytes_are_measured_in_the_background_on_xfs() {
    exclusive_bytes_are_measured_on(Disk::Xfs);
}

#[test]
fn exclusive_bytes_are_measured_in_the_background_on_btrfs() {
    exclusive_bytes_are_measured_on(Disk::Btrfs);
}
