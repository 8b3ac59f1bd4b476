//! Many new instances at once, against one.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::client::{Client, Login};
use crate::environment::Environment;
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;

/// As many as a small team wakes on a Monday.
const CONCURRENT: usize = 15;

/// Measures enough rounds to have as many samples as runs.
pub(crate) fn measure(environment: &Environment, runs: usize, report: &mut Report) {
    say(&format!(
        "{CONCURRENT} new instances at once ({})",
        environment.name()
    ));
    let rounds = runs.div_ceil(CONCURRENT).max(3);
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for number in 0..5 {
            let name = format!("alone{round}-{number}");
            environment.settle();
            let (client, elapsed) = environment.first_row(&name);
            client.close();
            alone.push(elapsed);
            environment.stop(&name);
            environment.remove(&name);
        }
        environment.settle();
        together.extend(at_once(environment, round));
    }
    let (alone, together) = (Samples::of_times(alone), Samples::of_times(together));
    let section = format!(
        "{CONCURRENT} new instances at once ({})",
        environment.name()
    );
    let ratio = together.p95() / alone.median();
    report.add(&section, "one alone", Unit::Milliseconds, alone);
    report.add(&section, "each of them", Unit::Milliseconds, together);
    report.ratio("p95 of one's median", ratio, Aim::AtMost(15.0));
}

fn at_once(environment: &Environment, round: usize) -> Vec<Duration> {
    let names: Vec<String> = (0..CONCURRENT)
        .map(|n| format!("concurrent{round}-{n}"))
        .collect();
    let barrier = Barrier::new(CONCURRENT);
    let endpoint = environment.endpoint();
    let times = thread::scope(|scope| {
        let started: Vec<_> = names
            .iter()
            .map(|name| {
                let (barrier, endpoint) = (&barrier, &endpoint);
                scope.spawn(move || {
                    barrier.wait();
                    let (client, elapsed) =
                        Client::first_row(endpoint, &Login::trusted(Environment::user(name)))
                            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
                    client.close();
                    elapsed
                })
            })
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().expect("each client gets its row"))
            .collect()
    });
    for name in &names {
        environment.stop(name);
        environment.remove(name);
    }
    times
}
