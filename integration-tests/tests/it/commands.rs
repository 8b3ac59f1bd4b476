//! The commands, with text and JSON output.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use multidb_integration_tests::{Daemon, Session};
use serde_json::{Value, json};

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

/// Asserts that a session was ended by a command on its instance, and told so in words of multidb's.
#[track_caller]
fn assert_told(session: &Session, done: &str, detail: &str) {
    let end = session.wait_end(std::time::Duration::from_secs(30));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
    assert!(end.message.contains(done), "{end:?}");
    let told = end.detail.as_deref().unwrap_or_default();
    assert!(
        told.contains("given by an administrator") && told.contains(detail),
        "{end:?}"
    );
    let hint = end.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("onnect"), "{end:?}");
}

#[test]
fn instance_is_stopped_started_reset_and_removed_by_command() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,snapshot:monday");
    session
        .query("drop table polls_choice")
        .expect("it is writable");
    daemon.cli(&["instance", "stop", "a"]).ok();
    assert_told(&session, "is stopped", "all that was committed is kept");
    daemon.wait_state("a", "stopped");
    daemon.cli(&["instance", "start", "a"]).ok();
    daemon.wait_state("a", "running");
    let session = daemon.connect("instance:a");
    session.query("begin").expect("it can begin");
    daemon.cli(&["instance", "reset", "a"]).ok();
    assert_told(&session, "is reset", "a fresh clone");
    let again = daemon.connect("instance:a");
    assert_eq!(again.one("select count(*) from polls_choice"), "5000");
    daemon.cli(&["instance", "rm", "a"]).ok();
    assert_told(&again, "is removed", "its data goes");
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
    // The command returns when it has ended, not when that has been asked for.
    assert_eq!(daemon.json(&["connection", "ls"]), json!([]));
    let end = session.wait_end(std::time::Duration::from_secs(30));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
}

#[test]
fn errors_are_json_where_it_is_asked_for() {
    let daemon = daemon().start();
    let error = |args: &[&str]| -> Value {
        let failed = daemon.cli(&[args, &["--json"]].concat());
        assert_ne!(failed.code, Some(0), "{failed:?}");
        assert_eq!(failed.stdout, "", "{failed:?}");
        serde_json::from_str::<Value>(&failed.stderr)
            .unwrap_or_else(|error| panic!("{error}: {failed:?}"))["error"]
            .clone()
    };
    let missing = error(&["instance", "show", "nobody"]);
    assert_eq!(missing["code"], "no_such_instance", "{missing}");
    let usage = error(&["instance", "show"]);
    assert_eq!(usage["code"], "usage", "{usage}");
    let dir = daemon.dir().display().to_string();
    let directory = error(&["status", "--socket", &dir]);
    assert_eq!(directory["code"], "not_a_socket", "{directory}");
    let absent = error(&["status", "--socket", "/nowhere/admin.sock"]);
    assert_eq!(absent["code"], "not_running", "{absent}");
    assert!(absent["hint"].is_string(), "{absent}");
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
    let (status, body) = get(&daemon, "/v1/status");
    assert_eq!(status, "200 OK", "{body}");
    assert_fields(&body, STATUS);
}

/// The status and the JSON of an answer on the admin socket.
fn get(daemon: &Daemon, path: &str) -> (String, Value) {
    let mut socket = UnixStream::connect(daemon.admin_socket()).expect("it accepts");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.lines().next().expect("a status line");
    let status = status.trim_start_matches("HTTP/1.1 ").to_owned();
    (status, serde_json::from_str(body).expect("JSON"))
}

fn names(instances: &Value) -> Vec<&str> {
    let instances = instances.as_array().expect("a list").iter();
    instances
        .map(|instance| instance["name"].as_str().expect("a name"))
        .collect()
}

