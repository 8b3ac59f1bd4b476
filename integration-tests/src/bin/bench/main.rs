//! The benchmark behind `scripts/bench.sh`: it drives a daemon from outside, by the wire protocol and
//! the admin socket, and measures the best that the machine can do in the same run.
//!
//! | module | owns |
//! | --- | --- |
//! | `options` | the command line |
//! | `machine` | the description of this machine |
//! | `source` | the cluster that the snapshots are imported from |
//! | `environment` | one daemon with its snapshot, on one file system with one runtime |
//! | `lower_bound` | the least that a new instance and a wake can take here, without multidb |
//! | `creating` | new, woken and running instances, clone, stop, disk; each beside its lower bound |
//! | `concurrent` | many new instances at once |
//! | `handshakes` | logins by each method, and the first row behind them |
//! | `memory` | the memory of idle sessions |
//! | `load` | commands, logins, idle sessions and sessions at work under load, before and after |
//! | `snapshots` | imports beside the programs of Postgres, shared blocks, instances of instances, lists |
//! | `operations` | lists, the page and a scrape over the network; the daemon's memory and processor time for them |
//! | `sleepers` | start, memory, connections and creations with many stopped instances |
//! | `proxies` | HAProxy, PgBouncer and multidb before one Postgres |
//! | `throughput` | pgbench and COPY through each of these |
//! | `transactions` | the log of pgbench's transactions |
//! | `rounds` | the rounds of several ways to do the same |
//! | `client`, `http` | the two protocols, with nothing between the clock and the socket |
//! | `report` | samples, the table, the JSON |
//!
//! A failure ends the run by a panic, as in the scenarios: half a table would be read as a whole one.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program, and its table is what it is for"
)]

mod client;
mod concurrent;
mod creating;
mod environment;
mod handshakes;
mod http;
mod load;
mod lower_bound;
mod machine;
mod memory;
mod operations;
mod options;
mod proxies;
mod report;
mod rounds;
mod sleepers;
mod snapshots;
mod source;
mod throughput;
mod transactions;

use environment::Environment;
use multidb_integration_tests::{Disk, Engine};
use options::{Options, Section};
use report::Report;
use source::Source;

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("bench: {fault}");
            std::process::exit(2);
        }
    };
    let mut report = Report::new(machine::describe());
    let mut source = None;
    for (number, &disk) in options.disks.iter().enumerate() {
        let here = match &source {
            None => Source::generate(disk, options.gib),
            Some(first) => Source::copy(first, disk),
        };
        for (place, &engine) in options.engines.iter().enumerate() {
            // Neither the file system nor the runtime is in the way of a session's bytes.
            let first = number == 0 && place == 0;
            measure(&options, disk, engine, first, &here, &mut report);
        }
        if number + 1 == options.disks.len() {
            here.delete();
        } else {
            source.get_or_insert(here);
        }
    }
    if let Some(source) = source {
        source.delete();
    }
    print!("{}", report.table());
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", report.json());
        std::fs::write(path, text)
            .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
    }
}

/// All sections that were asked for, in one environment.
fn measure(
    options: &Options,
    disk: Disk,
    engine: Engine,
    first: bool,
    source: &Source,
    report: &mut Report,
) {
    let wants = |section| options.sections.contains(&section);
    if first && wants(Section::Sleepers) {
        sleepers::measure(options, (disk, engine), source, report);
    }
    if first && wants(Section::Load) {
        load::measure(options, (disk, engine), source, report);
    }
    if first && wants(Section::Snapshots) {
        snapshots::measure(options, (disk, engine), source, report);
    }
    if first && wants(Section::Operations) {
        operations::measure(options, (disk, engine), source, report);
    }
    let of_sessions = [Section::Memory, Section::Throughput, Section::Handshakes];
    let once = first && of_sessions.into_iter().any(wants);
    if !(once || wants(Section::Create) || wants(Section::Concurrent)) {
        return;
    }
    let environment = Environment::prepare(&options.multidb, disk, engine, source, |daemon| daemon);
    report.snapshot(environment.snapshot());
    if wants(Section::Create) {
        creating::measure(&environment, options.runs, report);
    }
    if wants(Section::Concurrent) {
        concurrent::measure(&environment, options.runs, report);
    }
    if first && wants(Section::Throughput) {
        throughput::measure(&environment, options, report);
    }
    if first && wants(Section::Handshakes) {
        handshakes::measure(&environment, options, source, report);
    }
    if first && wants(Section::Memory) {
        memory::measure(&environment, report);
    }
}

/// Prints progress to the standard error; the standard output has the table alone.
fn say(what: &str) {
    eprintln!("bench: {what}");
}
