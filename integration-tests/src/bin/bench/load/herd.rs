//! Sessions at work while many instances are created: pgbench directly and through multidb, its transactions before
//! and beside the creations.

use std::thread;
use std::time::Duration;

use super::{HERD, herd_names};
use crate::environment::{Environment, at_once};
use crate::proxies::{Route, direct_and_multidb};
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;
use crate::throughput::pgbench_command;
use crate::transactions::{Part, Pgbench, now};

const ROUNDS: usize = 3;
const CLIENTS: u32 = 4;
/// How long pgbench runs, and how much of that is over when the creations begin.
const SECONDS: u32 = 20;
const ALONE: Duration = Duration::from_secs(4);
/// The beginning of pgbench, which connects and fills the caches.
const WARM_UP: Duration = Duration::from_secs(1);
const INSTANCE: &str = "worked";

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

fn round(environment: &Environment, route: &Route, number: usize) -> Round {
    environment.settle();
    let command = pgbench_command(route, "select-only", CLIENTS, SECONDS);
    let started = now();
    let pgbench = Pgbench::start(command, environment.dir());
    thread::sleep(ALONE);
    let (names, access) = (herd_names(number), environment.access());
    let herd_began = now();
    at_once(&names, |name| access.first_row(name).0.close());
    let herd_ended = now();
    let transactions = pgbench.wait();
    at_once(names.chunks(HERD.div_ceil(8)), |names| {
        for name in names {
            access.stop(name);
            access.remove(name);
        }
    });
    // On a slow machine the creations outlast pgbench.
    let last = transactions.end().min(herd_ended);
    Round {
        alone: transactions.part(started + WARM_UP, herd_began),
        beside: transactions.part(herd_began, last),
        herd: herd_ended.saturating_sub(herd_began),
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