#[test]
fn instances_are_listed_by_filter_and_page_by_page() {
    let daemon = daemon().start();
    let open = daemon.connect("instance:b,snapshot:monday,user:alice");
    for name in ["c", "a"] {
        drop(daemon.connect(&format!("instance:{name},snapshot:monday")));
    }
    daemon.cli(&["instance", "stop", "a"]).ok();
    for (arguments, expected) in [
        (&[][..], &["a", "b", "c"][..]),
        (&["--state", "stopped"], &["a"]),
        (&["--created-by", "alice"], &["b"]),
        (&["--project", "demo", "--limit", "2"], &["a", "b"]),
        (&["--project", "other"], &[]),
    ] {
        let list = daemon.json(&[&["instance", "ls"], arguments].concat());
        assert_eq!(names(&list), expected, "{arguments:?}");
    }
    let (_, page) = get(&daemon, "/v1/instances?limit=1&after=a");
    assert_eq!(names(&page), ["b"]);
    drop(open);
}

#[test]
fn error_on_the_admin_socket_has_a_stable_code() {
    let daemon = daemon().start();
    for (path, status, code) in [
        ("/v1/instances/x", "404 Not Found", "no_such_instance"),
        ("/v1/instances/-", "400 Bad Request", "invalid_argument"),
        (
            "/v1/instances?state=asleep",
            "400 Bad Request",
            "invalid_argument",
        ),
        ("/v1/snapshots/x", "404 Not Found", "no_such_snapshot"),
        (
            "/v1/snapshots/explain?gitref=no-such",
            "400 Bad Request",
            "unknown_revision",
        ),
        (
            "/v1/snapshots/explain?gitref=main&project=other",
            "404 Not Found",
            "no_such_project",
        ),
        ("/v2", "404 Not Found", "no_such_path"),
    ] {
        let (answered, body) = get(&daemon, path);
        assert_eq!(
            (answered.as_str(), &body["error"]["code"]),
            (status, &code.into())
        );
        assert!(body["error"]["message"].is_string(), "{body}");
    }
}

/// A project with a squashed migration, whose database is nowhere.
fn django_project(directory: &std::path::Path) {
    let files = [
        (
            "manage.py",
            "import os, sys\n\
             from django.core.management import execute_from_command_line\n\
             os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n\
             print('settings may print')\n\
             execute_from_command_line(sys.argv)\n",
        ),
        (
            "settings.py",
            "SECRET_KEY = 'x'\n\
             INSTALLED_APPS = ['django.contrib.contenttypes', 'polls']\n\
             DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'HOST': 'nowhere.invalid', 'NAME': 'x'}}\n",
        ),
        ("polls/__init__.py", ""),
        ("polls/migrations/__init__.py", ""),
        (
            "polls/migrations/0001_squashed_0002_more.py",
            "from django.db import migrations\n\
             class Migration(migrations.Migration):\n    \
             replaces = [('polls', '0001_initial'), ('polls', '0002_more')]\n",
        ),
    ];
    for (name, contents) in files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        std::fs::write(path, contents).expect("it can be written");
    }
}

#[test]
fn listing_of_a_django_project_is_printed_from_its_code() {
    let project = tempfile::tempdir().expect("there is room");
    let run = |directory: &std::path::Path| {
        std::process::Command::new(env!("CARGO_BIN_EXE_multidb"))
            // Debian's Python, since another may come first in the PATH.
            .args(["listing", "django", "--python", "/usr/bin/python3"])
            .arg("--project-dir")
            .arg(directory)
            .output()
            .expect("it can be run")
    };
    let failed = run(project.path());
    assert!(!failed.status.success());
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(error.contains("has no manage.py"), "{error}");
    django_project(project.path());
    let printed = run(project.path());
    let error = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert!(printed.status.success(), "{error}");
    let listing = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert_eq!(
        listing,
        "contenttypes.0001_initial\ncontenttypes.0002_remove_content_type_name\n\
         polls.0001_squashed_0002_more replaces polls.0001_initial,polls.0002_more\n"
    );
    std::fs::write(
        project.path().join("settings.py"),
        "import no_such_package\n",
    )
    .expect("it can be written");
    let failed = run(project.path());
    assert!(!failed.status.success());
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        error.contains("no_such_package") && error.contains("--python"),
        "{error}"
    );
}
