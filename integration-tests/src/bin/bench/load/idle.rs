//! An instance whose connections are all taken by idle sessions of a superuser role.

use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::Programs;
use crate::client::Client;
use crate::environment::Environment;
use crate::report::{Aim, Report, Samples, Unit, milliseconds};
use crate::say;

/// `max_connections` of the instance.
const CONNECTIONS: u32 = 100;
/// `session_idle_timeout`, after which all have to end.
const LIMIT: &str = "2s";
/// How long the sessions are watched.
const WATCHED: Duration = Duration::from_secs(12);
const INSTANCE: &str = "full";

/// Fills an instance, and watches whether it frees itself.
pub(super) fn measure(programs: &Programs<'_>, report: &mut Report) {
    say("an instance full of idle sessions");
    let connections = CONNECTIONS.to_string();
    let both = programs.start(|daemon| {
        daemon.limit("session_idle_timeout", LIMIT).set(
            "postgres.settings",
            "max_connections",
            &connections,
        )
    });
    for (program, environment) in &both {
        environment.first_row(INSTANCE).0.close();
        let warnings = warnings_in(&environment.daemon().log());
        let sessions: Vec<Client> = (0..CONNECTIONS)
            .map(|_| environment.first_row(INSTANCE).0)
            .collect();
        let begin = Instant::now();
        let mut left = CONNECTIONS;
        while left > 0 && begin.elapsed() < WATCHED {
            thread::sleep(Duration::from_millis(20));
            left = open_sessions(environment);
        }
        let (elapsed, warnings) = (
            begin.elapsed(),
            warnings_in(&environment.daemon().log()) - warnings,
        );
        drop(sessions);
        let section = format!(
            "{CONNECTIONS} idle sessions at max_connections, {LIMIT} ({})",
            environment.name()
        );
        let mut add = |what: &str, unit, value| {
            let samples = Samples::new(vec![value]);
            report.add(&section, &format!("{program}: {what}"), unit, samples);
        };
        add(
            "until all have ended, or watched",
            Unit::Milliseconds,
            milliseconds(elapsed),
        );
        add("warnings in the log", Unit::Count, f64::from(warnings));
        add("sessions left", Unit::Count, f64::from(left));
        report.ratio("sessions", f64::from(left), Aim::AtMost(0.0));
    }
}

fn open_sessions(environment: &Environment) -> u32 {
    let connections = environment.instance(INSTANCE)["connections"].as_u64();
    let connections = connections.expect("an instance has a count of connections");
    u32::try_from(connections).expect("there are few")
}

fn warnings_in(log: &str) -> u32 {
    let lines = log.lines().filter(|line| line.contains(" WARN ")).count();
    u32::try_from(lines).expect("a log is short")
}
