//! `keep`: old snapshots are deleted by the rule of their project, and none that is in use.

use std::fs;
use std::path::Path;
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Fixture, eventually};
use serde_json::Value;

use crate::daemon;

/// How long a deletion may take, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

fn ids(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.json(&["snapshot", "ls"]);
    let ids = listed.as_array().into_iter().flatten();
    ids.filter_map(|snapshot| snapshot["id"].as_str().map(str::to_owned))
        .collect()
}

fn import(daemon: &Daemon, id: &str, taken_at: &str) {
    let dump = Fixture::of(Disk::Xfs, Path::new(crate::PROGRAM)).dump("tuesday.sql");
    let dump = dump.display().to_string();
    let args = Daemon::import_args(id, &["--dump", &dump, "--taken-at", taken_at]);
    daemon.cli(&args).ok();
}

fn kept_because(daemon: &Daemon, id: &str) -> Value {
    daemon.json(&["snapshot", "show", id])["kept_because"].clone()
}

#[test]
fn snapshots_beyond_keep_go_and_those_in_use_or_pinned_stay() {
    let daemon = daemon()
        .set_raw("project.demo.refresh", "keep", "{ last = 1 }")
        .prepare();
    daemon.start_with(&[]);
    // At start; the snapshots of the fixture are of two days.
    let directory = daemon.root().join("snapshots");
    eventually("monday goes", TIMEOUT, || {
        !directory.join("monday").exists()
    });
    assert_eq!(ids(&daemon), ["tuesday"]);
    daemon.wait_log("it is beyond keep (last 1, daily 0, weekly 0, monthly 0)");
    assert_eq!(kept_because(&daemon, "tuesday")[0], "newest");
    let session = daemon.connect("instance:a,snapshot:tuesday");
    import(&daemon, "wednesday", "2026-01-07T03:00:00Z");
    assert_eq!(ids(&daemon), ["tuesday", "wednesday"]);
    assert_eq!(kept_because(&daemon, "tuesday")[0], "1 instance needs it");
    drop(session);
    daemon.cli(&["instance", "rm", "--yes", "a"]).ok();
    daemon
        .cli(&["snapshot", "pin", "tuesday", "--for", "2d"])
        .ok();
    let shown = daemon.json(&["snapshot", "show", "tuesday"]);
    assert_eq!(shown["pinned"], true);
    assert!(shown["pinned_until"].is_string(), "{shown}");
    daemon.restart();
    import(&daemon, "thursday", "2026-01-08T03:00:00Z");
    eventually(
        "the one that is neither needed nor pinned goes",
        TIMEOUT,
        || ids(&daemon) == ["thursday", "tuesday"],
    );
    // One of an older time stays for as long as its own job, whose command shows it, and goes after the next.
    import(&daemon, "sunday", "2026-01-04T03:00:00Z");
    assert_eq!(ids(&daemon), ["sunday", "thursday", "tuesday"]);
    daemon.cli(&["snapshot", "unpin", "tuesday"]).ok();
    assert_eq!(
        kept_because(&daemon, "tuesday").as_array().map(Vec::len),
        Some(0)
    );
    import(&daemon, "friday", "2026-01-09T03:00:00Z");
    eventually("all but the newest go", TIMEOUT, || {
        let left = fs::read_dir(&directory).expect("it can be read").flatten();
        ids(&daemon) == ["friday"] && left.count() == 1
    });
}

#[test]
fn snapshots_without_a_rule_stay() {
    let daemon = daemon().start();
    let shown = daemon.json(&["snapshot", "show", "monday"]);
    assert_eq!(shown["kept_because"][0], "its project has no keep");
    assert_eq!(ids(&daemon), ["monday", "tuesday"]);
}

#[test]
fn kill_while_snapshots_go_leaves_the_newest_and_completes_the_deletions() {
    let daemon = daemon()
        .set_raw("project.demo.refresh", "keep", "{ last = 1 }")
        .start();
    let directory = daemon.root().join("snapshots");
    for (id, day) in [("wednesday", 7), ("thursday", 8), ("friday", 9)] {
        // The deletions follow the import, whose end is told before.
        import(&daemon, id, &format!("2026-01-{day:02}T03:00:00Z"));
        daemon.kill9();
        daemon.start();
        eventually("the newest is left alone", TIMEOUT, || {
            let left = fs::read_dir(&directory).expect("it can be read").flatten();
            let in_trash = fs::read_dir(daemon.root().join("trash")).expect("it can be read");
            ids(&daemon) == [id] && left.count() == 1 && in_trash.count() == 0
        });
        let user = format!("instance:of-{id},snapshot:{id}");
        daemon
            .psql(&user, "select count(*) from polls_question")
            .ok();
        daemon
            .cli(&["instance", "rm", "--yes", &format!("of-{id}")])
            .ok();
    }
}
