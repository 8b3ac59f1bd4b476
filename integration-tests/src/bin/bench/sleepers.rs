//! The cost of stopped instances: start, memory, connections and creations of a daemon that has many of
//! them, beside a daemon that has none.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::Path;
use std::thread;
use std::time::Duration;

use multidb_integration_tests::{Disk, Engine};
use serde_json::Value;
use tokio::time::Instant;

use crate::client::{Client, Login};
use crate::environment::Environment;
use crate::memory;
use crate::options::Options;
use crate::proxies::{processor_time, ticks_per_second};
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;
use crate::source::Source;

/// The rounds, each with connections and creations to both daemons.
const ROUNDS: usize = 5;
/// The connections of a round. The kernel counts processor time in steps of 10 ms.
const CONNECTIONS: u32 = 1000;
/// The creations of a round.
const CREATIONS: u32 = 10;
/// The instance that runs.
const RUNNING: &str = "running";
/// The instance whose manifest is copied.
const COPIED: &str = "copied";

/// The most that the stopped instances may add: as a multiple, in milliseconds and in KiB for each.
const COST_AIM: f64 = 1.2;
const START_MS_AIM: f64 = 1500.0;
const INSTANCE_KIB_AIM: f64 = 3.0;

/// The samples of one daemon.
#[derive(Default)]
struct Costs {
    /// Processor time in microseconds.
    connection: Vec<f64>,
    creation: Vec<f64>,
    /// From the connection to the first row of a new instance.
    creation_elapsed: Vec<Duration>,
}

/// Measures both daemons in interleaved rounds.
pub(crate) fn measure(
    options: &Options,
    (disk, engine): (Disk, Engine),
    source: &Source,
    report: &mut Report,
) {
    let count = options.sleepers;
    let daemon = || {
        let environment =
            Environment::prepare(&options.multidb, disk, engine, source, |daemon| daemon);
        for name in [RUNNING, COPIED] {
            environment.first_row(name).0.close();
        }
        environment.stop(COPIED);
        environment
    };
    let (none, many) = (daemon(), daemon());
    report.snapshot(none.snapshot());
    say(&format!("{count} stopped instances ({})", none.name()));
    many.daemon().stop();
    copy_instances(&many, COPIED, count);
    // The first start takes the copies into the records.
    many.daemon().start();
    let section = format!("{count} stopped instances ({})", none.name());
    tell_start(&section, &none, &many, report);
    let (mut costs_none, mut costs_many) = (Costs::default(), Costs::default());
    for environment in [&none, &many] {
        // A restart has left it running; the first connections warm up.
        round(environment, "warm", &mut Costs::default());
    }
    for number in 0..ROUNDS {
        let name = format!("round{number}");
        round(&none, &name, &mut costs_none);
        round(&many, &name, &mut costs_many);
    }
    tell_costs(&section, costs_none, costs_many, report);
}

fn round(environment: &Environment, name: &str, costs: &mut Costs) {
    let ticks = ticks_per_second();
    let pid = environment.daemon().pid().cast_unsigned();
    let login = Login::trusted(format!("instance:{RUNNING}"));
    let begin = processor_time(pid, ticks);
    for _ in 0..CONNECTIONS {
        Client::connect(&environment.endpoint(), &login)
            .unwrap_or_else(|failure| panic!("{RUNNING}: {failure}"))
            .close();
    }
    let spent = processor_time(pid, ticks).saturating_sub(begin);
    costs
        .connection
        .push(spent.as_secs_f64() * 1e6 / f64::from(CONNECTIONS));
    let names: Vec<_> = (0..CREATIONS).map(|n| format!("{name}-{n}")).collect();
    environment.settle();
    let begin = processor_time(pid, ticks);
    for name in &names {
        let (client, elapsed) = environment.first_row(name);
        client.close();
        costs.creation_elapsed.push(elapsed);
    }
    let spent = processor_time(pid, ticks).saturating_sub(begin);
    costs
        .creation
        .push(spent.as_secs_f64() * 1e6 / f64::from(CREATIONS));
    for name in &names {
        environment.stop(name);
        environment.remove(name);
    }
}

