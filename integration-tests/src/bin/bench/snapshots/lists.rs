//! Lists of many instances and snapshots.

use std::fs;

use serde_json::Value;
use tokio::time::Instant;

use crate::environment::Environment;
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;
use crate::sleepers::copy_instances;

const INSTANCES: u32 = 1000;
const SNAPSHOTS: u32 = 100;
const COPIED: &str = "copied";
const REQUESTS: usize = 20;
/// The most milliseconds of a list of all instances.
const LIST_MS_AIM: f64 = 50.0;

/// Measures the lists by the admin socket.
pub(super) fn measure(environment: &Environment, report: &mut Report) {
    say(&format!(
        "lists of {INSTANCES} instances and {SNAPSHOTS} snapshots"
    ));
    environment.first_row(COPIED).0.close();
    environment.stop(COPIED);
    environment.daemon().stop();
    copy_instances(environment, COPIED, INSTANCES - 1);
    copy_snapshots(environment);
    environment.daemon().start();
    let section = format!("lists, with what each one costs ({})", environment.name());
    for (what, path, count) in [
        ("instances", "/v1/instances", INSTANCES),
        ("snapshots", "/v1/snapshots", SNAPSHOTS),
    ] {
        let times = (0..REQUESTS).map(|_| {
            let begin = Instant::now();
            let shown = environment.get(path);
            let elapsed = begin.elapsed();
            let listed = shown.as_array().map_or(0, Vec::len);
            assert!(listed >= count as usize, "{path}: {listed}");
            elapsed
        });
        let samples = Samples::of_times(times.collect::<Vec<_>>());
        let median = samples.median();
        report.add(
            &section,
            &format!("{count} {what}"),
            Unit::Milliseconds,
            samples,
        );
        report.ratio("ms", median, Aim::AtMost(LIST_MS_AIM));
    }
}

/// Copies the manifest of the snapshot to many of later days, with data that nobody clones.
fn copy_snapshots(environment: &Environment) {
    let snapshots = environment.daemon().root().join("snapshots");
    let text = fs::read_to_string(snapshots.join("bench/manifest.json"));
    let text = text.expect("the snapshot has a manifest");
    let manifest: Value = serde_json::from_str(&text).expect("a manifest is JSON");
    for number in 0..SNAPSHOTS {
        let mut manifest = manifest.clone();
        let id = format!("day{number:03}");
        manifest["id"] = id.as_str().into();
        let directory = snapshots.join(id);
        let made = fs::create_dir(&directory)
            .and_then(|()| fs::write(directory.join("manifest.json"), manifest.to_string()))
            .and_then(|()| fs::create_dir(directory.join("data")))
            .and_then(|()| fs::write(directory.join("data/PG_VERSION"), "15\n"));
        made.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    }
}
