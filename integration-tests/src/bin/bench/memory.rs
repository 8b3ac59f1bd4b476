//! The daemon's memory for an open, idle session.

use std::fs;
use std::time::Duration;

use multidb_integration_tests::{SimulatedBackends, raise_file_limit};

use crate::client::{Client, Login};
use crate::environment::Environment;
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;

/// Two instances share them, since one Postgres takes 150.
const SESSIONS: u32 = 200;

/// As many, or as many as this machine lets a process open.
const CONCURRENT: u32 = 10_000;

/// The files that a process has open besides its sessions.
const OTHER_FILES: usize = 300;

/// The most memory that a session may take, in KiB.
const SESSION_KIB_AIM: f64 = 16.0;

/// The COPY of each session before the last round: enough for the largest buffers.
const BUSY_SQL: &str = "copy (select repeat('x', 1000) from generate_series(1, 4000)) to stdout";

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    resident: u32,
    /// The memory that no other process shares.
    private: u32,
}

/// Measures in a daemon that was just started.
pub(crate) fn measure(environment: &Environment, report: &mut Report) {
    say("memory of the daemon");
    environment.daemon().restart();
    for name in instances() {
        environment.first_row(&name).0.close();
    }
    let section = format!("memory of the daemon ({})", environment.name());
    let empty = rest(environment);
    add(report, &section, "no session", empty);
    let open = sessions(environment, None);
    let full = rest(environment);
    add(report, &section, &format!("{SESSIONS} idle sessions"), full);
    each(
        report,
        &section,
        "each idle session",
        (empty, full),
        SESSIONS,
    );
    drop_all(open);
    let again = rest(environment);
    add(report, &section, "none again", again);
    let open = sessions(environment, Some(BUSY_SQL));
    let busy = rest(environment);
    each(
        report,
        &section,
        "each, after a COPY of 4 MB in it",
        (empty, busy),
        SESSIONS,
    );
    drop_all(open);
    concurrent(environment, &section, report);
    for name in instances() {
        environment.stop(&name);
        environment.remove(&name);
    }
}

/// Many more sessions, on backends that cost nothing.
fn concurrent(environment: &Environment, section: &str, report: &mut Report) {
    // A session has two sockets in the daemon, and two in this process.
    let most = (raise_file_limit() - OTHER_FILES) / 2;
    let sessions = u32::try_from(most).map_or(CONCURRENT, |most| most.min(CONCURRENT));
    let [name, _] = instances();
    environment.daemon().restart();
    environment.first_row(&name).0.close();
    let backends =
        SimulatedBackends::in_place_of(&environment.run_dir(&name).join(".s.PGSQL.5432"));
    let empty = rest(environment);
    let login = Login::trusted(format!("instance:{name}"));
    let open: Vec<Client> = (0..sessions)
        .map(|_| {
            Client::connect(&environment.endpoint(), &login).expect("there is room for a session")
        })
        .collect();
    let full = rest(environment);
    add(report, section, &format!("{sessions} idle sessions"), full);
    let what = format!("each of {sessions}");
    each(report, section, &what, (empty, full), sessions);
    drop_all(open);
    environment.daemon().restart();
    drop(backends);
}

fn instances() -> [String; 2] {
    ["memory0".to_owned(), "memory1".to_owned()]
}

/// Opens the sessions, each with its first query done.
fn sessions(environment: &Environment, sql: Option<&str>) -> Vec<Client> {
    let names = instances();
    (0..SESSIONS as usize)
        .map(|number| {
            let (mut client, _) = environment.first_row(&names[number % names.len()]);
            if let Some(sql) = sql {
                client.copy_out(sql).expect("a session can copy");
            }
            client
        })
        .collect()
}

fn drop_all(clients: Vec<Client>) {
    for client in clients {
        client.close();
    }
}

/// The resident memory of the daemon, in KiB, when it does nothing.
pub(crate) fn resident_kib(environment: &Environment) -> u32 {
    rest(environment).resident
}

/// Reads the memory after a delay in which the daemon finishes its work.
fn rest(environment: &Environment) -> Memory {
    std::thread::sleep(Duration::from_secs(2));
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", environment.daemon().pid()))
        .expect("the daemon's memory can be read");
    let sum = |names: &[&str]| {
        let of = |line: &str| {
            let (name, value) = line.split_once(':')?;
            let kib: u32 = value.trim().split(' ').next()?.parse().ok()?;
            names.contains(&name).then_some(kib)
        };
        text.lines().filter_map(of).sum()
    };
    Memory {
        resident: sum(&["Rss"]),
        private: sum(&["Private_Clean", "Private_Dirty"]),
    }
}

fn add(report: &mut Report, section: &str, what: &str, memory: Memory) {
    let mib = |kib: u32| Samples::new(vec![f64::from(kib) / 1024.0]);
    let name = |kind: &str| format!("{what}, {kind}");
    report.add(section, &name("resident"), Unit::MiB, mib(memory.resident));
    report.add(section, &name("private"), Unit::MiB, mib(memory.private));
}

fn each(
    report: &mut Report,
    section: &str,
    what: &str,
    (before, after): (Memory, Memory),
    sessions: u32,
) {
    let per =
        |before: u32, after: u32| (f64::from(after) - f64::from(before)) / f64::from(sessions);
    let private = per(before.private, after.private);
    let resident = per(before.resident, after.resident);
    report.add(
        section,
        &format!("{what}, resident"),
        Unit::KiB,
        Samples::new(vec![resident]),
    );
    report.add(
        section,
        &format!("{what}, private"),
        Unit::KiB,
        Samples::new(vec![private]),
    );
    report.ratio("KiB", private, Aim::AtMost(SESSION_KIB_AIM));
}
