//! The benchmark: drives a daemon from outside and measures the floor in the same run.
//!
//! `scripts/bench.sh` mounts the file systems, builds the daemon and calls this. Figures are
//! medians of interleaved runs, since these machines are noisy; what counts are the ratios.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod floor;
mod report;
mod throughput;
mod wire;
mod world;

use std::path::PathBuf;
use tokio::time::Instant;

use report::{Report, Samples};
use wire::{Target, first_row};
use world::{Runtime, World};

/// What is measured, and how.
pub(crate) struct Options {
    /// The daemon's program.
    pub(crate) binary: PathBuf,
    /// A directory on the file system to measure on.
    pub(crate) directory: PathBuf,
    /// The size of the snapshot.
    pub(crate) gib: u64,
    /// The runs of each figure.
    pub(crate) runs: usize,
    /// What runs Postgres.
    pub(crate) runtime: Runtime,
    /// Whether proxies are compared.
    pub(crate) throughput: bool,
}

fn options() -> Options {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| {
        let value = arguments.next();
        value.unwrap_or_else(|| panic!("{name} is missing: use scripts/bench.sh"))
    };
    Options {
        binary: next("BINARY").into(),
        directory: next("DIRECTORY").into(),
        gib: next("GIB").parse().expect("GIB is a number"),
        runs: next("RUNS").parse().expect("RUNS is a number"),
        runtime: match next("RUNTIME").as_str() {
            "docker" => Runtime::Docker,
            _ => Runtime::Process,
        },
        throughput: next("THROUGHPUT") == "yes",
    }
}

fn main() {
    let options = options();
    let mut report = Report::new(&options);
    let world = World::make(&options);
    report.say(&format!(
        "snapshot: {} bytes in {} files, clones by {}",
        world.bytes, world.files, world.method
    ));
    latencies(&world, &options, &mut report);
    at_once(&world, &mut report);
    memory(&world, &mut report);
    if options.throughput {
        throughput::measure(&world, &mut report);
    }
    println!("{}", report.json());
}

/// New, stopped and running instances, each beside its floor.
fn latencies(world: &World, options: &Options, report: &mut Report) {
    let mut samples: [Samples; 9] = std::array::from_fn(|_| Samples::default());
    let [
        new,
        floor,
        wake,
        wake_floor,
        running,
        direct,
        clone,
        stop,
        disk,
    ] = &mut samples;
    for run in 0..options.runs {
        let name = format!("bench-{run}");
        let user = format!("instance:{name},snapshot:latest");
        new.add(first_row(&world.proxy(&user), "select 1"));
        running.add(first_row(&world.proxy(&user), "select 1"));
        let instance = world.instance(&name);
        direct.add(first_row(&world.direct(&instance), "select 1"));
        let began = Instant::now();
        world.cli(&["instance", "stop", &name]);
        stop.add(began.elapsed());
        disk.add_value(
            world.instance(&name)["exclusive_bytes"]
                .as_u64()
                .unwrap_or(0) as f64,
        );
        wake.add(first_row(&world.proxy(&user), "select 1"));
        let one = floor::run(world, options);
        clone.add(one.clone);
        floor.add(one.clone + one.start);
        wake_floor.add(one.wake);
        world.cli(&["instance", "rm", &name]);
    }
    report.row("new instance, connect to first row", new);
    report.row("  floor: bare clone, start by hand, first answer", floor);
    report.ratio("  new / floor", new, floor, 1.25);
    report.row("stopped instance (wake)", wake);
    report.row("  floor: start by hand, first answer", wake_floor);
    report.ratio("  wake / floor", wake, wake_floor, 1.25);
    report.row("running instance", running);
    report.row("  direct to the same Postgres", direct);
    report.row("clone alone (floor)", clone);
    report.row("stop by command", stop);
    report.bytes("disk of an instance after a query and a stop", disk);
    report.keep_single(new);
}

/// Fifteen clients with fifteen new names at one moment.
fn at_once(world: &World, report: &mut Report) {
    let mut all = Samples::default();
    for round in 0..3 {
        let threads: Vec<_> = (0..15)
            .map(|client| {
                let target = world.proxy(&format!(
                    "instance:at-once-{round}-{client},snapshot:latest"
                ));
                std::thread::spawn(move || first_row(&target, "select 1"))
            })
            .collect();
        for thread in threads {
            all.add(thread.join().expect("a client ends"));
        }
        for client in 0..15 {
            world.cli(&["instance", "rm", &format!("at-once-{round}-{client}")]);
        }
    }
    report.row("15 new instances at once, each client", &all);
    report.fifteen(&all);
}

/// The daemon's memory without and with open idle sessions.
fn memory(world: &World, report: &mut Report) {
    const SESSIONS: usize = 200;
    let user = "instance:memory,snapshot:latest";
    first_row(&world.proxy(user), "select 1");
    let open = |count| -> Vec<Target> {
        let sessions = (0..count).map(|_| world.proxy(user).open());
        sessions.collect()
    };
    // What the first sessions make grow stays.
    let _first = open(10);
    let before = world.memory_bytes();
    let _sessions = open(SESSIONS);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let after = world.memory_bytes();
    report.memory(before, after, SESSIONS);
}
