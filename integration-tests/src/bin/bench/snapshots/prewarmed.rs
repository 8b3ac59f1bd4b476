//! New instances that take a clone that is kept ready, beside instances that are cloned on demand.

use std::time::Duration;

use multidb_integration_tests::eventually;

use crate::environment::Environment;
use crate::options::Options;
use crate::report::{Aim, Report, Samples, Unit, milliseconds};
use crate::say;
use crate::source::Source;

const LIMIT: Duration = Duration::from_secs(60);

/// Measures so many of each, in turns. `plain` keeps no clones ready.
pub(super) fn measure(
    options: &Options,
    source: &Source,
    plain: &Environment,
    runs: usize,
    report: &mut Report,
) {
    say("instances from clones that are kept ready");
    let on = (plain.disk(), plain.engine());
    let ready = Environment::prepare(&options.multidb, on.0, on.1, source, |daemon| {
        daemon.set_raw("project.demo", "prewarm", "1")
    });
    let (mut plain_runs, mut ready_runs) = (Vec::new(), Vec::new());
    for number in 0..runs {
        let name = format!("prewarmed{number}");
        plain_runs.push(run(plain, &name));
        eventually("a clone is ready", LIMIT, || {
            ready.get("/v1/status")["prewarmed"]["demo"]["ready"] == 1
        });
        ready_runs.push(run(&ready, &name));
    }
    let section = format!("a clone that is kept ready ({})", plain.name());
    for (what, of) in [
        (
            "clone",
            (|run: &(f64, f64)| run.0) as fn(&(f64, f64)) -> f64,
        ),
        ("first row", |run| run.1),
    ] {
        let samples = |runs: &[(f64, f64)]| Samples::new(runs.iter().map(of).collect());
        let (without, with) = (samples(&plain_runs), samples(&ready_runs));
        let ratio = with.median() / without.median();
        report.add(
            &section,
            &format!("{what}, without"),
            Unit::Milliseconds,
            without,
        );
        report.add(&section, &format!("{what}, with"), Unit::Milliseconds, with);
        report.ratio("of without", ratio, Aim::None);
    }
}

/// The milliseconds of the clone of a new instance, and the milliseconds to its first row.
fn run(environment: &Environment, name: &str) -> (f64, f64) {
    environment.settle();
    let (client, first_row) = environment.first_row(name);
    client.close();
    let clone = environment.clone_milliseconds(name);
    environment.stop(name);
    environment.remove(name);
    (clone, milliseconds(first_row))
}
