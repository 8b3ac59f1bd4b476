//! Sessions at work while many instances are created: pgbench directly and through multidb, its transactions before
//! and beside the creations.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{HERD, herd_names};
use crate::environment::{Environment, at_once};
use crate::proxies::{Route, direct_and_multidb};
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;
use crate::throughput::pgbench_command;

const ROUNDS: usize = 3;
const CLIENTS: u32 = 4;
/// How long pgbench runs, and how much of that is over when the creations begin.
const SECONDS: u32 = 20;
const ALONE: Duration = Duration::from_secs(4);
/// The beginning of pgbench, which connects and fills the caches.
const WARM_UP: Duration = Duration::from_secs(1);
const INSTANCE: &str = "worked";

/// The transactions of a part of a round.
struct Part {
    per_second: f64,
    p99_ms: f64,
}

/// One round.
struct Round {
    alone: Part,
    beside: Part,
    /// From the first connection to the last first row.
    herd: Duration,
}

/// Measures both programs and both ways by turns.
pub(super) fn measure(both: &[(&'static str, Environment)], report: &mut Report) {
    say(&format!("pgbench beside {HERD} creations"));
    for (_, environment) in both {
        environment.first_row(INSTANCE).0.close();
    }
    let ways: Vec<_> = both
        .iter()
        .flat_map(|(program, environment)| {
            direct_and_multidb(environment, INSTANCE).map(|route| (*program, environment, route))
        })
        .collect();
    let mut rounds: Vec<Vec<Round>> = ways.iter().map(|_| Vec::new()).collect();
    for number in 0..ROUNDS {
        for ((_, environment, route), rounds) in ways.iter().zip(&mut rounds) {
            rounds.push(round(environment, route, number));
        }
    }
    for ((program, environment, route), rounds) in ways.iter().zip(rounds) {
        tell(program, environment, route.name, &rounds, report);
    }
    for (_, environment) in both {
        environment.stop(INSTANCE);
        environment.remove(INSTANCE);
    }
}

fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is right")
}

fn round(environment: &Environment, route: &Route, number: usize) -> Round {
    environment.settle();
    let logs = environment.dir().join("pgbench-logs");
    fs::create_dir(&logs).expect("a directory can be made");
    let mut command = pgbench_command(route, CLIENTS, SECONDS);
    let prefix = logs.join("log").display().to_string();
    command.args(["--log", "--log-prefix", &prefix]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let started = now();
    let mut pgbench = command.spawn().expect("pgbench can be started");
    thread::sleep(ALONE);
    let (names, access) = (herd_names(number), environment.access());
    let herd_began = now();
    at_once(&names, |name| access.first_row(name).0.close());
    let herd_ended = now();
    let status = pgbench.wait().expect("pgbench can be waited for");
    assert!(status.success(), "pgbench failed: {status}");
    at_once(names.chunks(HERD.div_ceil(8)), |names| {
        for name in names {
            access.stop(name);
            access.remove(name);
        }
    });
    let transactions = read_logs(&logs);
    fs::remove_dir_all(&logs).expect("the logs can be deleted");
    // On a slow machine the creations outlast pgbench.
    let last = transactions.iter().map(|(at, _)| *at).max();
    let last = last.unwrap_or_default().min(herd_ended);
    Round {
        alone: part(&transactions, started + WARM_UP, herd_began),
        beside: part(&transactions, herd_began, last),
        herd: herd_ended.saturating_sub(herd_began),
    }
}

/// The end and the duration in milliseconds of each transaction.
fn read_logs(directory: &Path) -> Vec<(Duration, f64)> {
    let mut transactions = Vec::new();
    for entry in fs::read_dir(directory)
        .expect("the logs can be listed")
        .flatten()
    {
        let text = fs::read_to_string(entry.path()).expect("a log can be read");
        transactions.extend(text.lines().map(|line| {
            // client, transaction, microseconds, script, seconds and microseconds of the end
            let fields = line.split(' ').map(|field| field.parse::<u64>().ok());
            let fields: Vec<_> = fields.map(Option::unwrap_or_default).collect();
            let end = Duration::from_secs(fields[4]) + Duration::from_micros(fields[5]);
            (end, Duration::from_micros(fields[2]).as_secs_f64() * 1e3)
        }));
    }
    transactions
}

fn part(transactions: &[(Duration, f64)], from: Duration, to: Duration) -> Part {
    let within = transactions
        .iter()
        .filter(|(end, _)| (from..to).contains(end));
    let times = Samples::new(within.map(|(_, time)| *time).collect());
    #[expect(clippy::cast_precision_loss, reason = "they are some thousands")]
    let count = times.len() as f64;
    Part {
        per_second: count / (to - from).as_secs_f64(),
        p99_ms: times.p99(),
    }
}

fn tell(
    program: &str,
    environment: &Environment,
    route: &str,
    rounds: &[Round],
    report: &mut Report,
) {
    let section = format!(
        "pgbench -S, clients: {CLIENTS}, beside {HERD} creations ({})",
        environment.name()
    );
    let mut add = |what: &str, unit, value: &dyn Fn(&Round) -> f64| {
        let samples = Samples::new(rounds.iter().map(value).collect());
        let label = format!("{program}, {route}: {what}");
        report.add(&section, &label, unit, samples);
    };
    let (rate, ms) = (Unit::TransactionsPerSecond, Unit::Milliseconds);
    add("rate alone", rate, &|round| round.alone.per_second);
    add("p99 alone", ms, &|round| round.alone.p99_ms);
    add("p99 beside", ms, &|round| round.beside.p99_ms);
    add("the creations", ms, &|round| round.herd.as_secs_f64() * 1e3);
    add("rate beside", rate, &|round| round.beside.per_second);
    let ratios = rounds
        .iter()
        .map(|round| round.beside.per_second / round.alone.per_second);
    let ratio = Samples::new(ratios.collect()).median();
    report.ratio("of alone", ratio, Aim::None);
}
