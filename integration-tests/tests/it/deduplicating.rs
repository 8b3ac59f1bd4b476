//! Snapshots come to share the blocks that they have in common, in the background.

use multidb_integration_tests::{Daemon, DaemonBuilder, Disk, Engine, poll};
use serde_json::Value;
use std::time::Duration;

use crate::{PROGRAM, daemon};

const TIMEOUT: Duration = Duration::from_secs(60);

fn with_dedup(builder: DaemonBuilder) -> DaemonBuilder {
    builder.set_raw("dedup", "enabled", "true")
}

fn import(daemon: &Daemon, id: &str, taken_at: &str) {
    let fixture = multidb_integration_tests::Fixture::of(Disk::Xfs, PROGRAM.as_ref());
    let data_dir = fixture.data_dir().display().to_string();
    let args = [
        "snapshot",
        "import",
        id,
        "--project",
        "demo",
        "--data-dir",
        &data_dir,
    ];
    let mut args = args.to_vec();
    args.extend(["--taken-at", taken_at]);
    daemon.cli(&args).ok();
}

/// What `dedup status` says of a snapshot.
fn of_snapshot(daemon: &Daemon, id: &str) -> Value {
    let status = daemon.json(&["dedup", "status"]);
    let snapshots = status["snapshots"].as_array().cloned().unwrap_or_default();
    let found = snapshots.into_iter().find(|one| one["id"] == id);
    found.unwrap_or_else(|| panic!("{id} is not in {status}"))
}

fn wait_complete(daemon: &Daemon, id: &str, onto: &str) -> Value {
    poll("the comparison is complete", TIMEOUT, || {
        let shown = of_snapshot(daemon, id);
        if shown["onto"] == onto && !shown["finished_at"].is_null() {
            Ok(shown)
        } else {
            Err(shown)
        }
    })
}

#[test]
fn import_is_followed_by_a_job_that_shares_blocks() {
    for disk in [Disk::Xfs, Disk::Btrfs] {
        let builder = DaemonBuilder::new(PROGRAM, disk, Engine::Process);
        let daemon = with_dedup(builder).without_snapshots().start();
        // From another file system the second copy shares nothing at first.
        import(&daemon, "first", "2026-01-01T00:00:00Z");
        let rows = daemon.psql(
            "instance:before,snapshot:first",
            "select count(*) from polls_choice",
        );
        import(&daemon, "second", "2026-01-02T00:00:00Z");
        let shown = wait_complete(&daemon, "first", "second");
        let bytes = shown["bytes"].as_u64().expect("it is a number");
        let shared = shown["bytes_shared"].as_u64().expect("it is a number");
        let examined = shown["bytes_examined"].as_u64().expect("it is a number");
        // On XFS the copies of one directory share their blocks from the beginning.
        assert!(examined - shared < bytes / 10, "{shown}");
        for (name, snapshot) in [("one", "first"), ("two", "second")] {
            let user = format!("instance:{name},snapshot:{snapshot}");
            let again = daemon.psql(&user, "select count(*) from polls_choice");
            assert_eq!(again.ok(), rows.ok());
        }
        let again = daemon.cli(&["dedup", "run"]);
        assert!(again.ok().contains("all snapshots share"), "{again:?}");
    }
}

#[test]
fn pause_survives_a_kill_and_the_work_goes_on_after_it() {
    let daemon = with_dedup(daemon()).start();
    wait_complete(&daemon, "monday", "tuesday");
    daemon.cli(&["dedup", "pause"]).ok();
    import(&daemon, "wednesday", "2026-01-07T00:00:00Z");
    let status = daemon.json(&["dedup", "status"]);
    assert_eq!(status["paused"], true);
    daemon.kill9();
    daemon.start();
    let status = daemon.json(&["dedup", "status"]);
    assert_eq!(status["paused"], true);
    let shown = of_snapshot(&daemon, "tuesday");
    assert!(shown["onto"].is_null(), "{shown}");
    daemon.cli(&["dedup", "resume"]).ok();
    wait_complete(&daemon, "tuesday", "wednesday");
    wait_complete(&daemon, "monday", "wednesday");
}
