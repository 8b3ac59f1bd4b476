//! Many new instances at once, against one.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::bed::Bed;
use crate::client::{Client, Login};
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;

/// As many as a small team wakes on a Monday.
const CROWD: usize = 15;

/// Measures enough rounds to have as many samples as runs.
pub(crate) fn measure(bed: &Bed, runs: usize, report: &mut Report) {
    say(&format!("{CROWD} new instances at once ({})", bed.name()));
    let rounds = runs.div_ceil(CROWD).max(3);
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for number in 0..5 {
            let name = format!("alone{round}-{number}");
            bed.settle();
            let (client, elapsed) = bed.first_row(&name);
            client.close();
            alone.push(elapsed);
            bed.stop(&name);
            bed.remove(&name);
        }
        bed.settle();
        together.extend(at_once(bed, round));
    }
    let (alone, together) = (Samples::of_times(alone), Samples::of_times(together));
    let section = format!("{CROWD} new instances at once ({})", bed.name());
    let ratio = together.p95() / alone.median();
    report.add(&section, "one alone", Unit::Milliseconds, alone);
    report.add(&section, "each of them", Unit::Milliseconds, together);
    report.ratio("p95 of one's median", ratio, Aim::AtMost(15.0));
}

fn at_once(bed: &Bed, round: usize) -> Vec<Duration> {
    let names: Vec<String> = (0..CROWD).map(|n| format!("crowd{round}-{n}")).collect();
    let barrier = Barrier::new(CROWD);
    let endpoint = bed.endpoint();
    let times = thread::scope(|scope| {
        let started: Vec<_> = names
            .iter()
            .map(|name| {
                let (barrier, endpoint) = (&barrier, &endpoint);
                scope.spawn(move || {
                    barrier.wait();
                    let (client, elapsed) =
                        Client::first_row(endpoint, &Login::trusted(Bed::user(name)))
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
        bed.stop(name);
        bed.remove(name);
    }
    times
}
