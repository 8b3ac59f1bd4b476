//! The scenarios: what PRODUCT.md promises, seen from outside, a module for each promise.
//!
//! `scripts/test.sh` mounts the file systems, builds the image and runs all of them.

mod asking;
mod authenticating;
mod awake;
mod bad_input;
mod cancelling;
mod commands;
mod concurrent;
mod corners;
mod creating;
mod docker;
mod drivers;
mod errors;
mod floods;
mod full_disk;
mod git_remote;
mod importing;
mod isolation;
mod options;
mod passing_through;
mod platforms;
mod resting;
mod retention;
mod room;
mod securing;
mod shutting_down;
mod surviving;
mod tidy;
mod write_storm;

use multidb_integration_tests::{DaemonBuilder, Disk, Engine};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_multidb");

/// A daemon on this file system that runs Postgres by this engine.
fn daemon_on(disk: Disk, engine: Engine) -> DaemonBuilder {
    DaemonBuilder::new(PROGRAM, disk, engine)
}

/// A daemon for what does not depend on file system and engine.
fn daemon() -> DaemonBuilder {
    daemon_on(Disk::Xfs, Engine::Process)
}