/// Copies the manifest and an almost empty data directory of one instance to many new ones.
pub(crate) fn copy_instances(environment: &Environment, copied: &str, count: u32) {
    let instances = environment.daemon().root().join("instances");
    let manifest = fs::read_dir(&instances)
        .expect("the instances can be listed")
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("manifest.json")).ok())
        .find_map(|text| {
            let manifest: Value = serde_json::from_str(&text).ok()?;
            (manifest["name"] == copied).then_some((manifest["uid"].clone(), manifest))
        });
    let (uid, manifest) = manifest.expect("the copied instance has a manifest");
    let data = instances
        .join(uid.as_str().expect("a uid is a string"))
        .join("data");
    let owner = fs::metadata(data).expect("an instance has data");
    thread::scope(|scope| {
        for part in 0..4 {
            let (instances, manifest, owner) = (&instances, &manifest, &owner);
            scope.spawn(move || {
                for number in (part..count).step_by(4) {
                    let mut manifest = manifest.clone();
                    let uid = format!("5{number:011x}");
                    manifest["name"] = format!("sleeper{number:06}").into();
                    manifest["uid"] = uid.as_str().into();
                    let directory = instances.join(uid);
                    copy_instance(&directory, &manifest, (owner.uid(), owner.gid()));
                }
            });
        }
    });
}

fn copy_instance(directory: &Path, manifest: &Value, (uid, gid): (u32, u32)) {
    let data = directory.join("data");
    let version = data.join("PG_VERSION");
    let made = fs::create_dir(directory)
        .and_then(|()| fs::write(directory.join("manifest.json"), manifest.to_string()))
        .and_then(|()| fs::DirBuilder::new().mode(0o700).create(&data))
        .and_then(|()| fs::write(&version, "15\n"))
        .and_then(|()| chown(&data, Some(uid), Some(gid)))
        .and_then(|()| chown(&version, Some(uid), Some(gid)));
    made.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
}

fn tell_start(section: &str, none: &Environment, many: &Environment, report: &mut Report) {
    let (mut starts_none, mut starts_many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        starts_none.push(restart(none));
        starts_many.push(restart(many));
    }
    let (resident_none, resident_many) = (memory::resident_kib(none), memory::resident_kib(many));
    let ms = Unit::Milliseconds;
    report.add(
        section,
        "start, without them",
        ms,
        Samples::of_times(starts_none),
    );
    let starts = Samples::of_times(starts_many);
    let median = starts.median();
    report.add(section, "start, with them", ms, starts);
    report.ratio("ms", median, Aim::AtMost(START_MS_AIM));
    let count = instances(many).max(1);
    let each = (f64::from(resident_many) - f64::from(resident_none)) / f64::from(count);
    let samples = Samples::new(vec![each]);
    report.add(section, "memory of each, resident", Unit::KiB, samples);
    report.ratio("KiB", each, Aim::AtMost(INSTANCE_KIB_AIM));
}

/// Restarts the daemon, and returns the time from its launch to its first answer.
fn restart(environment: &Environment) -> Duration {
    environment.daemon().stop();
    let begin = Instant::now();
    environment.daemon().start();
    begin.elapsed()
}

/// The number of the daemon's instances, by its own count.
fn instances(environment: &Environment) -> u32 {
    let status = environment.daemon().json(&["status"]);
    let states = status["instances"].as_object();
    let counts = states.expect("the status has counts").values();
    let count: u64 = counts.filter_map(Value::as_u64).sum();
    u32::try_from(count).expect("the bench makes fewer")
}

fn tell_costs(section: &str, none: Costs, many: Costs, report: &mut Report) {
    let us = Unit::Microseconds;
    let pairs = [
        (
            "a connection, processor time",
            none.connection,
            many.connection,
        ),
        ("a creation, processor time", none.creation, many.creation),
    ];
    for (what, none, many) in pairs {
        let (none, many) = (Samples::new(none), Samples::new(many));
        let ratio = many.median() / none.median();
        report.add(section, &format!("{what}, without them"), us, none);
        report.add(section, &format!("{what}, with them"), us, many);
        report.ratio("of without", ratio, Aim::AtMost(COST_AIM));
    }
    let none = Samples::of_times(none.creation_elapsed);
    let many = Samples::of_times(many.creation_elapsed);
    let ratio = many.median() / none.median();
    let ms = Unit::Milliseconds;
    report.add(
        section,
        "a creation to its first row, without them",
        ms,
        none,
    );
    report.add(section, "a creation to its first row, with them", ms, many);
    report.ratio("of without", ratio, Aim::None);
}
