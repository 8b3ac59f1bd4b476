//! The commands, with text and JSON output.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::daemon;

#[track_caller]
fn assert_fields(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "{field} is missing: {value}");
    }
}

const INSTANCE: &[&str] = &[
    "name",
    "project",
    "state",
    "snapshot",
    "gitref",
    "commit",
    "created_at",
    "last_used_at",
    "expires_at",
    "pinned",
    "connections",
    "postgres_major",
    "runtime",
    "data_dir",
];
const SNAPSHOT: &[&str] = &[
    "id",
    "project",
    "taken_at",
    "postgres_major",
    "bytes",
    "migrations",
    "instances",
    "data_dir",
];
const STATUS: &[&str] = &[
    "version",
    "instances",
    "connections",
    "snapshots",
    "clone_method",
    "disk_free_bytes",
];

#[test]
fn json_has_the_promised_fields() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    session.one("select 1");
    let instance = daemon.instance("a");
    assert_fields(&instance, INSTANCE);
    assert_fields(&daemon.json(&["instance", "ls"])[0], INSTANCE);
    assert_eq!(instance["project"], "demo");
    assert_eq!(instance["state"], "running");
    assert_eq!(instance["connections"], 1);
    assert_eq!(instance["runtime"], "process");
    assert_eq!(instance["pinned"], false);
    let snapshots = daemon.json(&["snapshot", "ls"]);
    assert_eq!(snapshots.as_array().map(Vec::len), Some(2));
    assert_fields(&snapshots[0], SNAPSHOT);
    let tuesday = daemon.json(&["snapshot", "show", "tuesday"]);
    assert_fields(&tuesday, SNAPSHOT);
    assert_eq!(tuesday["migrations"], 3);
    assert_eq!(tuesday["instances"], 1);
    let status = daemon.json(&["status"]);
    assert_fields(&status, STATUS);
    assert_eq!(status["instances"]["running"], 1);
    assert_eq!(status["snapshots"], 2);
    assert_eq!(status["clone_method"], "reflink");
    let connections = daemon.json(&["connection", "ls"]);
    assert_eq!(
        connections.as_array().map(Vec::len),
        Some(1),
        "{connections}"
    );
}

#[test]
fn instance_is_stopped_started_reset_and_removed_by_command() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,snapshot:monday");
    session
        .query("drop table polls_choice")
        .expect("it is writable");
    daemon.cli(&["instance", "stop", "a"]).ok();
    let end = session.wait_end(std::time::Duration::from_secs(30));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
    daemon.wait_state("a", "stopped");
    daemon.cli(&["instance", "start", "a"]).ok();
    daemon.wait_state("a", "running");
    daemon.cli(&["instance", "reset", "a"]).ok();
    let again = daemon.connect("instance:a");
    assert_eq!(again.one("select count(*) from polls_choice"), "5000");
    drop(again);
    daemon.cli(&["instance", "rm", "a"]).ok();
    daemon.wait_state("a", "");
    let output = daemon.cli(&["instance", "show", "a"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains('a'), "{output:?}");
}

#[test]
fn connection_is_ended_by_command() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,snapshot:monday");
    let connections = daemon.json(&["connection", "ls"]);
    let id = connections[0]["id"].to_string();
    daemon
        .cli(&["connection", "kill", id.trim_matches('"')])
        .ok();
    let end = session.wait_end(std::time::Duration::from_secs(30));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
}

#[test]
fn explain_prints_the_decision_snapshot_by_snapshot() {
    let daemon = daemon().start();
    let output = daemon.cli(&["snapshot", "explain", "--gitref", "v1"]);
    let text = output.ok();
    for part in ["monday", "tuesday", "polls.0002_closed_at"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let none = daemon.cli(&[
        "snapshot",
        "explain",
        "--gitref",
        "ancient",
        "--project",
        "demo",
    ]);
    assert!(none.stdout.contains("polls.0001_initial"), "{none:?}");
}

#[test]
fn snapshot_that_instances_need_is_kept_unless_forced() {
    let daemon = daemon().start();
    drop(daemon.connect("instance:a,snapshot:monday"));
    let refused = daemon.cli(&["snapshot", "rm", "monday"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    daemon.cli(&["snapshot", "rm", "monday", "--force"]).ok();
    let snapshots = daemon.json(&["snapshot", "ls"]);
    assert_eq!(snapshots.as_array().map(Vec::len), Some(1), "{snapshots}");
    let session = daemon.connect("instance:a");
    assert_eq!(session.one("select count(*) from polls_question"), "1000");
}

#[test]
fn wrong_usage_exits_with_2_and_failure_with_1() {
    let daemon = daemon().start();
    for (args, code) in [
        (&["no-such-command"][..], 2),
        (&["instance", "show"], 2),
        (&["instance", "show", "nobody"], 1),
        (&["snapshot", "show", "nothing"], 1),
        (&["instance", "pin", "nobody", "--for", "soon"], 2),
        (&["status"], 0),
        (&["doctor"], 0),
        (&["config", "check"], 0),
        (&["--help"], 0),
    ] {
        let output = daemon.cli(args);
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
    }
}

#[test]
fn command_without_a_daemon_reports_it() {
    let daemon = daemon().without_snapshots().prepare();
    let output = daemon.cli(&["status"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("admin.sock"), "{output:?}");
}

#[test]
fn admin_socket_speaks_http_and_json_to_its_owner_only() {
    let daemon = daemon().start();
    let mode = std::fs::metadata(daemon.admin_socket()).expect("it is there");
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
    assert_eq!(mode & 0o007, 0, "others may use the admin socket: {mode:o}");
    let mut socket = UnixStream::connect(daemon.admin_socket()).expect("it accepts");
    socket
        .write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for field in STATUS {
        assert!(
            answer.contains(&format!("\"{field}\"")),
            "{field}: {answer}"
        );
    }
}
