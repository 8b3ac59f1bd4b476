//! New, woken and running instances, their clone, stop and disk; each run of multidb beside one of
//! the floor, so that noise meets both.

use std::time::Duration;

use crate::bed::Bed;
use crate::client::{Client, Endpoint, Login};
use crate::floor::{self, Floor};
use crate::report::{Aim, Report, Samples, Unit, milliseconds};
use crate::say;

/// The most that a new instance and a wake may take, as multiples of the floor.
const FLOOR_AIM: f64 = 1.25;

/// The most disk that a new instance may take, in MiB.
const DISK_MIB_AIM: f64 = 3.0;

/// What one run of multidb took.
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
pub(crate) fn measure(bed: &Bed, runs: usize, report: &mut Report) {
    say(&format!(
        "new, stopped and running instances ({})",
        bed.name()
    ));
    let (client, _) = bed.first_row("teacher");
    client.close();
    let floor = Floor::learn(bed, "teacher");
    // The first run finds cold caches and does not count.
    floor.run();
    run(bed, "warm");
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for number in 0..runs {
        let name = format!("new{number}");
        if number.is_multiple_of(2) {
            ours.push(run(bed, &name));
            floors.push(floor.run());
        } else {
            floors.push(floor.run());
            ours.push(run(bed, &name));
        }
    }
    drop(floor);
    bed.stop("teacher");
    bed.remove("teacher");
    tell_connecting(bed, &ours, &floors, report);
    tell_the_rest(bed, &ours, &floors, report);
}

/// One instance, from its first connection to its deletion.
fn run(bed: &Bed, name: &str) -> Run {
    bed.settle();
    let (client, new) = bed.first_row(name);
    client.close();
    let (client, running) = bed.first_row(name);
    client.close();
    let running_unix = time(&bed.unix_endpoint(), &Bed::user(name));
    let socket = bed.run_dir(name).join(".s.PGSQL.5432");
    let direct = time(&Endpoint::Unix(socket), "postgres");
    let stop = bed.stop(name);
    bed.settle();
    let shown = bed.instance(name);
    let exclusive_bytes = shown["exclusive_bytes"].as_f64();
    let (client, wake) = bed.first_row(name);
    client.close();
    bed.stop(name);
    let clone_milliseconds = bed.clone_milliseconds(name);
    bed.remove(name);
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

fn tell_connecting(bed: &Bed, ours: &[Run], floors: &[floor::Run], report: &mut Report) {
    let section = format!("connect to first row ({})", bed.name());
    let ms = Unit::Milliseconds;
    let pairs = [
        (
            "a new instance",
            of(ours, |run| run.new),
            of(floors, |run| run.new),
        ),
        (
            "a stopped instance",
            of(ours, |run| run.wake),
            of(floors, |run| run.wake),
        ),
    ];
    for (what, ours, floor) in pairs {
        let ratio = ours.median() / floor.median();
        report.add(&section, what, ms, ours);
        report.ratio("of the floor", ratio, Aim::AtMost(FLOOR_AIM));
        report.add(
            &section,
            &format!("  its floor: {what}, by hand"),
            ms,
            floor,
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

fn tell_the_rest(bed: &Bed, ours: &[Run], floors: &[floor::Run], report: &mut Report) {
    let section = format!("clone, stop, disk ({})", bed.name());
    let ms = Unit::Milliseconds;
    let clone = Samples::new(ours.iter().map(|run| run.clone_milliseconds).collect());
    let bare = of(floors, |run| run.clone);
    let ratio = clone.median() / bare.median();
    report.add(&section, "clone alone, by the daemon's log", ms, clone);
    report.ratio("of the bare loop", ratio, Aim::None);
    report.add(&section, "  its floor: a bare loop, one fsync", ms, bare);
    let (stop, by_hand) = (of(ours, |run| run.stop), of(floors, |run| run.stop));
    let ratio = stop.median() / by_hand.median();
    report.add(&section, "stop of an unused instance", ms, stop);
    report.ratio("of the floor", ratio, Aim::None);
    report.add(&section, "  its floor: SIGINT, by hand", ms, by_hand);
    let mib = |run: &Run| run.exclusive_bytes / f64::from(1 << 20);
    let disk = Samples::new(ours.iter().map(mib).collect());
    let median = disk.median();
    let what = "disk of a new instance, used and stopped";
    report.add(&section, what, Unit::MiB, disk);
    report.ratio("MiB", median, Aim::AtMost(DISK_MIB_AIM));
    let over =
        |(ours, floor): (&Run, &floor::Run)| milliseconds(ours.new) - milliseconds(floor.new);
    let over = Samples::new(ours.iter().zip(floors).map(over).collect());
    report.add(&section, "a new instance, over its pair's floor", ms, over);
}
