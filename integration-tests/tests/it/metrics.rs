//! Events are counted, and `/metrics` on the admin socket has the counts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Fixture};

use crate::authenticating::{refused, with_alice};
use crate::daemon;

/// Of Debian's prometheus; scripts/lib/packages.sh puts it there.
const PROMTOOL: &str = "/usr/local/share/multidb-tests/promtool/promtool";
/// The limit for every wait, on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The answer to a scrape: its head, and its body.
fn scrape(daemon: &Daemon, accept: &str) -> (String, String) {
    let mut stream = UnixStream::connect(daemon.admin_socket()).expect("the daemon listens");
    let request = format!(
        "GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it has a head");
    assert!(head.contains(" 200 "), "{answer}");
    (head.to_owned(), body.to_owned())
}

/// The series and their values.
pub(crate) fn metrics(daemon: &Daemon) -> BTreeMap<String, f64> {
    let (_, body) = scrape(daemon, "*/*");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let series = lines.filter_map(|line| line.rsplit_once(' '));
    series
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a value is a number")))
        .collect()
}

#[track_caller]
fn value(metrics: &BTreeMap<String, f64>, series: &str) -> f64 {
    *metrics
        .get(series)
        .unwrap_or_else(|| panic!("{series} is missing: {metrics:#?}"))
}

#[test]
fn what_happens_is_counted() {
    let daemon = daemon()
        .limit("session_idle_timeout", "2s")
        .limit("instance_idle_timeout", "1s")
        .start();
    let before = metrics(&daemon);
    assert_eq!(
        value(&before, "multidb_connections_total{outcome=\"session\"}"),
        0.0
    );
    // A creation, with bytes each way, which ends for idleness.
    let created = daemon.connect("instance:counted,gitref:main,user:somebody");
    created
        .query("select repeat('x', 100000)")
        .expect("it answers");
    created.wait_end(WAIT_TIMEOUT);
    // A wake.
    daemon.wait_state("counted", "stopped");
    drop(daemon.connect("instance:counted"));
    // A refusal.
    daemon.refused("instance:absent");
    daemon.wait_state("counted", "stopped");
    for (series, least) in [
        ("multidb_connections_total{outcome=\"session\"}", 2.0),
        ("multidb_connections_total{outcome=\"refused\"}", 1.0),
        ("multidb_refusals_total{reason=\"no_such_instance\"}", 1.0),
        ("multidb_logins_total{outcome=\"succeeded\"}", 3.0),
        ("multidb_session_ends_total{cause=\"idle_session\"}", 1.0),
        ("multidb_session_ends_total{cause=\"closed\"}", 1.0),
        (
            "multidb_session_bytes_total{direction=\"to_clients\"}",
            100_000.0,
        ),
        (
            "multidb_session_bytes_total{direction=\"from_clients\"}",
            30.0,
        ),
        ("multidb_login_seconds_count{path=\"created\"}", 1.0),
        ("multidb_login_seconds_count{path=\"woken\"}", 1.0),
        ("multidb_login_phase_seconds_count{phase=\"choose\"}", 1.0),
        ("multidb_login_phase_seconds_count{phase=\"clone\"}", 1.0),
        ("multidb_login_phase_seconds_count{phase=\"start\"}", 2.0),
        ("multidb_login_phase_seconds_sum{phase=\"start\"}", 0.001),
        ("multidb_instance_clones_total{outcome=\"done\"}", 1.0),
        (
            "multidb_instance_starts_total{kind=\"create\",outcome=\"done\"}",
            1.0,
        ),
        (
            "multidb_instance_starts_total{kind=\"wake\",outcome=\"done\"}",
            1.0,
        ),
        ("multidb_instance_stops_total{cause=\"idle\"}", 2.0),
        ("multidb_instances{state=\"stopped\"}", 1.0),
        ("multidb_records_written_total{outcome=\"done\"}", 2.0),
        ("multidb_disk_free_bytes", 1.0),
        ("process_resident_memory_bytes", 1e6),
    ] {
        let now = metrics(&daemon);
        assert!(value(&now, series) >= least, "{series}: {now:#?}");
    }
    let now = metrics(&daemon);
    for (series, exactly) in [
        ("multidb_instances{state=\"running\"}", 0.0),
        ("multidb_sessions", 0.0),
        ("multidb_waiting_work{kind=\"clones\"}", 0.0),
        ("multidb_panics_total", 0.0),
        ("multidb_disk_fault", 0.0),
    ] {
        assert_eq!(value(&now, series), exactly, "{series}");
    }
    let text = scrape(&daemon, "*/*").1;
    for name in ["counted", "somebody", "main", "monday"] {
        assert!(!text.contains(&format!("\"{name}\"")), "{name}: {text}");
    }
    let line = daemon.log();
    let line = line.lines().find(|line| line.contains("session ended"));
    let line = line.expect("the end of a session is logged");
    for part in [
        "end=\"idle_session\"",
        "somebody",
        "counted",
        "clone_ms",
        "to_client_bytes",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// Runs Prometheus' own check, which must find nothing.
fn promtool(args: &[&str], input: Option<&str>) {
    let mut command = Command::new(PROMTOOL);
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{PROMTOOL}: {error}; scripts/test.sh installs it");
    });
    let mut stdin = child.stdin.take().expect("it has an input");
    stdin
        .write_all(input.unwrap_or_default().as_bytes())
        .expect("it reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let told = [output.stderr, output.stdout].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{args:?}: {told}");
    if input.is_some() {
        assert_eq!(told, "", "{args:?}");
    }
}

#[test]
fn prometheus_finds_no_fault_in_metrics_and_alerts() {
    promtool(&["check", "rules", "packaging/prometheus/alerts.yml"], None);
    let tests = "packaging/prometheus/alerts_test.yml";
    promtool(&["test", "rules", tests], None);
    let daemon = daemon().start();
    promtool(&["check", "metrics"], Some(&scrape(&daemon, "*/*").1));
}

#[test]
fn open_metrics_are_for_those_who_ask_for_them() {
    let daemon = daemon().start();
    let (head, body) = scrape(&daemon, "application/openmetrics-text; version=1.0.0");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let (head, body) = scrape(&daemon, "text/plain");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(!body.contains("# EOF"), "{body}");
}

#[test]
fn failed_logins_and_jobs_are_counted() {
    let daemon = with_alice(&["--role", "postgres"]);
    refused(&daemon, "instance:a,gitref:main,user:alice", "wrong");
    let fixture = Fixture::of(Disk::Xfs, Path::new(crate::PROGRAM));
    let dump = fixture.dump("tuesday.sql").display().to_string();
    daemon
        .cli(&Daemon::import_args("counted", &["--dump", &dump]))
        .ok();
    let now = metrics(&daemon);
    for (series, exactly) in [
        ("multidb_logins_total{outcome=\"failed\"}", 1.0),
        ("multidb_logins_total{outcome=\"succeeded\"}", 0.0),
        ("multidb_refusals_total{reason=\"wrong_password\"}", 1.0),
        ("multidb_jobs_total{kind=\"import\",outcome=\"done\"}", 1.0),
        (
            "multidb_jobs_total{kind=\"import\",outcome=\"failed\"}",
            0.0,
        ),
        ("multidb_login_seconds_count{path=\"created\"}", 0.0),
    ] {
        assert_eq!(value(&now, series), exactly, "{series}: {now:#?}");
    }
}
