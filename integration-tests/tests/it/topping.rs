//! `multidb top` on a terminal: it shows the present state, survives the daemon, and leaves the terminal as it was.

use multidb_integration_tests::Terminal;
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon;

#[test]
fn top_survives_the_daemon_and_leaves_the_terminal_as_it_was() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:first,snapshot:monday");
    let mut terminal = Terminal::run(&mut daemon.cli_command(&["top"]), 80, 24);
    for text in ["multidb 0", "first", "running", "1 connection", "q quit"] {
        terminal.wait_for(text);
    }
    assert!(!terminal.is_restored());
    drop(session);
    daemon.kill9();
    terminal.wait_for("NOT ANSWERING, what is shown is ");
    assert!(terminal.shown().contains("first"), "{}", terminal.shown());
    daemon.start();
    let _second = daemon.connect("instance:second,snapshot:monday");
    terminal.wait_until("it answers again", |shown| {
        shown.contains("second") && !shown.contains("NOT ANSWERING")
    });
    terminal.write("/nothing-has-this\r");
    terminal.wait_for("none that the filter lets through");
    terminal.write("\u{1b}");
    terminal.wait_for("second");
    terminal.write("\u{3}");
    assert_eq!(terminal.wait_restored(), Some(0));
}

#[test]
fn top_leaves_the_terminal_as_it_was_however_it_ends() {
    let daemon = daemon().prepare();
    let top = || {
        let terminal = Terminal::run(&mut daemon.cli_command(&["top"]), 200, 50);
        terminal.wait_for("NOT ANSWERING: the daemon is not running");
        assert!(!terminal.is_restored());
        terminal
    };
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut terminal = top();
        terminal.signal(signal);
        assert_eq!(terminal.wait_restored(), Some(0), "{signal:?}");
    }
    let mut terminal = top();
    terminal.write("q");
    assert_eq!(terminal.wait_restored(), Some(0));
    assert_eq!(terminal.written().matches("\u{1b}[?1049l").count(), 1);
}

#[test]
fn top_fits_terminals_of_any_size() {
    let daemon = daemon().start();
    let sessions = (10..22).map(|n| daemon.connect(&format!("instance:i{n},snapshot:monday")));
    sessions.for_each(drop);
    let mut terminal = Terminal::run(&mut daemon.cli_command(&["top"]), 80, 24);
    terminal.wait_for("i21");
    terminal.resize(20, 4);
    terminal.wait_until("it is tiny", |shown| {
        shown.contains("i10") && !shown.contains("i13")
    });
    terminal.write("\u{1b}[F");
    terminal.wait_for("i21");
    terminal.resize(1, 1);
    terminal.resize(120, 8);
    terminal.wait_until("it has more columns", |shown| {
        shown.contains("EXPIRES") && shown.contains("i21")
    });
    terminal.write("q");
    assert_eq!(terminal.wait_restored(), Some(0));
}

#[test]
fn top_prints_json_once_and_is_refused_where_there_is_no_terminal() {
    let daemon = daemon().start();
    let refused = daemon.cli(&["top"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .stderr
            .starts_with("multidb: top needs a terminal; \"multidb top --json\""),
        "{refused:?}"
    );
    assert_eq!(refused.stdout, "");
    let session = daemon.connect("instance:first,snapshot:monday");
    let facts = daemon.json(&["top"]);
    assert_eq!(facts["status"]["connections"], 1, "{facts}");
    assert_eq!(facts["instances"][0]["name"], "first", "{facts}");
    assert_eq!(facts["connections"][0]["instance"], "first", "{facts}");
    assert_eq!(facts["jobs"], Value::Array(Vec::new()), "{facts}");
    drop(session);
}
