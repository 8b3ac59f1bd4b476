//! The facts of this machine: a figure without them means nothing.

use std::fs;
use std::process::Command;

use multidb_integration_tests::{postgres_bin, run};

/// Names and values, in the order in which people read them.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |path: &str, key: &str| {
        text(path)
            .lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split([':', '=']).nth(1))
            .map(|value| value.trim().trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    let first_line = |program: &str, argument: &str| {
        let output = run(Command::new(program).arg(argument));
        output.stdout.lines().next().unwrap_or_default().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = text("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let postgres = postgres_bin().0.join("postgres");
    vec![
        ("cores", cores.to_string()),
        ("processor", line("/proc/cpuinfo", "model name")),
        ("memory", line("/proc/meminfo", "MemTotal")),
        ("system", line("/etc/os-release", "PRETTY_NAME")),
        (
            "kernel",
            text("/proc/sys/kernel/osrelease").trim().to_owned(),
        ),
        (
            "postgres",
            first_line(&postgres.display().to_string(), "--version"),
        ),
        ("haproxy", first_line("haproxy", "-v")),
        ("pgbouncer", first_line("pgbouncer", "--version")),
        ("load_at_start", load.to_owned()),
    ]
}
