//! Commands while many instances are created, and a new instance while many are deleted.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::{HERD, herd_names};
use crate::environment::{Environment, at_once};
use crate::report::{Aim, Report, Samples, Unit, milliseconds};
use crate::say;

const ROUNDS: usize = 3;
/// The commands to an idle daemon, in each round.
const ALONE: usize = 20;
/// The longest that a record should take beside the creations, in milliseconds.
const RECORD_MS_AIM: f64 = 20.0;
/// The stopped instance that is pinned and shown.
const SUBJECT: &str = "subject";

#[derive(Default)]
struct Times {
    pin_alone: Vec<Duration>,
    pin: Vec<Duration>,
    show: Vec<Duration>,
    creation_alone: Vec<Duration>,
    creation: Vec<Duration>,
}

/// Measures both programs by turns.
pub(super) fn measure(both: &[(&'static str, Environment)], report: &mut Report) {
    say(&format!("commands beside {HERD} creations"));
    let mut times: Vec<Times> = both.iter().map(|_| Times::default()).collect();
    for (_, environment) in both {
        environment.first_row(SUBJECT).0.close();
        environment.stop(SUBJECT);
    }
    for round in 0..ROUNDS {
        for ((_, environment), times) in both.iter().zip(&mut times) {
            beside_creations(environment, round, times);
            beside_deletions(environment, round, times);
        }
    }
    for ((program, environment), times) in both.iter().zip(times) {
        environment.remove(SUBJECT);
        tell(program, environment, times, report);
    }
}

fn show(environment: &Environment) -> Duration {
    let begin = Instant::now();
    environment.instance(SUBJECT);
    begin.elapsed()
}

/// Pins and shows the subject until all creations have ended.
fn beside_creations(environment: &Environment, round: usize, times: &mut Times) {
    environment.settle();
    for _ in 0..ALONE {
        times.pin_alone.push(environment.access().pin(SUBJECT));
    }
    let (names, access) = (herd_names(round), environment.access());
    let (begin, created) = (Barrier::new(HERD + 1), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            at_once(&names, |name| {
                begin.wait();
                access.first_row(name).0.close();
                created.fetch_add(1, Ordering::Relaxed);
            });
        });
        begin.wait();
        while created.load(Ordering::Relaxed) < HERD {
            times.pin.push(environment.access().pin(SUBJECT));
            times.show.push(show(environment));
        }
    });
    at_once(names.chunks(HERD.div_ceil(8)), |names| {
        for name in names {
            access.stop(name);
        }
    });
}

/// Makes an instance while the instances of the round are deleted.
fn beside_deletions(environment: &Environment, round: usize, times: &mut Times) {
    let alone = format!("alone{round}");
    environment.settle();
    let (client, elapsed) = environment.first_row(&alone);
    client.close();
    times.creation_alone.push(elapsed);
    environment.remove(&alone);
    let (names, new) = (herd_names(round), format!("new{round}"));
    let (begin, access) = (Barrier::new(HERD + 1), environment.access());
    thread::scope(|scope| {
        scope.spawn(|| {
            at_once(&names, |name| {
                begin.wait();
                access.remove(name);
            });
        });
        begin.wait();
        let (client, elapsed) = environment.first_row(&new);
        client.close();
        times.creation.push(elapsed);
    });
    environment.remove(&new);
}

fn tell(program: &str, environment: &Environment, times: Times, report: &mut Report) {
    let ms = Unit::Milliseconds;
    let section = format!("commands beside {HERD} creations ({})", environment.name());
    let mut add = |what: &str, times: Vec<Duration>| {
        let samples = Samples::of_times(times);
        let p95 = samples.p95();
        report.add(&section, &format!("{program}: {what}"), ms, samples);
        p95
    };
    add("pin, alone", times.pin_alone);
    let pin = add("pin", times.pin);
    report.ratio("ms at p95", pin, Aim::AtMost(RECORD_MS_AIM));
    let mut add = |what: &str, times: Vec<Duration>| {
        let samples = Samples::of_times(times);
        report.add(&section, &format!("{program}: {what}"), ms, samples);
    };
    add("show", times.show);
    let alone = times.creation_alone.iter().copied().map(milliseconds);
    let alone = Samples::new(alone.collect()).median();
    add("new instance, alone", times.creation_alone);
    let beside = Samples::of_times(times.creation.iter().copied()).median();
    add(&format!("new instance beside {HERD} rm"), times.creation);
    report.ratio("of alone", beside / alone, Aim::None);
}
