//! The log of pgbench's transactions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::report::Samples;

/// The transactions of a part of a run.
pub(crate) struct Part {
    pub(crate) per_second: f64,
    pub(crate) p99_ms: f64,
}

/// A pgbench that runs, and writes each of its transactions to a log.
pub(crate) struct Pgbench {
    child: Child,
    logs: PathBuf,
}

/// The transactions of a run: the end and the duration in milliseconds of each.
pub(crate) struct Transactions(Vec<(Duration, f64)>);

impl Pgbench {
    /// Starts it, with its logs in this directory.
    pub(crate) fn start(mut command: Command, dir: &Path) -> Self {
        let logs = dir.join("pgbench-logs");
        fs::create_dir(&logs).expect("a directory can be made");
        let prefix = logs.join("log").display().to_string();
        command.args(["--log", "--log-prefix", &prefix]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("pgbench can be started");
        Self { child, logs }
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Transactions {
        let status = self.child.wait().expect("pgbench can be waited for");
        assert!(status.success(), "pgbench failed: {status}");
        let transactions = read_logs(&self.logs);
        fs::remove_dir_all(&self.logs).expect("the logs can be deleted");
        Transactions(transactions)
    }
}

impl Transactions {
    /// When the last one ended.
    pub(crate) fn end(&self) -> Duration {
        let ends = self.0.iter().map(|(at, _)| *at);
        ends.max().unwrap_or_default()
    }

    /// The transactions that ended within this time.
    pub(crate) fn part(&self, from: Duration, to: Duration) -> Part {
        let within = self.0.iter().filter(|(end, _)| (from..to).contains(end));
        let times = Samples::new(within.map(|(_, time)| *time).collect());
        #[expect(clippy::cast_precision_loss, reason = "they are some thousands")]
        let count = times.len() as f64;
        Part {
            per_second: count / (to - from).as_secs_f64(),
            p99_ms: times.p99(),
        }
    }
}

/// The time as pgbench's log tells it.
pub(crate) fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is right")
}

fn read_logs(directory: &Path) -> Vec<(Duration, f64)> {
    let mut transactions = Vec::new();
    for entry in fs::read_dir(directory)
        .expect("the logs can be listed")
        .flatten()
    {
        let text = fs::read_to_string(entry.path()).expect("a log can be read");
        transactions.extend(text.lines().map(|line| {
            // client, transaction, microseconds, script, seconds and microseconds of the end
            let fields = line.split(' ').map(|field| field.parse::<u64>().ok());
            let fields: Vec<_> = fields.map(Option::unwrap_or_default).collect();
            let end = Duration::from_secs(fields[4]) + Duration::from_micros(fields[5]);
            (end, Duration::from_micros(fields[2]).as_secs_f64() * 1e3)
        }));
    }
    transactions
}
