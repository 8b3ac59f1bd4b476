//! A new and a woken instance on an idle daemon, in each program by turns: the time of a start now.

use std::time::Duration;

use crate::environment::Environment;
use crate::report::{Aim, Report, Samples, Unit, milliseconds};
use crate::say;

/// The most by which a start may be slower than before, in milliseconds: the sandbox's part.
const SLOWER_MS_AIM: f64 = 3.0;

#[derive(Default)]
struct Times {
    new: Vec<Duration>,
    wake: Vec<Duration>,
}

/// Measures each program `runs` times.
pub(super) fn measure(both: &[(&'static str, Environment)], runs: usize, report: &mut Report) {
    say("a new and a woken instance, alone");
    let mut times: Vec<Times> = both.iter().map(|_| Times::default()).collect();
    // The first run finds cold caches and does not count.
    for number in 0..=runs {
        let mut turns: Vec<_> = both.iter().zip(&mut times).collect();
        if number % 2 == 1 {
            turns.reverse();
        }
        for ((_, environment), times) in turns {
            let (new, wake) = run(environment, &format!("start{number}"));
            if number > 0 {
                times.new.push(new);
                times.wake.push(wake);
            }
        }
    }
    let Some((_, environment)) = both.last() else {
        return;
    };
    let section = format!("connect to first row, alone ({})", environment.name());
    let ms = Unit::Milliseconds;
    for ((program, _), times) in both.iter().zip(&times) {
        for (what, times) in [("a new", &times.new), ("a stopped", &times.wake)] {
            let samples = Samples::of_times(times.iter().copied());
            report.add(
                &section,
                &format!("{program}: {what} instance"),
                ms,
                samples,
            );
        }
    }
    if let [before, now] = &times[..] {
        let pairs = [
            ("a new", &before.new, &now.new),
            ("a stopped", &before.wake, &now.wake),
        ];
        for (what, before, now) in pairs {
            let slower = now.iter().zip(before);
            let slower = slower.map(|(now, before)| milliseconds(*now) - milliseconds(*before));
            let slower = Samples::new(slower.collect());
            let median = slower.median();
            report.add(&section, &format!("{what} instance, slower by"), ms, slower);
            report.ratio("ms", median, Aim::AtMost(SLOWER_MS_AIM));
        }
    }
}

fn run(environment: &Environment, name: &str) -> (Duration, Duration) {
    let first_row = || {
        environment.settle();
        let (client, elapsed) = environment.first_row(name);
        client.close();
        environment.stop(name);
        elapsed
    };
    let times = (first_row(), first_row());
    environment.remove(name);
    times
}
