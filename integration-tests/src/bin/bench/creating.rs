//! New, woken and running instances, their clone, stop and disk; each run of multidb beside one of
//! the lower bound, so that noise meets both.

use std::time::Duration;

use multidb_integration_tests::eventually;

use crate::client::{Client, Endpoint, Login};
use crate::environment::Environment;
use crate::lower_bound::{self, LowerBound};
use crate::report::{Aim, Report, Samples, Unit, milliseconds};
use crate::say;

/// The most that a new instance and a wake may take, as multiples of the lower bound.
const LOWER_BOUND_AIM: f64 = 1.25;

/// The most disk that a new instance may take, in MiB.
const DISK_MIB_AIM: f64 = 3.0;

/// The times and sizes of one run of multidb.
struct Run {
    new: Duration,
    running: Duration,
    running_unix: Duration,
    direct: Duration,
    wake: Duration,
    stop: Duration,
    clone_milliseconds: f64,
    exclusive_bytes: f64,
}

/// Measures `runs` times.
pub(crate) fn measure(environment: &Environment, runs: usize, report: &mut Report) {
    say(&format!(
        "new, stopped and running instances ({})",
        environment.name()
    ));
    let (client, _) = environment.first_row("teacher");
    client.close();
    let bound = LowerBound::learn(environment, "teacher");
    // The first run finds cold caches and does not count.
    bound.run();
    run(environment, "warm");
    let (mut ours, mut bounds) = (Vec::new(), Vec::new());
    for number in 0..runs {
        let name = format!("new{number}");
        if number.is_multiple_of(2) {
            ours.push(run(environment, &name));
            bounds.push(bound.run());
        } else {
            bounds.push(bound.run());
            ours.push(run(environment, &name));
        }
    }
    drop(bound);
    environment.stop("teacher");
    environment.remove("teacher");
    tell_connecting(environment, &ours, &bounds, report);
    tell_the_rest(environment, &ours, &bounds, report);
}

/// One instance, from its first connection to its deletion.
fn run(environment: &Environment, name: &str) -> Run {
    environment.settle();
    let (client, new) = environment.first_row(name);
    client.close();
    let (client, running) = environment.first_row(name);
    client.close();
    let running_unix = time(&environment.unix_endpoint(), &Environment::user(name));
    let socket = environment.run_dir(name).join(".s.PGSQL.5432");
    let direct = time(&Endpoint::Unix(socket), "postgres");
    let stop = environment.stop(name);
    environment.settle();
    // On a slow machine the first answer is without it.
    let mut exclusive_bytes = None;
    eventually("the bytes are measured", Duration::from_secs(30), || {
        exclusive_bytes = environment.instance(name)["exclusive_bytes"].as_f64();
        exclusive_bytes.is_some()
    });
    let (client, wake) = environment.first_row(name);
    client.close();
    environment.stop(name);
    let clone_milliseconds = environment.clone_milliseconds(name);
    environment.remove(name);
    Run {
        new,
        running,
        running_unix,
        direct,
        wake,
        stop,
        clone_milliseconds,
        exclusive_bytes: exclusive_bytes.expect("a stopped instance shows its bytes"),
    }
}

fn time(endpoint: &Endpoint, user: &str) -> Duration {
    let (client, elapsed) = Client::first_row(endpoint, &Login::trusted(user))
        .unwrap_or_else(|failure| panic!("{endpoint:?}, {user}: {failure}"));
    client.close();
    elapsed
}

/// The samples of one field.
fn of<R>(runs: &[R], get: fn(&R) -> Duration) -> Samples {
    Samples::of_times(runs.iter().map(get))
}

fn tell_connecting(
    environment: &Environment,
    ours: &[Run],
    bounds: &[lower_bound::Run],
    report: &mut Report,
) {
    let section = format!("connect to first row ({})", environment.name());
    let ms = Unit::Milliseconds;
    let pairs = [
        (
            "a new instance",
            of(ours, |run| run.new),
            of(bounds, |run| run.new),
        ),
        (
            "a stopped instance",
            of(ours, |run| run.wake),
            of(bounds, |run| run.wake),
        ),
    ];
    for (what, ours, bound) in pairs {
        let ratio = ours.median() / bound.median();
        report.add(&section, what, ms, ours);
        report.ratio("of the lower bound", ratio, Aim::AtMost(LOWER_BOUND_AIM));
        report.add(
            &section,
            &format!("  its lower bound: {what}, by hand"),
            ms,
            bound,
        );
    }
    let direct = of(ours, |run| run.direct);
    for (what, ours) in [
        ("a running instance", of(ours, |run| run.running)),
        (
            "a running instance, Unix socket",
            of(ours, |run| run.running_unix),
        ),
    ] {
        let ratio = ours.median() / direct.median();
        report.add(&section, what, ms, ours);
        report.ratio("of direct", ratio, Aim::None);
    }
    report.add(&section, "the same Postgres, direct", ms, direct);
}

fn tell_the_rest(
    environment: &Environment,
    ours: &[Run],
    bounds: &[lower_bound::Run],
    report: &mut Report,
) {
    let section = format!("clone, stop, disk ({})", environment.name());
    let ms = Unit::Milliseconds;
    let clone = Samples::new(ours.iter().map(|run| run.clone_milliseconds).collect());
    let bare = of(bounds, |run| run.clone);
    let ratio = clone.median() / bare.median();
    report.add(&section, "clone alone, by the daemon's log", ms, clone);
    report.ratio("of the bare loop", ratio, Aim::None);
    report.add(
        &section,
        "  its lower bound: a bare loop, one fsync",
        ms,
        bare,
    );
    let (stop, by_hand) = (of(ours, |run| run.stop), of(bounds, |run| run.stop));
    let ratio = stop.median() / by_hand.median();
    report.add(&section, "stop of an unused instance", ms, stop);
    report.ratio("of the lower bound", ratio, Aim::None);
    report.add(&section, "  its lower bound: SIGINT, by hand", ms, by_hand);
    let mib = |run: &Run| run.exclusive_bytes / f64::from(1 << 20);
    let disk = Samples::new(ours.iter().map(mib).collect());
    let median = disk.median();
    let what = "disk of a new instance, used and stopped";
    report.add(&section, what, Unit::MiB, disk);
    report.ratio("MiB", median, Aim::AtMost(DISK_MIB_AIM));
    let over =
        |(ours, bound): (&Run, &lower_bound::Run)| milliseconds(ours.new) - milliseconds(bound.new);
    let over = Samples::new(ours.iter().zip(bounds).map(over).collect());
    report.add(&section, "a new instance, over its lower bound", ms, over);
}
