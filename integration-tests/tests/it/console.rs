//! The console: the view of psql and drivers on the daemon, with the rights of their user.

use multidb_integration_tests::{Daemon, PgFailure, ProgramOutput, Session, run};
use serde_json::Value;

use crate::authenticating::user;
use crate::daemon;

const DATABASE: &str = "multidb";

/// Runs a statement in psql; `more` are options of its own.
fn psql(daemon: &Daemon, user: &str, more: &[&str], statement: &str) -> ProgramOutput {
    let mut command = daemon.client_program("psql", user);
    command.args(["--no-psqlrc", "--no-password", "--dbname", DATABASE]);
    run(command.args(more).args(["--command", statement]))
}

fn connect(daemon: &Daemon, user: &str, password: &str) -> Result<Session, PgFailure> {
    let mut config = daemon.config(user);
    Session::connect(config.dbname(DATABASE).password(password))
}

/// A session as the user of instances that name none.
#[track_caller]
fn console(daemon: &Daemon) -> Session {
    let session = connect(daemon, "user:staff", "");
    session.unwrap_or_else(|failure| panic!("{failure:?}"))
}

/// The names and the only row of an answer in psql.
#[track_caller]
fn shown(daemon: &Daemon, statement: &str) -> Vec<(String, String)> {
    let options = ["--expanded", "--no-align", "--field-separator=\t"];
    let output = psql(daemon, "user:staff", &options, statement);
    // The last value may be empty, and its separator at the end is trimmed.
    let lines = output.ok().lines();
    let lines = lines.map(|line| line.split_once('\t').unwrap_or((line, "")));
    lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The names of the fields of an object, and its texts and numbers.
fn fields(object: &Value) -> Vec<(String, Option<String>)> {
    let fields = object.as_object().expect("it is an object").iter();
    let text = |value: &Value| match value {
        Value::String(text) if !text.contains("T") => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    fields
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Asserts that psql shows the fields that the JSON has, with its values except the changing ones.
#[track_caller]
fn assert_like(shown: &[(String, String)], json: &Value) {
    const CHANGING: [&str; 8] = [
        "idle_seconds",
        "client_bytes",
        "backend_bytes",
        "disk_free_bytes",
        "disk_used_percent",
        "disk_saved_bytes",
        "exclusive_bytes",
        "connections",
    ];
    for (name, value) in fields(json) {
        let column = shown.iter().find(|(column, _)| *column == name);
        let (_, in_column) = column.unwrap_or_else(|| panic!("{name} is missing: {shown:?}"));
        if let Some(value) = value.filter(|_| !CHANGING.contains(&&*name)) {
            assert_eq!(*in_column, value, "{name}");
        }
    }
}

#[test]
fn psql_shows_what_the_commands_show() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    session.one("select 1");
    assert_like(
        &shown(&daemon, "SHOW INSTANCES"),
        &daemon.json(&["instance", "ls"])[0],
    );
    assert_like(&shown(&daemon, "SHOW INSTANCE a"), &daemon.instance("a"));
    assert_like(&shown(&daemon, "show status;"), &daemon.json(&["status"]));
    let connections = daemon.json(&["connection", "ls"]);
    let of_instance: Vec<_> = connections.as_array().into_iter().flatten().collect();
    assert_eq!(of_instance.len(), 1, "{connections}");
    assert_like(&shown(&daemon, "SHOW CONNECTIONS")[..13], of_instance[0]);
    let plain = ["--no-align", "--tuples-only"];
    let snapshots = psql(&daemon, "user:staff", &plain, "SHOW SNAPSHOTS");
    assert_eq!(snapshots.ok().lines().count(), 2);
    assert_eq!(psql(&daemon, "user:staff", &plain, "SHOW JOBS").ok(), "");
    let limits = psql(&daemon, "user:staff", &plain, "SHOW LIMITS");
    assert!(
        limits.ok().contains("limits.start_timeout|1m|file"),
        "{limits:?}"
    );
    let explained = shown(&daemon, "EXPLAIN GITREF 'main' PROJECT demo");
    let json = daemon.json(&["snapshot", "explain", "--gitref", "main"]);
    let value = |name: &str| {
        let found = explained.iter().find(|(column, _)| column == name);
        found.map(|(_, value)| Value::from(value.as_str()))
    };
    assert_eq!(value("chosen"), Some(json["chosen"].clone()));
    assert_eq!(value("commit"), Some(json["commit"].clone()));
    assert_eq!(value("id"), Some(json["snapshots"][0]["id"].clone()));
}

#[test]
fn instance_is_commanded_and_its_sessions_are_told() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,snapshot:monday");
    session
        .query("drop table polls_choice")
        .expect("it is writable");
    let console = console(&daemon);
    console.query("RESET INSTANCE \"a\"").expect("it is reset");
    let end = session.wait_end(std::time::Duration::from_secs(30));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
    let notices = console.notices();
    let notice = "multidb: 1 session of instance \"a\" was ended";
    assert_eq!(notices[0].message, notice);
    let again = daemon.connect("instance:a");
    assert_eq!(again.one("select count(*) from polls_choice"), "5000");
    drop(again);
    console.query("STOP INSTANCE a").expect("it is stopped");
    daemon.wait_state("a", "stopped");
    console.query("START INSTANCE a").expect("it is started");
    daemon.wait_state("a", "running");
    console.query("PIN INSTANCE a").expect("it is pinned");
    assert_eq!(daemon.instance("a")["pinned"], true);
    console.query("UNPIN INSTANCE 'a'").expect("it is unpinned");
    assert_eq!(daemon.instance("a")["pinned"], false);
    console.query("DROP INSTANCE a").expect("it is deleted");
    daemon.wait_state("a", "");
    let missing = console.query("SHOW INSTANCE a").expect_err("it is gone");
    assert_eq!(missing.sqlstate(), "3D000", "{missing:?}");
}

#[test]
fn anything_else_is_refused_with_a_hint() {
    let daemon = daemon().start();
    let console = console(&daemon);
    for statement in ["SELECT 1", "nonsense", "SHOW INSTANCES; SELECT 1"] {
        let refused = console.query(statement).expect_err("it is no statement");
        assert_eq!(refused.sqlstate(), "42601", "{refused:?}");
        let hint = refused.hint.unwrap_or_default();
        assert!(hint.contains("SHOW HELP"), "{hint}");
    }
    assert_eq!(console.query("SHOW HELP").map(|rows| rows.len()), Ok(15));
    let described = psql(&daemon, "user:staff", &[], "\\d");
    assert_eq!(described.code, Some(1), "{described:?}");
    for words in ["the console has no tables", "psql's \\d", "SHOW HELP"] {
        assert!(described.stderr.contains(words), "{described:?}");
    }
    // A name without a pair is none of an instance's either.
    let plain = psql(&daemon, "staff", &[], "SHOW STATUS");
    assert_eq!(plain.code, Some(2), "{plain:?}");
    assert!(
        plain.stderr.contains("connect as \"user:staff\""),
        "{plain:?}"
    );
}

#[test]
fn users_see_and_change_their_own_instances_and_administrators_all() {
    let daemon = daemon().set("auth", "method", "scram-sha-256").prepare();
    for (name, more) in [("alice", None), ("bob", None), ("root", Some("--admin"))] {
        let mut args = vec!["add", name, "--role", "postgres"];
        args.extend(more);
        user(&daemon, &args, name).ok();
    }
    daemon.start();
    let mut config = daemon.config("instance:a,gitref:main,user:alice");
    let held = Session::connect(config.password("alice")).expect("it is created");
    let wrong = connect(&daemon, "user:alice", "wrong").err();
    assert_eq!(
        wrong.map(|failure| failure.sqlstate().to_owned()),
        Some("28P01".to_owned())
    );
    let rows = |session: &Session, statement: &str| session.query(statement).map(|rows| rows.len());
    let bob = connect(&daemon, "user:bob", "bob").expect("it is a user");
    assert_eq!(rows(&bob, "SHOW INSTANCES"), Ok(0));
    assert_eq!(rows(&bob, "SHOW CONNECTIONS"), Ok(1));
    for statement in [
        "SHOW INSTANCE a",
        "STOP INSTANCE a",
        "DROP INSTANCE a",
        "PIN INSTANCE a",
    ] {
        let refused = bob.query(statement).expect_err("it is alice's");
        assert_eq!(refused.sqlstate(), "3D000", "{refused:?}");
        assert_eq!(refused.message, "multidb: instance \"a\" does not exist");
    }
    let alice = connect(&daemon, "user:alice", "alice").expect("she is a user");
    assert_eq!(rows(&alice, "SHOW INSTANCES"), Ok(1));
    assert_eq!(rows(&alice, "PIN INSTANCE a"), Ok(0));
    let root = connect(&daemon, "user:root", "root").expect("it is a user");
    assert_eq!(rows(&root, "SHOW INSTANCES"), Ok(1));
    assert_eq!(rows(&root, "SHOW CONNECTIONS"), Ok(4));
    assert_eq!(held.one("select 1"), "1");
    assert_eq!(rows(&root, "STOP INSTANCE a"), Ok(0));
    assert_eq!(root.one("SHOW is_superuser"), "on");
    assert_eq!(bob.one("SHOW is_superuser"), "off");
}

#[test]
fn console_ends_with_the_daemon_and_by_command() {
    let daemon = daemon().start();
    let killed = console(&daemon);
    let connections = daemon.json(&["connection", "ls"]);
    assert_eq!(connections[0]["instance"], Value::Null, "{connections}");
    assert_eq!(connections[0]["database"], DATABASE, "{connections}");
    let text = daemon.cli(&["connection", "ls"]);
    assert!(text.ok().contains("(console)"), "{text:?}");
    daemon
        .cli(&["connection", "kill", &connections[0]["id"].to_string()])
        .ok();
    let end = killed.wait_end(std::time::Duration::from_secs(30));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
    let drained = console(&daemon);
    daemon.stop();
    let end = drained.wait_end(std::time::Duration::from_secs(30));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
}
