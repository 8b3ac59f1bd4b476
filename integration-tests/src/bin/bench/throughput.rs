//! Transactions and bytes through each proxy, in interleaved rounds.

use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{postgres_bin, run};
use tokio::time::Instant;

use crate::client::{Client, DATABASE, Endpoint};
use crate::environment::Environment;
use crate::options::Options;
use crate::proxies::{Proxies, Route};
use crate::report::{Report, Unit};
use crate::rounds::{interleaved, tell};
use crate::say;

/// The rounds of each way.
const ROUNDS: usize = 3;

/// The rounds of a COPY, which takes a second or two.
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

/// Measures all ways to one instance.
pub(crate) fn measure(environment: &Environment, options: &Options, report: &mut Report) {
    say("throughput through each proxy");
    let name = "throughput";
    environment.first_row(name).0.close();
    let proxies = Proxies::start(environment, name);
    let seconds = options.pgbench_seconds;
    for clients in CLIENTS {
        let what = format!("pgbench -S, clients: {clients}");
        let rounds = interleaved(&proxies.routes, ROUNDS, |route| {
            pgbench(route, clients, seconds)
        });
        let section = format!("{what} ({})", environment.name());
        tell(
            &section,
            Unit::TransactionsPerSecond,
            &rounds,
            &proxies.routes,
            report,
        );
    }
    for (what, sql) in COPIES {
        let rounds = interleaved(&proxies.routes, COPY_ROUNDS, |route| copy(route, sql));
        let section = format!("{what} ({})", environment.name());
        tell(
            &section,
            Unit::MegabytesPerSecond,
            &rounds,
            &proxies.routes,
            report,
        );
    }
    drop(proxies);
    environment.stop(name);
    environment.remove(name);
}

/// pgbench with one of its own scripts, by this way.
pub(crate) fn pgbench_command(route: &Route, script: &str, clients: u32, seconds: u32) -> Command {
    let mut command = Command::new(postgres_bin().0.join("pgbench"));
    let (host, port) = match &route.endpoint {
        Endpoint::Tcp(port) => ("127.0.0.1".to_owned(), *port),
        Endpoint::Unix(path) => {
            let directory = path.parent().expect("a socket is in a directory");
            (directory.display().to_string(), 5432)
        }
    };
    command.args(["--builtin", script, "--no-vacuum"]);
    command.args(["--client", &clients.to_string()]);
    command.args(["--jobs", &clients.min(2).to_string()]);
    command.args(["--time", &seconds.to_string()]);
    command.args(["--host", &host, "--port", &port.to_string()]);
    command.args(["--username", &route.login.user, DATABASE]);
    command
}

/// The transactions that pgbench made. Its own word for how long they took leaves connecting out.
pub(crate) fn pgbench(route: &Route, clients: u32, seconds: u32) -> (f64, Duration) {
    let output = run(&mut pgbench_command(route, "select-only", clients, seconds));
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
    let mut client = Client::connect(&route.endpoint, &route.login)
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
