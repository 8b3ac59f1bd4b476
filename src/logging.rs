//! Where log lines go, and how they look.
//!
//! Text on standard error; the journal, with fields, under systemd; JSON on request.

use std::io::IsTerminal;

use anyhow::Context;
use clap::ValueEnum;
use rustix::fs::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that chooses what is logged, such as `info,multidb=debug`.
const FILTER_VARIABLE: &str = "MULTIDB_LOG";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people, on standard error.
    Text,
    /// A JSON object for each line, on standard error.
    Json,
    /// systemd's journal, with fields.
    Journald,
}

impl LogFormat {
    /// The journal where standard error is connected to it, as `JOURNAL_STREAM` claims; else text.
    fn detect() -> Self {
        let claimed = std::env::var("JOURNAL_STREAM").ok();
        let stderr = fstat(std::io::stderr()).ok();
        match (claimed, stderr) {
            (Some(claimed), Some(stderr)) if is_stream(&claimed, stderr.st_dev, stderr.st_ino) => {
                Self::Journald
            }
            _ => Self::Text,
        }
    }
}

/// Whether `JOURNAL_STREAM` (`device:inode`) means this file. It is inherited by children whose
/// standard error goes elsewhere, so its presence alone tells nothing.
fn is_stream(claimed: &str, device: u64, inode: u64) -> bool {
    claimed == format!("{device}:{inode}")
}

/// Begins to log. To be called once.
pub fn init(format: Option<LogFormat>) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => EnvFilter::try_new(&text)
            .with_context(|| format!("{FILTER_VARIABLE}: \"{text}\" is not a filter"))?,
        _ => EnvFilter::new("info"),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format.unwrap_or_else(LogFormat::detect) {
        LogFormat::Text => {
            let colored = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(lines.with_ansi(colored)).try_init()?;
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
        LogFormat::Journald => {
            let journal = tracing_journald::layer().context("cannot log to systemd's journal")?;
            registry.with(journal.with_field_prefix(None)).try_init()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_used_only_where_standard_error_is_its_stream() {
        assert!(is_stream("9:1234", 9, 1234));
        assert!(!is_stream("9:1234", 9, 1235));
        assert!(!is_stream("", 0, 0));
    }
}
