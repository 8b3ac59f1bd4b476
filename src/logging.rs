//! The destination and the format of log lines.
//!
//! Text on standard error; the journal, with fields, under systemd; JSON on request.

use std::io::IsTerminal;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use rustix::fs::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variables with the filter, such as `info,multidb=debug`. The first one that is set
/// takes effect.
const FILTER_VARIABLES: [&str; 2] = ["MULTIDB_LOG", "RUST_LOG"];

/// The format of log lines.
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
    /// The journal if standard error is connected to it, as `JOURNAL_STREAM` claims; else text.
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

/// Whether `JOURNAL_STREAM` (`device:inode`) names this file. Children with another standard error
/// inherit the variable, so its presence alone proves nothing.
fn is_stream(claimed: &str, device: u64, inode: u64) -> bool {
    claimed == format!("{device}:{inode}")
}

/// Starts logging. Must be called once.
pub fn init(format: Option<LogFormat>) -> anyhow::Result<()> {
    let filter = filter(|variable| std::env::var(variable).ok())?;
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

/// The filter in these variables.
fn filter(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<EnvFilter> {
    let set = FILTER_VARIABLES
        .into_iter()
        .find_map(|name| Some((name, variable(name).filter(|text| !text.trim().is_empty())?)));
    let Some((name, text)) = set else {
        return Ok(EnvFilter::new(of_our_crates(LevelFilter::INFO)));
    };
    let refused = || {
        format!(
            "{name}: \"{text}\" is not a filter such as \"debug\" or \"info,multidb::git=debug\""
        )
    };
    let directives = text.split(',').map(str::trim).map(directive);
    let directives = directives.collect::<Option<Vec<_>>>();
    let directives = directives.ok_or_else(|| anyhow!(refused()))?.join(",");
    EnvFilter::try_new(directives).with_context(refused)
}

/// A directive as [`EnvFilter`] takes it, or `None` for a single word that is no level: EnvFilter would take it
/// for the name of a module, and show nothing else.
fn directive(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    text.parse().ok().map(of_our_crates)
}

/// A level for the crates of multidb. Crates that it uses warn at most, and not of malformed HTTP requests: any client
/// can send them, and the answer has the reason.
fn of_our_crates(level: LevelFilter) -> String {
    let others = level.min(LevelFilter::WARN);
    format!("{others},multidb={level},actix_http::h1::dispatcher=off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter_of(set: &[(&str, &str)]) -> anyhow::Result<String> {
        let variable = |name: &str| {
            let found = set.iter().find(|(set, _)| *set == name)?;
            Some(found.1.to_owned())
        };
        Ok(filter(variable)?.to_string())
    }

    #[test]
    fn the_first_variable_that_is_set_takes_effect() {
        let (ours, rusts) = (("MULTIDB_LOG", "debug"), ("RUST_LOG", "trace"));
        assert_eq!(
            filter_of(&[]).unwrap(),
            "actix_http::h1::dispatcher=off,multidb=info,warn"
        );
        assert_eq!(
            filter_of(&[rusts]).unwrap(),
            "actix_http::h1::dispatcher=off,multidb=trace,warn"
        );
        assert_eq!(
            filter_of(&[rusts, ours]).unwrap(),
            "actix_http::h1::dispatcher=off,multidb=debug,warn"
        );
        let blank = ("MULTIDB_LOG", " ");
        assert_eq!(
            filter_of(&[blank, rusts]).unwrap(),
            "actix_http::h1::dispatcher=off,multidb=trace,warn"
        );
    }

    #[test]
    fn a_level_is_for_multidb_and_a_misspelt_one_is_refused() {
        let filters = [
            (
                "error",
                Some("actix_http::h1::dispatcher=off,multidb=error,error"),
            ),
            (
                "debug,hyper=debug",
                Some("actix_http::h1::dispatcher=off,multidb=debug,hyper=debug,warn"),
            ),
            (
                "warn, multidb::git=trace",
                Some("actix_http::h1::dispatcher=off,multidb::git=trace,multidb=warn,warn"),
            ),
            ("debgu", None),
            ("info,debgu", None),
            ("multidb=loud", None),
        ];
        for (text, expected) in filters {
            match (filter_of(&[("RUST_LOG", text)]), expected) {
                (Ok(filter), Some(expected)) => assert_eq!(filter, expected),
                (Err(error), None) => {
                    assert!(error.to_string().starts_with("RUST_LOG: "), "{error}");
                }
                (got, expected) => panic!("{text}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn the_journal_is_used_only_where_standard_error_is_its_stream() {
        assert!(is_stream("9:1234", 9, 1234));
        assert!(!is_stream("9:1234", 9, 1235));
        assert!(!is_stream("", 0, 0));
    }
}
