//! Notifications: each event once, signed, however the target behaves, and never in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{
    Authority, Daemon, DaemonBuilder, Disk, Fixture, Received, Webhook, WebhookAnswer, eventually,
    run,
};
use serde_json::{Value, json};

use crate::{PROGRAM, daemon};

mod events;

const TIMEOUT: Duration = Duration::from_secs(60);
const KEY: &str = "0123456789abcdef0123456789abcdef";
const EXPIRED: &str = "instance is expired, and is deleted unless somebody uses or pins it";
const NOT_TAKEN: &str = "a notification was not taken, and is tried again";
const GIVEN_UP: &str = "a notification is given up";

/// A daemon with these targets, in TOML.
fn daemon_telling(builder: DaemonBuilder, targets: &str) -> Daemon {
    let daemon = builder.prepare();
    daemon.reconfigure(
        "admin_socket =",
        &format!("notify = [{targets}]\nadmin_socket ="),
    );
    daemon
}

fn short_lives() -> DaemonBuilder {
    daemon()
        .limit("retention", "2s")
        .limit("expiry_grace", "1h")
        .limit("instance_idle_timeout", "300ms")
}

fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn is_event(event: &str) -> impl Fn(&Value) -> bool {
    move |message| message["event"] == event
}

/// The verdict of the documentation's receiver on a request.
fn is_genuine(request: &Received, key: &str) -> bool {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/notifications.md");
    let docs = fs::read_to_string(docs).expect("it is documented");
    let code = docs.split("```python\n").nth(1).expect("it has code");
    let code = code.split("```").next().expect("it ends");
    let headers = json!({
        "X-Multidb-Timestamp": request.header("x-multidb-timestamp"),
        "X-Multidb-Signature": request.header("x-multidb-signature"),
    });
    let body = String::from_utf8(request.body.clone()).expect("JSON is UTF-8");
    let program = format!(
        "{code}\nimport sys\nprint(is_genuine(sys.argv[1].encode(), __import__('json').loads(sys.argv[2]), sys.argv[3].encode()))"
    );
    let mut python = Command::new("python3");
    python.args(["-c", &program, key, &headers.to_string(), &body]);
    run(&mut python).ok().trim() == "True"
}

/// The target of this number, as the status has it.
fn target(daemon: &Daemon, number: usize) -> Value {
    daemon.json(&["status"])["notify"][number].clone()
}

#[test]
fn event_is_told_once_signed_and_with_what_to_do() {
    let hook = Webhook::reserve();
    let builder = short_lives();
    let daemon = daemon_telling(
        builder,
        &format!(
            "{{ on = [\"expiring\"], webhook = \"{}\", secret = \"{KEY}\" }}",
            hook.url("http", "127.0.0.1", "/hook?token=t0k3n")
        ),
    );
    daemon.expect_log(EXPIRED);
    hook.listen(None, &[]);
    daemon.start();
    drop(daemon.connect("instance:unused,snapshot:monday"));
    let received = hook.wait(1, is_event("expiring"));
    let (request, message) = (&received[0], received[0].json());
    assert!(
        request.head.starts_with("POST /hook?token=t0k3n HTTP/1.1"),
        "{}",
        request.head
    );
    assert_eq!(request.header("x-multidb-event"), "expiring");
    assert_eq!(request.header("x-multidb-id"), message["id"]);
    for (field, value) in [
        ("project", "demo"),
        ("instance", "unused"),
        ("snapshot", "monday"),
    ] {
        assert_eq!(message[field], value, "{message}");
    }
    let text = message["text"].as_str().expect("it has a text");
    assert!(text.contains("\"multidb instance pin unused\""), "{text}");
    assert!(is_genuine(request, KEY));
    assert!(!is_genuine(request, &KEY.replace('0', "1")));
    let mut altered = request.clone();
    altered.body.push(b' ');
    assert!(!is_genuine(&altered, KEY));
    // Not again at later looks, nor after restarts of both kinds.
    eventually("the delivery is recorded", TIMEOUT, || {
        let recorded = fs::read_to_string(daemon.root().join("state/notified.json"));
        recorded.is_ok_and(|text| text.contains("expiring/"))
    });
    daemon.restart();
    daemon.kill9();
    daemon.start();
    drop(daemon.connect("instance:other,snapshot:monday"));
    hook.wait(1, |message| message["instance"] == "other");
    assert_eq!(hook.received().len(), 2, "{:?}", hook.received());
    // A use takes the mark away, and the next mark is another event.
    drop(daemon.connect("instance:unused"));
    hook.wait(2, |message| message["instance"] == "unused");
    let status = target(&daemon, 0);
    assert_eq!(status["target"], hook.url("http", "127.0.0.1", "/***"));
    assert!(!daemon.log().contains("t0k3n"));
}

