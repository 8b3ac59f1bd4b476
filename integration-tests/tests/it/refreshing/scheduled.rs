//! Refreshes by schedule: when they begin, also after the daemon was off, and their notifications.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use multidb_integration_tests::{Daemon, WallClock, poll};
use serde_json::Value;

use super::{DATA, SECTION, daemon, script};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until so many refreshes have ended, and returns them all.
#[track_caller]
fn refreshes(daemon: &Daemon, count: usize) -> Vec<Value> {
    poll("the refreshes have ended", TIMEOUT, || {
        let jobs = daemon.json(&["job", "ls"]);
        let all = jobs.as_array().into_iter().flatten();
        let own = all.filter(|job| job["kind"] == "refresh" && !job["ended_at"].is_null());
        let own: Vec<Value> = own.cloned().collect();
        match own.len() == count {
            true => Ok(own),
            false => Err(jobs),
        }
    })
}

fn snapshots(daemon: &Daemon) -> usize {
    let listed = daemon.json(&["snapshot", "ls"]);
    listed.as_array().map_or(0, Vec::len)
}

fn time(value: &Value) -> Timestamp {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is a time"));
    text.parse().expect("it is a time")
}

#[test]
fn refresh_runs_by_schedule_and_once_for_those_that_were_missed() {
    let (_directory, program) = script("");
    let good = format!("#!/bin/sh\ncat <<'END'\n{DATA}\nEND\n");
    fs::write(&program, &good).expect("it can be written");
    let command = format!("{{ command = [{program:?}] }}");
    let daemon = daemon()
        .without_snapshots()
        .set_raw(SECTION, "source", &command)
        .set(SECTION, "every", "24h")
        .prepare();
    let clock = WallClock::new(daemon.dir());
    daemon.expect_log("the wall clock jumped");
    // There is no snapshot yet.
    daemon.start_with(&clock.environment());
    assert_eq!(refreshes(&daemon, 1)[0]["state"], "done");
    let status = daemon.json(&["status"])["refresh"]["demo"].clone();
    let (last, next) = (time(&status["last_success_at"]), time(&status["next_at"]));
    let hours = next.duration_since(last).as_hours();
    assert!((23..=24).contains(&hours), "{status}");
    assert!(status["last_error"].is_null(), "{status}");

    // Ten days later.
    daemon.stop();
    clock.set_ahead_days(10);
    daemon.start_with(&clock.environment());
    refreshes(&daemon, 2);
    assert_eq!(snapshots(&daemon), 2);

    // The command fails from now on, and the last snapshot becomes old.
    let bad = "#!/bin/sh\necho the bucket is gone >&2\nexit 1\n";
    fs::write(&program, bad).expect("it can be written");
    daemon.expect_log("a refresh failed, and is tried again");
    clock.set_ahead_days(11);
    let failed = refreshes(&daemon, 3);
    assert_eq!(failed[2]["state"], "failed");
    poll("the failure is told", TIMEOUT, || {
        let status = daemon.json(&["status"])["refresh"]["demo"].clone();
        let error = &status["last_error"]["message"];
        let is_told = error
            .as_str()
            .is_some_and(|text| text.contains("the bucket is gone"));
        let retried = status["next_at"].as_str().map(|_| time(&status["next_at"]));
        match retried.zip(Some(time(&status["last_success_at"]))) {
            Some((next, last)) if is_told && next > last => Ok(()),
            _ => Err(status),
        }
    });
    let doctor = daemon.cli(&["doctor"]);
    assert!(doctor.stdout.contains("the last one failed"), "{doctor:?}");
    assert_eq!(snapshots(&daemon), 2);
    poll("the failure is logged", TIMEOUT, || {
        let log = daemon.log();
        match log.contains("a refresh failed, and is tried again") {
            true => Ok(()),
            false => Err(log),
        }
    });
}

#[test]
fn what_appears_in_the_folder_is_imported_and_put_away() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let path = |name: &str| folder.path().join(name);
    let daemon = daemon()
        .without_snapshots()
        .set(SECTION, "incoming", &folder.path().display().to_string())
        .start();
    daemon.expect_log("an incoming dump");
    fs::write(path("unfinished.sql.part"), DATA).expect("it can be written");
    std::os::unix::fs::symlink("/etc/passwd", path("link.sql")).expect("a link can be made");
    fs::write(path("good one.sql"), DATA).expect("it can be written");
    fs::write(path("good one.sql.done"), "").expect("it can be written");
    fs::write(path("bad.sql"), "select 1/0;").expect("it can be written");
    fs::write(path("bad.sql.done"), "").expect("it can be written");
    poll("both are put away", TIMEOUT, || {
        let is_done = path("done/good one.sql").exists() && path("failed/bad.sql").exists();
        is_done.then_some(()).ok_or_else(|| daemon.log())
    });
    let left = fs::read_dir(folder.path()).expect("it can be read");
    let mut left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
    left.sort();
    assert_eq!(left, ["done", "failed", "link.sql", "unfinished.sql.part"]);
    let listed = daemon.json(&["snapshot", "ls"]);
    let all = listed.as_array().map_or(0, Vec::len);
    assert_eq!(all, 1, "{listed}");
    let source = listed[0]["source"].as_str().expect("it is text");
    assert!(source.ends_with("good one.sql"), "{listed}");
}
