//! Instances made from an instance that runs.

use std::thread;
use std::time::Duration;

use crate::client::{Client, Login};
use crate::environment::Environment;
use crate::proxies::direct_and_multidb;
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;
use crate::throughput::pgbench_command;
use crate::transactions::{Pgbench, now};

const PARENT: &str = "parent";
/// The instances made from it, while it is idle and while it works.
const CHILDREN: usize = 5;
const CLIENTS: u32 = 4;
/// How long pgbench runs, how much of that is over when the first instance is made, and the pause after each.
const SECONDS: u32 = 30;
const ALONE: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_secs(1);
/// The beginning of pgbench, which connects and fills the caches.
const WARM_UP: Duration = Duration::from_secs(1);
/// The most milliseconds to the first row.
const FIRST_ROW_MS_AIM: f64 = 1000.0;

/// Measures an idle and a busy parent.
pub(super) fn measure(environment: &Environment, report: &mut Report) {
    let section = format!("an instance from an instance ({})", environment.name());
    say("instances from an instance");
    environment.first_row(PARENT).0.close();
    let idle = children(environment, "idle");
    environment.settle();
    let [_, route] = direct_and_multidb(environment, PARENT);
    let command = pgbench_command(&route, "tpcb-like", CLIENTS, SECONDS);
    let started = now();
    let pgbench = Pgbench::start(command, environment.dir());
    thread::sleep(ALONE);
    let began = now();
    let busy = children(environment, "busy");
    let ended = now();
    let transactions = pgbench.wait();
    let ended = ended.min(transactions.end());
    let (alone, beside) = (
        transactions.part(started + WARM_UP, began),
        transactions.part(began, ended),
    );
    environment.stop(PARENT);
    environment.remove(PARENT);
    let ms = Unit::Milliseconds;
    for (what, times) in [
        ("first row, from an idle one", idle),
        ("first row, from one with pgbench", busy),
    ] {
        let samples = Samples::of_times(times);
        let median = samples.median();
        report.add(&section, what, ms, samples);
        report.ratio("ms", median, Aim::AtMost(FIRST_ROW_MS_AIM));
    }
    let one = |value| Samples::new(vec![value]);
    let rate = Unit::TransactionsPerSecond;
    report.add(&section, "its pgbench, alone", rate, one(alone.per_second));
    report.add(
        &section,
        "its pgbench, beside",
        rate,
        one(beside.per_second),
    );
    report.ratio("of alone", beside.per_second / alone.per_second, Aim::None);
    report.add(&section, "its p99, alone", ms, one(alone.p99_ms));
    report.add(&section, "its p99, beside", ms, one(beside.p99_ms));
    report.ratio("of alone", beside.p99_ms / alone.p99_ms, Aim::None);
}

/// Makes some, one after the other, and deletes them.
fn children(environment: &Environment, kind: &str) -> Vec<Duration> {
    let endpoint = environment.endpoint();
    let made = (0..CHILDREN).map(|number| {
        let name = format!("{kind}{number}");
        let login = Login::trusted(format!("instance:{name},from:{PARENT}"));
        let (client, elapsed) = Client::first_row(&endpoint, &login)
            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
        client.close();
        environment.stop(&name);
        environment.remove(&name);
        thread::sleep(PAUSE);
        elapsed
    });
    made.collect()
}