#[test]
fn target_that_is_down_slow_or_broken_gets_it_later_and_nothing_waits() {
    let hook = Webhook::reserve();
    let daemon = daemon_telling(
        short_lives(),
        &format!(
            "{{ on = [\"expiring\"], webhook = \"{}\", timeout = \"500ms\" }}",
            hook.url("http", "localhost", "/")
        ),
    );
    daemon.expect_log(EXPIRED).expect_log(NOT_TAKEN);
    daemon.start();
    drop(daemon.connect("instance:unused,snapshot:monday"));
    daemon.wait_log("cannot connect");
    daemon
        .connect("instance:other,snapshot:monday")
        .one("select 1");
    let huge = "x".repeat(10 << 20);
    hook.listen(
        None,
        &[
            WebhookAnswer::Hang,
            WebhookAnswer::Status("500 Internal Server Error", "", huge),
            WebhookAnswer::Status("429 Too Many Requests", "", "slower\u{1b}[2J".to_owned()),
        ],
    );
    let received = hook.wait(4, |message| message["instance"] == "unused");
    assert!(
        received
            .iter()
            .all(|one| one.json()["id"] == received[0].json()["id"])
    );
    for error in [
        "took longer than 500ms",
        "status 500 Internal Server Error: xxx",
        "429 Too Many Requests: slower [2J",
    ] {
        daemon.wait_log(error);
    }
    let log = daemon.log();
    assert!(
        !log.contains(&"x".repeat(300)) && !log.contains('\u{1b}'),
        "{log}"
    );
    eventually("it is counted", TIMEOUT, || {
        target(&daemon, 0)["sent"].as_u64() >= Some(1)
    });
}

#[test]
fn message_that_was_not_delivered_is_sent_by_the_next_daemon() {
    let hook = Webhook::reserve();
    let daemon = daemon_telling(
        short_lives(),
        &format!(
            "{{ on = [\"expiring\"], webhook = \"{}\" }}",
            hook.url("http", "127.0.0.1", "/")
        ),
    );
    daemon.expect_log(EXPIRED).expect_log(NOT_TAKEN);
    daemon.start();
    drop(daemon.connect("instance:unused,snapshot:monday"));
    daemon.wait_log("cannot connect");
    daemon.kill9();
    hook.listen(None, &[]);
    daemon.start();
    hook.wait(1, |message| message["instance"] == "unused");
}

