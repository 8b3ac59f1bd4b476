//! `[project.*.refresh]`: where the project's next snapshot comes from, and when.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::cron::Cron;
use super::rename_database;
use super::section::{Origin, Report, Section, kind};
use super::source_url::SourceUrl;
use super::value::{Value, string, text, word};

/// Shorter, one refresh would begin before the last one ended.
const EVERY_MIN: Duration = Duration::from_secs(60);
/// The times between refreshes that are compared: a week of an irregular schedule.
const PERIODS: usize = 8;

/// How a project gets its next snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshConfig {
    /// The source; none if snapshots come by the folder alone.
    pub source: Option<RefreshSource>,
    /// When it begins by itself.
    pub schedule: Option<RefreshSchedule>,
    /// The time zone of the schedule.
    pub timezone: TimeZone,
    /// A folder whose complete dumps and data directories are imported.
    pub incoming: Option<PathBuf>,
    /// Which snapshots are kept; without it, all.
    pub keep: Option<Keep>,
    /// The databases that get another name in every import of the project, and that name.
    pub rename_database: BTreeMap<String, String>,
}

/// How many snapshots are kept: the newest ones, and the newest one of each of so many days, weeks and months that
/// have any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones.
    pub last: usize,
    /// Days.
    pub daily: usize,
    /// Weeks.
    pub weekly: usize,
    /// Months.
    pub monthly: usize,
}

fn keep(section: &mut Section, report: &mut Report) -> Option<Keep> {
    let mut parts = section.existing_section("keep", report)?;
    let keep = Keep {
        last: parts.get("last", 0, report),
        daily: parts.get("daily", 0, report),
        weekly: parts.get("weekly", 0, report),
        monthly: parts.get("monthly", 0, report),
    };
    let key = parts.path().to_owned();
    parts.close(report);
    if keep.last + keep.daily + keep.weekly + keep.monthly == 0 {
        let message =
            "keeps nothing; set last, daily, weekly or monthly, or leave it out to keep all";
        report.fault(key, message);
    }
    Some(keep)
}

/// The source of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshSource {
    /// A running server.
    Server {
        /// Its URL.
        url: SourceUrl,
        /// How it is copied.
        method: RefreshMethod,
        /// The file with its password.
        passfile: Option<PathBuf>,
        /// The tables that a dump leaves out, as pg_dump's `--exclude-table`.
        exclude_table: Vec<String>,
        /// The tables of which a dump has no rows, as pg_dump's `--exclude-table-data`.
        exclude_table_data: Vec<String>,
    },
    /// A program and its arguments, whose standard output is a dump.
    Command(Vec<String>),
}

/// How a running server is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshMethod {
    /// All its files, by pg_basebackup.
    Physical,
    /// One database, by pg_dump.
    Logical,
}

/// When a refresh begins by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshSchedule {
    /// At the times of a cron expression.
    Cron(Cron),
    /// So long after the last one began.
    Every(Duration),
}

impl RefreshSchedule {
    /// The time of the next refresh after one that began then. None where there is none in a century.
    pub fn next_after(&self, begun: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.next_after(begun, zone),
            Self::Every(every) => begun.checked_add(*every).ok(),
        }
    }

    /// The longest time between two refreshes of the next few.
    pub fn period(&self, now: Timestamp, zone: &TimeZone) -> Option<SignedDuration> {
        let times = std::iter::successors(self.next_after(now, zone), |last| {
            self.next_after(*last, zone)
        });
        let times: Vec<Timestamp> = times.take(PERIODS + 1).collect();
        let periods = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        periods.max()
    }
}

/// The name of a time zone, and the time zone.
struct ZoneName(String, TimeZone);

impl Value for ZoneName {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let name = text(value, "\"Australia/Sydney\"")?;
        let zone = TimeZone::get(name);
        let zone =
            zone.map_err(|_| format!("\"{name}\" is not a time zone of the IANA database"))?;
        Ok(Self(name.to_owned(), zone))
    }

    fn show(&self) -> toml::Value {
        string(&self.0)
    }
}

