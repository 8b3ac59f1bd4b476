//! Commands that end sessions or delete data report it, and ask for confirmation on a terminal.

use std::time::Duration;

use multidb_integration_tests::{Daemon, run_on_terminal};
use serde_json::Value;

use crate::daemon;

/// Runs a command on a terminal on which this is typed.
fn typed(daemon: &Daemon, args: &[&str], answer: &str) -> (Option<i32>, String) {
    run_on_terminal(&mut daemon.cli_command(args), answer)
}

#[test]
fn declined_confirmation_changes_nothing() {
    let daemon = daemon().start();
    let first = daemon.connect("instance:a,snapshot:monday");
    let second = daemon.connect("instance:a");
    first
        .query("create table kept as select 42 as x")
        .expect("it is writable");
    for (command, question) in [
        ("stop", "Stop instance a and end 2 sessions?"),
        (
            "reset",
            "a fresh clone of snapshot monday and end 2 sessions?",
        ),
        ("rm", "Delete instance a with its data and end 2 sessions?"),
    ] {
        for answer in ["n\n", "\n", "\u{4}"] {
            let (code, shown) = typed(&daemon, &["instance", command, "a"], answer);
            assert!(shown.contains(question), "{shown}");
            assert!(shown.contains("nothing was done"), "{shown}");
            assert_eq!(code, Some(1), "{shown}");
        }
    }
    assert_eq!(second.one("select x from kept"), "42");
}

#[test]
fn confirmed_command_reports_the_ended_sessions() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,snapshot:monday");
    let (code, shown) = typed(&daemon, &["instance", "stop", "a"], "y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("and end 1 session? [y/N]"), "{shown}");
    assert!(shown.contains("is stopped, 1 session ended"), "{shown}");
    let end = session.wait_end(Duration::from_secs(30));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
    // Stopping an unused instance loses nothing and needs no confirmation.
    let (code, shown) = typed(&daemon, &["instance", "stop", "a"], "");
    assert!(code == Some(0) && !shown.contains('?'), "{shown}");
    let (code, shown) = typed(&daemon, &["instance", "reset", "a"], "yes\n");
    assert!(
        code == Some(0) && shown.contains("fresh clone of snapshot monday?"),
        "{shown}"
    );
    let (code, shown) = typed(&daemon, &["instance", "rm", "a", "--yes"], "");
    assert!(code == Some(0) && !shown.contains('?'), "{shown}");
    daemon.wait_state("a", "");
}

#[test]
fn snapshot_is_deleted_after_a_question_only() {
    let daemon = daemon().start();
    let (code, shown) = typed(&daemon, &["snapshot", "rm", "monday"], "n\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("Delete snapshot monday with its data? [y/N]"),
        "{shown}"
    );
    let (code, shown) = typed(&daemon, &["snapshot", "rm", "monday"], "y\n");
    assert_eq!(code, Some(0), "{shown}");
    let (code, shown) = typed(&daemon, &["snapshot", "rm", "tuesday", "--yes"], "");
    assert!(code == Some(0) && !shown.contains('?'), "{shown}");
}

#[test]
fn list_fits_the_terminal_unless_it_may_be_wide() {
    let daemon = daemon().start();
    let name = "an-instance-with-a-name-that-is-longer-than-most-of-the-others";
    drop(daemon.connect(&format!("instance:{name},snapshot:monday")));
    let shown = |args: &[&str]| {
        let mut command = daemon.cli_command(args);
        command.env("COLUMNS", "80");
        let (code, shown) = run_on_terminal(&mut command, "");
        assert_eq!(code, Some(0), "{shown}");
        shown
    };
    let narrow = shown(&["instance", "ls"]);
    assert!(
        narrow
            .lines()
            .all(|line| line.trim_end().chars().count() <= 80),
        "{narrow}"
    );
    assert!(
        narrow.contains("an-instance") && !narrow.contains(name),
        "{narrow}"
    );
    assert!(shown(&["instance", "ls", "--wide"]).contains(name));
}

#[test]
fn program_is_never_asked_for_confirmation() {
    let daemon = daemon().start();
    let sessions = ["a", "b", "c"].map(|name| {
        let user = format!("instance:{name},snapshot:monday");
        [daemon.connect(&user), daemon.connect(&user)]
    });
    // On a terminal, but with JSON output.
    let (code, shown) = typed(&daemon, &["instance", "reset", "a", "--json"], "");
    assert_eq!(code, Some(0), "{shown}");
    let answer: Value = serde_json::from_str(&shown).expect("it is JSON and nothing else");
    assert_eq!(answer["sessions_ended"], 2);
    // Not on a terminal.
    let output = daemon.cli(&["instance", "stop", "b"]);
    assert_eq!(output.ok(), "instance b is stopped, 2 sessions ended");
    let removed = daemon.json(&["instance", "rm", "c"]);
    assert_eq!(removed["sessions_ended"], 2, "{removed}");
    drop(sessions);
}