#[test]
fn redirects_and_refusals_are_final_and_doctor_tells_of_them() {
    let (hook, elsewhere) = (Webhook::reserve(), Webhook::reserve());
    elsewhere.listen(None, &[]);
    let location = elsewhere.url("http", "127.0.0.1", "/");
    let location: &'static str = format!("location: {location}\r\n").leak();
    hook.listen(
        None,
        &[
            WebhookAnswer::Status("307 Temporary Redirect", location, String::new()),
            WebhookAnswer::Status("404 Not Found", "", "no_such_hook".to_owned()),
        ],
    );
    let daemon = daemon_telling(
        daemon(),
        &format!(
            "{{ on = [\"job_failed\"], webhook = \"{}\" }}",
            hook.url("http", "127.0.0.1", "/")
        ),
    );
    daemon.expect_log(GIVEN_UP).expect_log("import failed");
    daemon.start();
    let import = |id: &str| {
        let dump = daemon.dir().join("none.dump");
        fs::write(&dump, "no dump").expect("it can be written");
        let dump = dump.display().to_string();
        let failed = daemon.cli(&Daemon::import_args(id, &["--dump", &dump]));
        assert!(failed.code != Some(0), "{failed:?}");
    };
    import("first");
    daemon.wait_log("a redirect to http");
    import("second");
    daemon.wait_log("404 Not Found: no_such_hook");
    assert!(elsewhere.received().is_empty());
    let received = hook.received();
    assert_eq!(received.len(), 2, "{received:?}");
    assert_eq!(received[0].json()["snapshot"], "first");
    let doctor = daemon.cli(&["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("WARN  notifications: http://127.0.0.1"),
        "{doctor:?}"
    );
    assert_eq!(target(&daemon, 0)["failed"], 2);
}

#[test]
fn webhook_over_tls_is_sent_to_a_trusted_host_only() {
    let (hook, stranger) = (Webhook::reserve(), Webhook::reserve());
    let targets = [&hook, &stranger].map(|hook| {
        let url = hook.url("https", "localhost", "/");
        format!("{{ on = [\"expiring\"], webhook = \"{url}\" }}")
    });
    let daemon = daemon_telling(daemon(), &targets.join(", "));
    let authority = Authority::create(daemon.dir());
    hook.listen(Some(&authority.issue("hook", &["localhost"])), &[]);
    stranger.listen(Some(&authority.issue("stranger", &["elsewhere"])), &[]);
    let trusted = authority.cert().display().to_string();
    daemon.start_with(&[("SSL_CERT_FILE", &trusted)]);
    let tested = daemon.cli(&["notify", "test", "--json"]);
    let results: Value = serde_json::from_str(&tested.stdout).expect("it is JSON");
    assert_eq!(results[0]["error"], Value::Null, "{results}");
    let error = results[1]["error"].as_str().expect("it failed");
    assert!(error.starts_with("no TLS connection: "), "{error}");
    assert_eq!(tested.code, Some(1));
    assert_eq!(hook.wait(1, is_event("test")).len(), 1);
    assert!(stranger.received().is_empty());
}

#[test]
fn command_gets_the_event_and_is_killed_with_its_group_when_it_hangs() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let told = dir.path().join("told");
    let told_text = told.display();
    let good = script(
        dir.path(),
        "good",
        &format!(
            "echo \"$MULTIDB_EVENT $1\" >> {told_text}; cat >> {told_text}; echo >> {told_text}"
        ),
    );
    let pid = dir.path().join("pid");
    let hanging = script(
        dir.path(),
        "hanging",
        &format!("sleep 1000 & echo $! > {}; wait", pid.display()),
    );
    let failing = script(dir.path(), "failing", "echo it is full >&2; exit 3");
    let daemon = daemon_telling(
        daemon(),
        &format!(
            "{{ on = [\"job_done\"], command = [{good:?}, \"-x\"] }}, \
             {{ on = [\"job_done\"], command = [{hanging:?}], timeout = \"1s\" }}, \
             {{ on = [\"job_done\"], command = [{failing:?}] }}"
        ),
    );
    daemon.expect_log(NOT_TAKEN);
    daemon.start();
    let dump = Fixture::of(Disk::Xfs, Path::new(PROGRAM)).dump("tuesday.dump");
    let dump = dump.display().to_string();
    daemon
        .cli(&Daemon::import_args("new", &["--dump", &dump]))
        .ok();
    daemon.wait_log("failed with exit status: 3: it is full");
    daemon.wait_log("took longer than 1s");
    let child = fs::read_to_string(&pid).expect("it has run");
    let child = PathBuf::from("/proc").join(child.trim());
    eventually("its child is killed", TIMEOUT, || {
        let stat = fs::read_to_string(child.join("comm"));
        stat.map_or(true, |name| name.trim() != "sleep")
    });
    eventually("the good one is told", TIMEOUT, || {
        fs::read_to_string(&told).is_ok_and(|text| text.lines().count() >= 2)
    });
    let told = fs::read_to_string(&told).expect("it was told");
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("job_done -x"));
    let message: Value = serde_json::from_str(lines.next().unwrap_or_default()).expect("JSON");
    assert_eq!(message["snapshot"], "new");
    assert_eq!(lines.next(), None, "{told}");
}

#[test]
fn crowd_that_expires_is_told_in_one_message() {
    let hook = Webhook::reserve();
    hook.listen(None, &[]);
    let daemon = daemon_telling(
        short_lives().limit("retention", "12s"),
        &format!(
            "{{ on = [\"expiring\"], webhook = \"{}\" }}",
            hook.url("http", "127.0.0.1", "/")
        ),
    );
    daemon.expect_log(EXPIRED);
    daemon.start();
    for number in 0..12 {
        drop(daemon.connect(&format!("instance:i{number:02},snapshot:monday")));
    }
    let counted = || {
        let all = hook.received();
        let counts = all
            .iter()
            .map(|one| one.json()["count"].as_u64().unwrap_or(0));
        counts.collect::<Vec<u64>>()
    };
    eventually("all are told", TIMEOUT, || {
        counted().iter().sum::<u64>() == 12
    });
    assert!(
        counted().len() <= 6 && counted().iter().any(|count| *count > 3),
        "{:?}",
        counted()
    );
}
