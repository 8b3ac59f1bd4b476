//! The scenarios: the public promises, tested from outside, one module per promise.
//!
//! `scripts/test.sh` mounts the file systems, builds the image and runs all of them.

mod altered;
mod authenticating;
mod awake;
mod bad_input;
mod branching;
mod cancelling;
mod clocks;
mod commands;
mod comparing;
mod concurrent;
mod confirming;
mod console;
mod corners;
mod costs;
mod creating;
mod deduplicating;
mod docker;
mod drivers;
mod errors;
mod failing_deletions;
mod failing_disk;
mod first_start;
mod floods;
mod frameworks;
mod full_disk;
mod git_remote;
mod growth;
mod handing_over;
mod hostile_imports;
mod hostile_trees;
mod http;
mod idling;
mod importing;
mod isolation;
mod jobs;
mod keeping;
mod lifetimes;
mod lost_records;
mod major_dumps;
mod majors;
mod max_running;
mod metrics;
mod migration_tools;
mod notifying;
mod options;
mod passing_through;
mod platforms;
mod preparing;
mod pressure;
mod prewarming;
mod publishing;
mod recovering;
mod refreshing;
mod renaming;
mod retention;
mod root;
mod runtime_away;
mod securing;
mod shutting_down;
mod surviving;
mod tidy;
mod topping;
mod untrusted_answers;
mod uploading;
mod watchdog;
mod write_storm;

use multidb_integration_tests::{DaemonBuilder, Disk, Engine};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_multidb");

/// A daemon on this file system that runs Postgres by this engine.
fn daemon_on(disk: Disk, engine: Engine) -> DaemonBuilder {
    DaemonBuilder::new(PROGRAM, disk, engine)
}

/// A daemon for scenarios that do not depend on the file system or the engine.
fn daemon() -> DaemonBuilder {
    daemon_on(Disk::Xfs, Engine::Process)
}
