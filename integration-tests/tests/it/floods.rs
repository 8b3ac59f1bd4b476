//! Floods of connections.

use std::time::Duration;

use multidb_integration_tests::{
    Daemon, RawClient, SimulatedBackends, eventually, raise_file_limit,
};

use crate::daemon;

/// The most descriptors that a process has open beside its sessions.
const OTHER_FILES: usize = 200;

/// The log line about evicted clients.
const FLOODED: &str = "too many unauthenticated connections";

/// The daemon's memory that belongs to no file, in KiB.
///
/// The pages of its program count as private as soon as no other daemon runs that program, so that private memory grows
/// when another test ends.
fn anonymous_kib(daemon: &Daemon) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", daemon.pid()))
        .expect("the daemon's memory can be read");
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|value| value.trim().split(' ').next()?.parse().ok());
    kib.expect("the kernel counts it")
}

fn connections(daemon: &Daemon) -> u64 {
    daemon.json(&["status"])["connections"]
        .as_u64()
        .expect("a number")
}

#[test]
fn flood_of_unauthenticated_connections_locks_out_no_client() {
    raise_file_limit();
    let daemon = daemon()
        .set_raw("limits", "max_connections", "20")
        .set_raw("limits", "max_unauthenticated", "200")
        // The login timeout is longer than the test, so only eviction closes them.
        .limit("login_timeout", "10m")
        .start();
    daemon.expect_log(FLOODED);
    let session = daemon.connect("instance:a,gitref:main");
    let before = anonymous_kib(&daemon);
    // A packet of the maximum length without its end, or less.
    let begun = [&[0, 0, 0x27, 0x14, 0, 3, 0, 0][..], &[b'x'; 9_000]].concat();
    let mut flood = Vec::new();
    for number in 0..2_000 {
        let mut client = daemon.raw();
        client.send(&begun[..[0, 3, 8, begun.len()][number % 4]]);
        flood.push(client);
        if number % 200 == 199 {
            session.one("select 1");
            daemon.connect("instance:a").one("select 1");
        }
    }
    let grown = anonymous_kib(&daemon).saturating_sub(before);
    assert!(grown < 20 * 1024, "{grown} KiB for 200 clients");
    let mut first = flood.swap_remove(0);
    let word = String::from_utf8_lossy(&first.read_to_end()).into_owned();
    assert!(word.contains("C53300"), "{word}");
    daemon.wait_log(FLOODED);
    drop(flood);
    session.one("select 1");
    eventually("only the session is left", Duration::from_secs(30), || {
        connections(&daemon) == 1
    });
}

#[test]
#[expect(clippy::print_stdout, reason = "a figure of the test's report")]
fn ten_thousand_sessions_are_open_at_once() {
    // A session has two sockets in the daemon and two in this process, so both need the same limit.
    // Where the limit of open files is lower, as many sessions as the daemon can have.
    let sessions = (raise_file_limit().saturating_sub(OTHER_FILES) / 2).min(10_000);
    assert!(
        sessions >= 9_900,
        "ulimit -Hn is too low for this test: {sessions} sessions"
    );
    let daemon = daemon()
        .set_raw("limits", "max_connections", "10001")
        .set_raw("limits", "max_unauthenticated", "100")
        .start();
    daemon.expect_log("the limit of open files is too low");
    let session = daemon.connect("instance:a,gitref:main");
    let uid = std::fs::read_dir(daemon.root().join("run"))
        .expect("the directory of sockets can be read")
        .flatten()
        .map(|entry| entry.path().join(".s.PGSQL.5432"))
        .find(|socket| socket.exists());
    let _backends = SimulatedBackends::in_place_of(&uid.expect("the instance has a socket"));
    let before = anonymous_kib(&daemon);
    let mut crowd: Vec<RawClient> = (0..sessions)
        .map(|_| daemon.raw_session("instance:a"))
        .collect();
    assert_eq!(connections(&daemon), sessions as u64 + 1);
    for client in crowd.iter_mut().step_by(97) {
        client.send(b"Q\0\0\0\x05\0");
        client.read_until('Z');
    }
    session.one("select 1");
    let each = anonymous_kib(&daemon).saturating_sub(before) / sessions as u64;
    println!("{sessions} sessions, {each} KiB of the daemon's memory for each");
    assert!(each < 40, "{each} KiB for each of {sessions} sessions");
    drop(crowd);
    session.one("select 1");
    // Before the simulated backends go: the daemon would ask them about a session that is open.
    drop(session);
    eventually("nobody is left", Duration::from_secs(60), || {
        connections(&daemon) == 0
    });
}
