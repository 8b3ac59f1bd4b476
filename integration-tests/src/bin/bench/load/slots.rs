//! Logins to as many instances as there are slots, and to one more.

use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::Programs;
use crate::client::{Client, Login};
use crate::environment::{Environment, at_once};
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;

/// `max_running`.
const SLOTS: usize = 5;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(5);

/// The logins of one round.
struct Logins {
    per_second: f64,
    /// From the connection to the first row.
    longest: Duration,
}

/// Measures each number of instances in turn.
pub(super) fn measure(programs: &Programs<'_>, report: &mut Report) {
    say("logins past max_running");
    let slots = SLOTS.to_string();
    let both = programs.start(|daemon| daemon.set_raw("limits", "max_running", &slots));
    for (program, environment) in &both {
        let names: Vec<String> = (0..=SLOTS).map(|number| format!("slot{number}")).collect();
        for name in &names {
            environment.first_row(name).0.close();
        }
        let (mut fitting, mut one_more) = (Vec::new(), Vec::new());
        let (mut longest_fitting, mut longest) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let logins = log_in(environment, &names[..SLOTS]);
            fitting.push(logins.per_second);
            longest_fitting.push(logins.longest);
            let logins = log_in(environment, &names);
            one_more.push(logins.per_second);
            longest.push(logins.longest);
        }
        let section = format!(
            "{SLOTS} slots, a client for each instance ({})",
            environment.name()
        );
        let mut add = |what: String, unit, samples| {
            report.add(&section, &format!("{program}: {what}"), unit, samples);
        };
        let (fitting, one_more) = (Samples::new(fitting), Samples::new(one_more));
        let ratio = one_more.median() / fitting.median();
        let per_second = Unit::HandshakesPerSecond;
        add(format!("logins to {SLOTS} instances"), per_second, fitting);
        let samples = Samples::of_times(longest_fitting);
        add("their longest".to_owned(), Unit::Milliseconds, samples);
        let samples = Samples::of_times(longest);
        add(
            format!("longest login to {} instances", SLOTS + 1),
            Unit::Milliseconds,
            samples,
        );
        add(
            format!("logins to {} instances", SLOTS + 1),
            per_second,
            one_more,
        );
        report.ratio(&format!("of those to {SLOTS}"), ratio, Aim::AtLeast(0.6));
    }
}

/// A client for each instance logs in, reads a row and leaves, again and again.
fn log_in(environment: &Environment, names: &[String]) -> Logins {
    // The instances of the last round still run.
    thread::sleep(Duration::from_secs(1));
    let (endpoint, begin) = (environment.endpoint(), Instant::now());
    let counts = at_once(names, |name| {
        let login = Login::trusted(format!("instance:{name}"));
        let (mut count, mut longest) = (0_u32, Duration::ZERO);
        while begin.elapsed() < ROUND {
            let (client, elapsed) = Client::first_row(&endpoint, &login)
                .unwrap_or_else(|failure| panic!("{name}: {failure}"));
            client.close();
            count += 1;
            longest = longest.max(elapsed);
        }
        (count, longest)
    });
    let elapsed = begin.elapsed().as_secs_f64();
    let count: u32 = counts.iter().map(|(count, _)| count).sum();
    let longest = counts.iter().map(|(_, longest)| *longest).max();
    Logins {
        per_second: f64::from(count) / elapsed,
        longest: longest.unwrap_or_default(),
    }
}
