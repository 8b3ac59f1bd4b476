//! The command line. `scripts/bench.sh` is the interface for people and documents each option.

use std::path::PathBuf;

use multidb_integration_tests::{Disk, Engine};

/// A part of the benchmark that can run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// New, woken and running instances, each beside its lower bound.
    Create,
    /// Many new instances at once.
    Concurrent,
    /// Memory for each session.
    Memory,
    /// Transactions and bytes through proxies.
    Throughput,
    /// Logins.
    Handshakes,
    /// The cost of many stopped instances.
    Sleepers,
    /// Commands, logins, idle sessions and sessions at work under load.
    Load,
    /// Imports, shared blocks, instances of instances, lists.
    Snapshots,
    /// The API over the network, the page, metrics.
    Operations,
}

/// The sections to measure, and the environments.
#[derive(Debug)]
pub(crate) struct Options {
    /// The program under test.
    pub(crate) multidb: PathBuf,
    /// An older one, to compare it with under load and for each transaction.
    pub(crate) before: Option<PathBuf>,
    /// The snapshot's size.
    pub(crate) gib: u32,
    /// How often each start is measured.
    pub(crate) runs: usize,
    /// The number of stopped instances.
    pub(crate) sleepers: u32,
    /// How long one run of pgbench lasts.
    pub(crate) pgbench_seconds: u32,
    /// The file systems.
    pub(crate) disks: Vec<Disk>,
    /// The runtimes of Postgres.
    pub(crate) engines: Vec<Engine>,
    /// The parts.
    pub(crate) sections: Vec<Section>,
    /// Where the JSON goes.
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut multidb = None;
        let mut options = Self {
            multidb: PathBuf::new(),
            before: None,
            gib: 1,
            runs: 20,
            sleepers: 50_000,
            pgbench_seconds: 5,
            disks: vec![Disk::Xfs],
            engines: vec![Engine::Process],
            sections: vec![
                Section::Create,
                Section::Concurrent,
                Section::Throughput,
                Section::Handshakes,
                Section::Memory,
                Section::Sleepers,
                Section::Load,
                Section::Snapshots,
                Section::Operations,
            ],
            json: None,
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--multidb" => multidb = Some(PathBuf::from(value)),
                "--before" => options.before = Some(PathBuf::from(value)),
                "--json" => options.json = Some(PathBuf::from(value)),
                "--gib" => options.gib = number(&name, &value)?,
                "--runs" => options.runs = number(&name, &value)?,
                "--sleepers" => options.sleepers = number(&name, &value)?,
                "--pgbench-seconds" => options.pgbench_seconds = number(&name, &value)?,
                "--method" => options.disks = disks(&value)?,
                "--runtime" => options.engines = engines(&value)?,
                "--only" => options.sections = sections(&value)?,
                _ => return Err(format!("unknown argument: {name}")),
            }
        }
        options.multidb = multidb.ok_or("--multidb PROGRAM is needed")?;
        Ok(options)
    }
}

fn number<T: std::str::FromStr + PartialOrd + From<u8>>(
    name: &str,
    value: &str,
) -> Result<T, String> {
    let number: T = value
        .parse()
        .map_err(|_| format!("{name}: {value:?} is no number"))?;
    if number < T::from(1) {
        return Err(format!("{name} is at least 1"));
    }
    Ok(number)
}

fn disks(value: &str) -> Result<Vec<Disk>, String> {
    match value {
        "xfs" => Ok(vec![Disk::Xfs]),
        "btrfs" => Ok(vec![Disk::Btrfs]),
        "all" => Ok(vec![Disk::Xfs, Disk::Btrfs]),
        other => Err(format!("--method is xfs, btrfs or all, not {other:?}")),
    }
}

fn engines(value: &str) -> Result<Vec<Engine>, String> {
    match value {
        "process" => Ok(vec![Engine::Process]),
        "docker" => Ok(vec![Engine::Docker]),
        "all" => Ok(vec![Engine::Process, Engine::Docker]),
        other => Err(format!(
            "--runtime is process, docker or all, not {other:?}"
        )),
    }
}

fn sections(value: &str) -> Result<Vec<Section>, String> {
    value
        .split(',')
        .map(|name| match name {
            "create" => Ok(Section::Create),
            "concurrent" => Ok(Section::Concurrent),
            "memory" => Ok(Section::Memory),
            "throughput" => Ok(Section::Throughput),
            "handshakes" => Ok(Section::Handshakes),
            "sleepers" => Ok(Section::Sleepers),
            "load" => Ok(Section::Load),
            "snapshots" => Ok(Section::Snapshots),
            "operations" => Ok(Section::Operations),
            other => Err(format!(
                "--only is create, concurrent, throughput, handshakes, memory, sleepers, load, snapshots or operations, not {other:?}"
            )),
        })
        .collect()
}
