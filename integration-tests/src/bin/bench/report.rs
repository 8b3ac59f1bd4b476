//! Samples and their report: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

/// The unit of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Microseconds,
    KiB,
    MiB,
    MegabytesPerSecond,
    TransactionsPerSecond,
    HandshakesPerSecond,
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::KiB => "KiB",
            Self::MiB => "MiB",
            Self::MegabytesPerSecond => "MB/s",
            Self::TransactionsPerSecond => "tx/s",
            Self::HandshakesPerSecond => "per s",
            Self::Count => "count",
        }
    }
}

/// The limit that a ratio should keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aim {
    AtMost(f64),
    AtLeast(f64),
    /// It is told, not aimed at.
    None,
}

impl Aim {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit}"),
            Self::AtLeast(limit) => format!(">= {limit}"),
            Self::None => String::new(),
        }
    }
}

/// The samples of one thing.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    sorted: Vec<f64>,
}

impl Samples {
    pub(crate) fn new(mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort_by(f64::total_cmp);
        Self { sorted: samples }
    }

    pub(crate) fn of_times(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(times.into_iter().map(milliseconds).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The least sample, which noise has disturbed least.
    pub(crate) fn min(&self) -> f64 {
        self.sorted[0]
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        if self.sorted.len().is_multiple_of(2) {
            f64::midpoint(self.sorted[middle - 1], self.sorted[middle])
        } else {
            self.sorted[middle]
        }
    }

    /// By the nearest rank.
    pub(crate) fn p95(&self) -> f64 {
        let rank = (self.sorted.len() * 95).div_ceil(100);
        self.sorted[rank - 1]
    }

    /// By the nearest rank.
    pub(crate) fn p99(&self) -> f64 {
        let rank = (self.sorted.len() * 99).div_ceil(100);
        self.sorted[rank - 1]
    }

    pub(crate) fn max(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }
}

/// A time in the table's unit.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct Ratio {
    what: String,
    value: f64,
    aim: Aim,
}

struct Line {
    section: String,
    what: String,
    unit: Unit,
    samples: Samples,
    ratio: Option<Ratio>,
}

/// All that was measured.
pub(crate) struct Report {
    machine: Vec<(&'static str, String)>,
    snapshot: Value,
    lines: Vec<Line>,
}

impl Report {
    pub(crate) fn new(machine: Vec<(&'static str, String)>) -> Self {
        Self {
            machine,
            snapshot: Value::Null,
            lines: Vec::new(),
        }
    }

    /// The size of the snapshot; the same in all environments.
    pub(crate) fn snapshot(&mut self, shown: Value) {
        self.snapshot = json!({"bytes": shown["bytes"], "files": shown["files"]});
    }

    pub(crate) fn add(&mut self, section: &str, what: &str, unit: Unit, samples: Samples) {
        self.lines.push(Line {
            section: section.to_owned(),
            what: what.to_owned(),
            unit,
            samples,
            ratio: None,
        });
    }

    /// Says something of the last line: its ratio to another.
    pub(crate) fn ratio(&mut self, what: &str, value: f64, aim: Aim) {
        let line = self.lines.last_mut().expect("a ratio follows its line");
        line.ratio = Some(Ratio {
            what: what.to_owned(),
            value,
            aim,
        });
    }

    pub(crate) fn json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "section": line.section,
                "what": line.what,
                "unit": line.unit.name(),
                "runs": line.samples.sorted.len(),
                "min": line.samples.min(),
                "median": line.samples.median(),
                "p95": line.samples.p95(),
                "max": line.samples.max(),
                "samples": line.samples.sorted,
                "ratio": line.ratio.as_ref().map(|ratio| json!({
                    "what": ratio.what,
                    "value": ratio.value,
                    "aim": ratio.aim.text(),
                    "met": ratio.aim.is_met(ratio.value),
                })),
            })
        });
        json!({
            "machine": self.machine.iter().cloned().collect::<BTreeMap<_, _>>(),
            "snapshot": self.snapshot,
            "lines": lines.collect::<Vec<_>>(),
        })
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.machine {
            let _ = writeln!(text, "{name:<14} {value}");
        }
        let bytes = self.snapshot["bytes"].as_f64().unwrap_or_default() / f64::from(1 << 30);
        let files = &self.snapshot["files"];
        let _ = writeln!(text, "{:<14} {bytes:.2} GiB in {files} files", "snapshot");
        let mut section = "";
        for line in &self.lines {
            if line.section != section {
                section = &line.section;
                let _ = writeln!(
                    text,
                    "\n{section:<50} {:>4} {:>8} {:>8} {:>8} {:>8}",
                    "runs", "min", "median", "p95", "max"
                );
            }
            line.write(&mut text);
        }
        text
    }
}

impl Line {
    fn write(&self, text: &mut String) {
        let what = format!("{}, {}", self.what, self.unit.name());
        let _ = write!(
            text,
            "  {what:<48} {:>4} {:>8} {:>8} {:>8} {:>8}",
            self.samples.sorted.len(),
            figure(self.samples.min()),
            figure(self.samples.median()),
            figure(self.samples.p95()),
            figure(self.samples.max()),
        );
        if let Some(ratio) = &self.ratio {
            let _ = write!(text, "   {:.2} {}", ratio.value, ratio.what);
            match ratio.aim.is_met(ratio.value) {
                Some(true) => {
                    let _ = write!(text, " ({}: met)", ratio.aim.text());
                }
                Some(false) => {
                    let _ = write!(text, " ({}: missed)", ratio.aim.text());
                }
                None => {}
            }
        }
        text.push('\n');
    }
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
