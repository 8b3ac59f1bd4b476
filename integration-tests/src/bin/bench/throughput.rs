//! Transactions and bytes through each proxy, in turns.

use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{postgres_bin, run};
use tokio::time::Instant;

use crate::bed::Bed;
use crate::client::{Client, DATABASE, Endpoint};
use crate::options::Options;
use crate::proxies::{Proxies, Route, processor_time, ticks_per_second};
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;

/// How often each way has its turn.
const ROUNDS: usize = 3;

/// How often each way has its turn at a COPY, which takes a second or two.
const COPY_ROUNDS: usize = 5;

const CLIENTS: [u32; 2] = [1, 8];

/// Both about 500 MB: the rows of a table, and rows that Postgres hardly has to work for.
const COPIES: [(&str, &str); 2] = [
    (
        "COPY of narrow rows",
        "copy (select * from pgbench_accounts where aid <= 5200000) to stdout",
    ),
    (
        "COPY of wide rows",
        "copy (select repeat('x', 1000) from generate_series(1, 500000)) to stdout",
    ),
];

/// One turn: what was done, in how much time, and the proxy's own processor time.
struct Turn {
    done: f64,
    elapsed: Duration,
    processor: Duration,
}

/// Measures all ways to one instance.
pub(crate) fn measure(bed: &Bed, options: &Options, report: &mut Report) {
    say("throughput through each proxy");
    let name = "throughput";
    bed.first_row(name).0.close();
    let proxies = Proxies::start(bed, name);
    let seconds = options.pgbench_seconds;
    for clients in CLIENTS {
        let what = format!("pgbench -S, clients: {clients}");
        let turns = in_turns(&proxies.routes, ROUNDS, |route| {
            pgbench(route, clients, seconds)
        });
        tell(
            bed,
            &what,
            Unit::TransactionsPerSecond,
            &turns,
            &proxies.routes,
            report,
        );
    }
    for (what, sql) in COPIES {
        let turns = in_turns(&proxies.routes, COPY_ROUNDS, |route| copy(route, sql));
        tell(
            bed,
            what,
            Unit::MegabytesPerSecond,
            &turns,
            &proxies.routes,
            report,
        );
    }
    drop(proxies);
    bed.stop(name);
    bed.remove(name);
}

/// The turns of each way; the first round only warms up.
fn in_turns(
    routes: &[Route],
    rounds: usize,
    mut turn: impl FnMut(&Route) -> (f64, Duration),
) -> Vec<Vec<Turn>> {
    let ticks = ticks_per_second();
    let processor = |route: &Route| {
        route
            .pid
            .map_or(Duration::ZERO, |pid| processor_time(pid, ticks))
    };
    let mut turns: Vec<Vec<Turn>> = routes.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (route, turns) in routes.iter().zip(&mut turns) {
            let before = processor(route);
            let (done, elapsed) = turn(route);
            let processor = processor(route).saturating_sub(before);
            if round > 0 {
                turns.push(Turn {
                    done,
                    elapsed,
                    processor,
                });
            }
        }
    }
    turns
}

/// The transactions that pgbench made. Its own word for how long they took leaves connecting out.
fn pgbench(route: &Route, clients: u32, seconds: u32) -> (f64, Duration) {
    let mut command = Command::new(postgres_bin().0.join("pgbench"));
    let (host, port) = match &route.endpoint {
        Endpoint::Tcp(port) => ("127.0.0.1".to_owned(), *port),
        Endpoint::Unix(path) => {
            let directory = path.parent().expect("a socket is in a directory");
            (directory.display().to_string(), 5432)
        }
    };
    command.args(["--select-only", "--no-vacuum"]);
    command.args(["--client", &clients.to_string()]);
    command.args(["--jobs", &clients.min(2).to_string()]);
    command.args(["--time", &seconds.to_string()]);
    command.args(["--host", &host, "--port", &port.to_string()]);
    let output = run(command.args(["--username", &route.user, DATABASE]));
    let number = |after: &str| -> f64 {
        let rest = output.ok().split(after).nth(1);
        let word = rest.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("pgbench does not say {after:?}: {output:?}"))
    };
    let done = number("number of transactions actually processed: ");
    let rate = number("tps = ");
    (done, Duration::from_secs_f64(done / rate))
}

/// The megabytes that a COPY brought.
fn copy(route: &Route, sql: &str) -> (f64, Duration) {
    let mut client = Client::connect(&route.endpoint, &route.user)
        .unwrap_or_else(|failure| panic!("{}: {failure}", route.name));
    let begin = Instant::now();
    let bytes = client
        .copy_out(sql)
        .unwrap_or_else(|failure| panic!("{}: {failure}", route.name));
    let elapsed = begin.elapsed();
    client.close();
    #[expect(
        clippy::cast_precision_loss,
        reason = "nobody copies so much that it matters"
    )]
    let megabytes = bytes as f64 / 1e6;
    (megabytes, elapsed)
}

fn tell(
    bed: &Bed,
    what: &str,
    unit: Unit,
    turns: &[Vec<Turn>],
    routes: &[Route],
    report: &mut Report,
) {
    let section = format!("{what} ({})", bed.name());
    let rates: Vec<Samples> = turns
        .iter()
        .map(|turns| {
            let rate = |turn: &Turn| turn.done / turn.elapsed.as_secs_f64();
            Samples::new(turns.iter().map(rate).collect())
        })
        .collect();
    let direct = rates[0].median();
    for (route, rate) in routes.iter().zip(rates) {
        let ratio = rate.median() / direct;
        report.add(&section, route.name, unit, rate);
        let aim = match (unit, route.name) {
            (Unit::MegabytesPerSecond, "multidb") => Aim::AtLeast(0.95),
            _ => Aim::None,
        };
        if route.pid.is_some() {
            report.ratio("of direct", ratio, aim);
        }
    }
    let costs: Vec<Option<Samples>> = routes
        .iter()
        .zip(turns)
        .map(|(route, turns)| {
            route.pid?;
            let cost = |turn: &Turn| turn.processor.as_secs_f64() * 1e6 / turn.done;
            Some(Samples::new(turns.iter().map(cost).collect()))
        })
        .collect();
    let haproxy = routes.iter().position(|route| route.name == "haproxy");
    let haproxy = haproxy.and_then(|at| costs[at].as_ref().map(Samples::median));
    let per = match unit {
        Unit::MegabytesPerSecond => "MB",
        _ => "transaction",
    };
    for (route, cost) in routes.iter().zip(costs) {
        let (Some(cost), Some(haproxy)) = (cost, haproxy) else {
            continue;
        };
        let ratio = cost.median() / haproxy;
        let label = format!("{}, processor time per {per}", route.name);
        report.add(&section, &label, Unit::Microseconds, cost);
        let aim = match (unit, route.name) {
            (Unit::TransactionsPerSecond, "multidb") => Aim::AtMost(1.0),
            _ => Aim::None,
        };
        if route.name != "haproxy" {
            report.ratio("of HAProxy's", ratio, aim);
        }
    }
}
