//! The end of a test: no leftovers of its daemon, and no unexpected warnings in its log.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Daemon;
use crate::poll::poll;
use crate::{processes, programs};

/// The log lines that a failed test shows.
const LOG_TAIL_LINES: usize = 60;

/// Stops the daemon, and panics if it finds a leftover.
pub(super) fn stop_and_check(daemon: &Daemon) {
    let running = daemon.child.borrow().is_some() && daemon.exit_status().is_none();
    if running {
        let status = daemon.stop();
        assert!(
            status.success(),
            "the daemon ended with {status}; its log:\n{}",
            daemon.log()
        );
    }
    let dir = daemon.dir();
    // A server that was stopping when its daemon was killed may still be exiting.
    poll("no process is left", Duration::from_secs(5), || {
        let left = processes::using(dir);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let left = containers_of(dir);
    assert!(left.is_empty(), "containers are left: {left:?}");
    let surprises = surprises(daemon);
    assert!(
        surprises.is_empty(),
        "the log has warnings or errors that the test does not expect:\n{}",
        surprises.join("\n")
    );
}

/// After a failure: prints the end of the log and removes the leftovers.
#[expect(clippy::print_stderr, reason = "it is the report of a failed test")]
pub(super) fn report_and_clean(daemon: &Daemon) {
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
    eprintln!("--- the end of the daemon's log\n{}\n---", tail.join("\n"));
    if let Some(child) = daemon.child.borrow_mut().as_mut() {
        // By SIGTERM first, so that its servers are stopped too.
        if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..500 {
            if !matches!(child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    for process in processes::using(daemon.dir()) {
        processes::kill(process.pid);
    }
    for container in containers_of(daemon.dir()) {
        let _ = Command::new("docker")
            .args(["rm", "--force", &container])
            .output();
    }
}

/// The warnings and errors in the log that the test did not permit.
fn surprises(daemon: &Daemon) -> Vec<String> {
    let expected = daemon.expected_log.borrow();
    daemon
        .log()
        .lines()
        .filter(|line| is_bad(line) && !expected.iter().any(|text| line.contains(text)))
        .map(str::to_owned)
        .collect()
}

/// A line that starts a warning, an error or a panic.
fn is_bad(line: &str) -> bool {
    let head: String = line.chars().take(60).collect();
    head.contains(" WARN ") || head.contains(" ERROR ") || line.contains("panicked at")
}

/// The containers whose labels or mounts name a path below `dir`.
pub(crate) fn containers_of(dir: &Path) -> Vec<String> {
    if std::env::var_os("MULTIDB_TEST_IMAGE").is_none() {
        return Vec::new();
    }
    let listed = programs::run(Command::new("docker").args([
        "ps",
        "--all",
        "--no-trunc",
        "--format",
        "{{.ID}}\t{{.Labels}}\t{{.Mounts}}",
    ]));
    // Without an engine there are no containers: a test may have stopped it.
    let prefix = format!("{}/", dir.display());
    listed
        .stdout
        .lines()
        .filter(|line| line.contains(&prefix) || line.contains(&format!("={}", dir.display())))
        .filter_map(|line| line.split('\t').next().map(str::to_owned))
        .collect()
}
