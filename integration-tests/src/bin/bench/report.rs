//! The figures: a table for people, JSON for machines.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Options;

/// The values of one figure.
#[derive(Default, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds a time, in milliseconds.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1000.0);
    }

    /// Adds a value of another unit.
    pub(crate) fn add_value(&mut self, value: f64) {
        self.0.push(value);
    }

    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = ((sorted.len().max(1) - 1) as f64 * part).round() as usize;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    /// The middle value.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// All figures of a run.
pub(crate) struct Report {
    figures: Map<String, Value>,
    single_median: f64,
}

impl Report {
    /// Prints the heading.
    pub(crate) fn new(options: &Options) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!(
            "== {} GiB, {:?}, {} runs, {} cores, kernel {}",
            options.gib,
            options.runtime,
            options.runs,
            cores,
            kernel.trim()
        );
        println!("{:52} {:>9} {:>9} {:>9}", "", "median", "p95", "max");
        Self {
            figures: Map::new(),
            single_median: f64::NAN,
        }
    }

    /// Prints a remark.
    pub(crate) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// A figure in milliseconds.
    pub(crate) fn row(&mut self, name: &str, samples: &Samples) {
        let (median, p95, max) = (
            samples.median(),
            samples.quantile(0.95),
            samples.quantile(1.0),
        );
        println!("{name:52} {median:7.1}ms {p95:7.1}ms {max:7.1}ms");
        let value =
            json!({"median_ms": median, "p95_ms": p95, "max_ms": max, "runs": samples.0.len()});
        self.figures.insert(name.trim().to_owned(), value);
    }

    /// A figure in bytes.
    pub(crate) fn bytes(&mut self, name: &str, samples: &Samples) {
        let (median, max) = (samples.median(), samples.quantile(1.0));
        println!(
            "{name:52} {:6.2}MiB           {:6.2}MiB",
            median / 1048576.0,
            max / 1048576.0
        );
        let value = json!({"median_bytes": median, "max_bytes": max});
        self.figures.insert(name.trim().to_owned(), value);
    }

    /// The ratio of two medians, and what it aims at.
    pub(crate) fn ratio(&mut self, name: &str, over: &Samples, under: &Samples, aim: f64) {
        let ratio = over.median() / under.median();
        self.plain(name, ratio, &format!("(aim: at most {aim})"));
    }

    /// Any other number.
    pub(crate) fn plain(&mut self, name: &str, value: f64, remark: &str) {
        println!("{name:52} {value:9.2} {remark}");
        self.figures.insert(name.trim().to_owned(), json!(value));
    }

    /// Remembers the time of one new instance.
    pub(crate) fn keep_single(&mut self, samples: &Samples) {
        self.single_median = samples.median();
    }

    /// Fifteen at once, against fifteen one after the other.
    pub(crate) fn fifteen(&mut self, all: &Samples) {
        let ratio = all.quantile(0.95) / self.single_median;
        self.plain("  p95 / one new instance", ratio, "(aim: under 15)");
    }

    /// The memory of idle sessions.
    pub(crate) fn memory(&mut self, before: u64, after: u64, sessions: usize) {
        let each = after.saturating_sub(before) as f64 / sessions as f64 / 1024.0;
        let mut remark = String::new();
        let _infallible = write!(
            remark,
            "KiB (aim: under 16); daemon {:.1} MiB before, {:.1} MiB with {sessions}",
            before as f64 / 1048576.0,
            after as f64 / 1048576.0
        );
        self.plain("memory of an idle session", each, &remark);
    }

    /// Everything.
    pub(crate) fn json(&self) -> String {
        format!("JSON {}", Value::Object(self.figures.clone()))
    }
}