impl Value for RefreshMethod {
    fn read(value: &toml::Value) -> Result<Self, String> {
        word(
            value,
            &[("physical", Self::Physical), ("logical", Self::Logical)],
        )
    }

    fn show(&self) -> toml::Value {
        string(match self {
            Self::Physical => "physical",
            Self::Logical => "logical",
        })
    }
}

pub(super) fn read(mut section: Section, report: &mut Report) -> Option<RefreshConfig> {
    let source = source(&mut section, report);
    let schedule = schedule(&mut section, report);
    let utc = ZoneName("UTC".to_owned(), TimeZone::UTC);
    let timezone = section.get("timezone", utc, report).1;
    let incoming: Option<PathBuf> = section.optional("incoming", report);
    let keep = keep(&mut section, report);
    let renames = section.sets("rename_database");
    let rename_database = rename_database::read(&mut section, report);
    let key = section.path().to_owned();
    section.close(report);
    let source = source.ok()?;
    if source.is_none() && incoming.is_none() && keep.is_none() && !renames {
        report.fault(key, "has neither a source nor an incoming folder");
        return None;
    }
    if source.is_none() && schedule.is_some() {
        report.fault(key, "has a schedule, but no source");
        return None;
    }
    Some(RefreshConfig {
        source,
        schedule,
        timezone,
        incoming,
        keep,
        rename_database,
    })
}

/// The keys of the source. An error was reported.
fn source(section: &mut Section, report: &mut Report) -> Result<Option<RefreshSource>, ()> {
    let faults = report.faults.len();
    let command = section.is_section("source");
    let source = match command {
        true => command_of(section, report).map(RefreshSource::Command),
        false => {
            let url: Option<SourceUrl> = section.optional("source", report);
            url.map(|url| server(url, section, report))
        }
    };
    if !matches!(source, Some(RefreshSource::Server { .. })) {
        for name in ["method", "passfile", "exclude_table", "exclude_table_data"] {
            if section.take(name).is_some() && report.faults.len() == faults {
                report.fault(section.key(name), "is for a source that is a URL");
            }
        }
    }
    match report.faults.len() == faults {
        true => Ok(source),
        false => Err(()),
    }
}

fn server(url: SourceUrl, section: &mut Section, report: &mut Report) -> RefreshSource {
    let method = section.get("method", RefreshMethod::Physical, report);
    let passfile = section.optional("passfile", report);
    let mut patterns = |name| -> Vec<String> {
        if method == RefreshMethod::Physical && section.sets(name) {
            report.fault(section.key(name), "needs method = \"logical\"");
        }
        section.optional(name, report).unwrap_or_default()
    };
    let exclude_table = patterns("exclude_table");
    let exclude_table_data = patterns("exclude_table_data");
    RefreshSource::Server {
        url,
        method,
        passfile,
        exclude_table,
        exclude_table_data,
    }
}

fn command_of(section: &mut Section, report: &mut Report) -> Option<Vec<String>> {
    let mut parts = section.section("source", report);
    let key = parts.key("command");
    let value = parts.take("command");
    parts.close(report);
    let Some(value) = value else {
        report.fault(key, "is missing");
        return None;
    };
    if !value.is_array() {
        let message = format!(
            "is {}, but must be a list of a program and its arguments",
            kind(&value)
        );
        report.fault(key, message);
        return None;
    }
    match Vec::<String>::read(&value) {
        Ok(command) if command.is_empty() => report.fault(key, "is empty"),
        Ok(command) if !command[0].starts_with('/') => {
            report.fault(key, "must begin with the absolute path of a program");
        }
        Ok(command) => {
            // Its arguments may be secrets.
            report.setting(&key, string(format!("{} …", command[0])), Origin::File);
            return Some(command);
        }
        Err(message) => report.fault(key, message),
    }
    None
}

