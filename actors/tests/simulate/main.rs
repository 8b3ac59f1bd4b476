//! A deterministic simulation of the daemon: all five actors on paused time in one thread, over a world in which
//! everything fails, with clients and administrators outside that remember their answers.
//!
//! One seed decides everything, so each run of a seed has the same trace. See [`entropy`] for how, [`oracle`] for the
//! promises, and [`settings`] for the faults. `scripts/simulate.sh` runs seeds.

#![expect(
    clippy::print_stdout,
    reason = "the report of a simulation is for people"
)]
#![expect(unreachable_pub, reason = "nothing of a test's binary is reachable")]

mod administrator;
mod client;
mod counts;
mod daemon;
mod disk;
mod driver;
mod entropy;
mod oracle;
mod ports;
mod records;
mod recovery;
mod renames;
mod runtime;
mod servers;
mod settings;
mod trace;
mod world;

use std::time::{Duration, SystemTime};

use crate::driver::{Report, simulate};

/// Seeds that once broke an invariant, one a line, with their finding.
const KEPT: &str = include_str!("seeds.txt");

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// Fails with the trace's tail where the seed breaks an invariant.
fn run(seed: u64) -> Report {
    let report = simulate(seed);
    if let Some(failure) = &report.failure {
        let lines = number("MULTIDB_SIMULATE_LINES").unwrap_or(200) as usize;
        let first = report.tail.len().saturating_sub(lines);
        for line in &report.tail[first..] {
            println!("{line}");
        }
        panic!(
            "seed {seed}, after {:?} of simulated time: {failure}\nagain: scripts/simulate.sh --seed {seed}",
            report.simulated
        );
    }
    report
}

#[test]
fn a_seed_has_one_trace() {
    for seed in [1, 2, 3] {
        let (first, second) = (simulate(seed), simulate(seed));
        let differs = first.tail.iter().zip(&second.tail).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(
            (first.hash, first.events),
            (second.hash, second.events),
            "seed {seed}"
        );
    }
    assert_ne!(simulate(1).hash, simulate(2).hash);
}

#[test]
fn kept_seeds_keep_the_invariants() {
    let seeds = KEPT.lines().filter_map(|line| line.split(' ').next());
    for seed in seeds.filter(|seed| !seed.starts_with('#') && !seed.is_empty()) {
        run(seed.parse().expect("a line begins with a seed"));
    }
}

/// `MULTIDB_SIMULATE_SEED`, `MULTIDB_SIMULATE_SEEDS` and `MULTIDB_SIMULATE_STEP` choose the seeds,
/// `MULTIDB_SIMULATE_SECONDS` bounds the time.
#[test]
fn seeds_keep_the_invariants() {
    let first = number("MULTIDB_SIMULATE_SEED").unwrap_or(1);
    let count = number("MULTIDB_SIMULATE_SEEDS").unwrap_or(20);
    let step = number("MULTIDB_SIMULATE_STEP").unwrap_or(1).max(1);
    let limit = number("MULTIDB_SIMULATE_SECONDS").map(Duration::from_secs);
    let began = SystemTime::now();
    let elapsed = || began.elapsed().unwrap_or_default();
    let (mut seeds, mut events, mut simulated) = (0, 0, Duration::ZERO);
    for seed in (first..).step_by(step as usize).take(count as usize) {
        if limit.is_some_and(|limit| elapsed() >= limit) {
            break;
        }
        let report = run(seed);
        seeds += 1;
        events += report.events;
        simulated += report.simulated;
        if count == 1 {
            println!("{}", report.counts);
        }
    }
    println!(
        "{seeds} seeds from {first}, {events} events, {:.1} simulated days, in {:.1} s",
        simulated.as_secs_f64() / 86_400.0,
        elapsed().as_secs_f64()
    );
}