fn schedule(section: &mut Section, report: &mut Report) -> Option<RefreshSchedule> {
    let cron: Option<Cron> = section.optional("schedule", report);
    let every: Option<Duration> = section.optional("every", report);
    if cron.is_some() && every.is_some() {
        report.fault(section.key("every"), "cannot be set beside schedule");
    }
    if every.is_some_and(|every| every < EVERY_MIN) {
        report.fault(section.key("every"), "is less than 1m");
    }
    let cron = cron.map(RefreshSchedule::Cron);
    cron.or(every.map(RefreshSchedule::Every))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_section(text: &str) -> (Option<RefreshConfig>, Vec<String>) {
        let mut report = Report::default();
        let section = Section::at("refresh".to_owned(), text.parse().unwrap());
        let config = read(section, &mut report);
        let faults = report.faults.iter();
        (config, faults.map(ToString::to_string).collect())
    }

    #[test]
    fn sections_of_the_documentation_are_read() {
        let (config, faults) = read_section(
            "source = 'postgres://backup@replica.internal/mathspace'\nmethod = 'logical'\n\
             schedule = '0 3 * * *'\ntimezone = 'Australia/Sydney'\n\
             exclude_table_data = ['audit.*']\npassfile = '/etc/multidb/pgpass'",
        );
        assert_eq!(faults, Vec::<String>::new());
        let config = config.unwrap();
        let now = "2026-01-31T00:00:00Z".parse().unwrap();
        let schedule = config.schedule.unwrap();
        let next = schedule.next_after(now, &config.timezone).unwrap();
        assert_eq!(next.to_string(), "2026-01-31T16:00:00Z");
        let period = schedule.period(now, &config.timezone).unwrap();
        assert_eq!(period, SignedDuration::from_hours(24));
        let (config, faults) =
            read_section("source = { command = ['/bin/dump', '-v'] }\nevery = '24h'");
        assert_eq!(faults, Vec::<String>::new());
        assert!(matches!(
            config.unwrap().source,
            Some(RefreshSource::Command(_))
        ));
    }

    #[test]
    fn sections_with_faults_are_refused_by_key() {
        let url = "source = 'postgres://h/d'\n";
        for (text, expected) in [
            (
                String::new(),
                "refresh: has neither a source nor an incoming folder",
            ),
            (
                "source = 'postgres://u:p@h/d'".to_owned(),
                "refresh.source: has a password",
            ),
            (
                "source = { command = [] }".to_owned(),
                "refresh.source.command: is empty",
            ),
            (
                "source = { command = ['dump'] }".to_owned(),
                "refresh.source.command: must begin with the absolute path",
            ),
            (
                "source = { command = ['/d'] }\nmethod = 'logical'".to_owned(),
                "refresh.method: is for a source that is a URL",
            ),
            (
                format!("{url}exclude_table = ['x']"),
                "refresh.exclude_table: needs method",
            ),
            (
                format!("{url}schedule = '61 * * * *'"),
                "refresh.schedule: \"61 * * * *\" is not",
            ),
            (
                format!("{url}every = '1s'"),
                "refresh.every: is less than 1m",
            ),
            (
                format!("{url}every = '1h'\nschedule = '@daily'"),
                "refresh.every: cannot be set beside schedule",
            ),
            (
                format!("{url}timezone = 'Nowhere/Here'"),
                "refresh.timezone: \"Nowhere/Here\" is not",
            ),
            (
                "incoming = '/d'\nevery = '1h'".to_owned(),
                "refresh: has a schedule, but no source",
            ),
            (
                format!("{url}when = 'now'"),
                "refresh.when: is not a known key",
            ),
        ] {
            let (_, faults) = read_section(&text);
            let [fault] = faults.as_slice() else {
                panic!("{text}: {faults:?}");
            };
            assert!(fault.contains(expected), "{text}: {fault}");
        }
    }
}
