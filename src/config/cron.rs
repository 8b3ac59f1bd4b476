//! Cron expressions with a time zone.

use std::cmp::Ordering;

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDateTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

use super::value::{Value, string, text};

/// A cron expression of five fields, or a nickname such as `@daily`.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    cron: Box<croner::Cron>,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl Cron {
    /// The first of its times after this one. A time that a change of the clocks skips is made up for right after the
    /// gap; one that they repeat counts once, unless it comes each hour or minute.
    pub(super) fn next_after(&self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let time = LocalTime(time.to_zoned_datetime(zone.clone()));
        let found = self.cron.find_next_occurrence(&time, false);
        found.ok().map(|found| found.0.timestamp())
    }
}

#[cfg(test)]
impl Cron {
    /// For tests.
    pub fn example(text: &str) -> Self {
        Self::read(&toml::Value::String(text.to_owned())).expect("it is a cron expression")
    }
}

impl Value for Cron {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = text(value, "\"0 3 * * *\"")?;
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| {
            format!("\"{text}\" is not a cron expression such as \"0 3 * * *\": {error}")
        })?;
        let cron = Self {
            text: text.to_owned(),
            cron: Box::new(cron),
        };
        match cron.next_after(Timestamp::UNIX_EPOCH, &TimeZone::UTC) {
            Some(_) => Ok(cron),
            None => Err(format!("\"{text}\" is a time that never comes")),
        }
    }

    fn show(&self) -> toml::Value {
        string(&self.text)
    }
}

/// A time in its time zone.
#[derive(Debug, Clone)]
struct LocalTime(ZonedDateTime);

impl CronDateTime for LocalTime {
    fn to_civil(&self) -> CivilDateTime {
        let [month, day, hour, minute, second] = [
            self.0.month(),
            self.0.day(),
            self.0.hour(),
            self.0.minute(),
            self.0.second(),
        ]
        // None of jiff's is negative.
        .map(|part| u32::from(part.unsigned_abs()));
        let year = i32::from(self.0.year());
        CivilDateTime::from_ymd_hms_opt(year, month, day, hour, minute, second)
            .unwrap_or_else(|| unreachable!("jiff keeps the parts of {} in their ranges", self.0))
    }

    fn civil_weekday(&self) -> Weekday {
        match self.0.weekday() {
            jiff::civil::Weekday::Monday => Weekday::Monday,
            jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
            jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
            jiff::civil::Weekday::Thursday => Weekday::Thursday,
            jiff::civil::Weekday::Friday => Weekday::Friday,
            jiff::civil::Weekday::Saturday => Weekday::Saturday,
            jiff::civil::Weekday::Sunday => Weekday::Sunday,
        }
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let invalid = |_| CronError::InvalidTime;
        let civil: DateTime = civil.to_string().parse().map_err(invalid)?;
        let ambiguous = self.0.time_zone().to_ambiguous_zoned_datetime(civil);
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
            AmbiguousOffset::Unambiguous { .. } => {
                Resolution::Single(Self(ambiguous.unambiguous().map_err(invalid)?))
            }
            AmbiguousOffset::Fold { .. } => {
                let earlier = ambiguous.clone().earlier().map_err(invalid)?;
                Resolution::Ambiguous(Self(earlier), Self(ambiguous.later().map_err(invalid)?))
            }
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let sum = self.0.checked_add(SignedDuration::from_secs(seconds));
        sum.ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(text: &str) -> Result<Cron, String> {
        Cron::read(&toml::Value::String(text.to_owned()))
    }

    #[track_caller]
    fn assert_times(text: &str, zone: &str, after: &str, expected: &[&str]) {
        let (cron, zone) = (cron(text).unwrap(), TimeZone::get(zone).unwrap());
        let mut time: Timestamp = after.parse().unwrap();
        for expected in expected {
            time = cron.next_after(time, &zone).unwrap();
            assert_eq!(time.to_string(), *expected, "{text}");
        }
    }

    #[test]
    fn times_are_those_of_the_time_zone_also_where_its_clocks_change() {
        let nightly = "0 3 * * *";
        assert_times(
            nightly,
            "Australia/Sydney",
            "2026-01-31T00:00:00Z",
            &["2026-01-31T16:00:00Z", "2026-02-01T16:00:00Z"],
        );
        // The clocks skip 2:30 on the 29th of March and repeat it on the 25th of October.
        assert_times(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T02:00:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        );
        assert_times(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        assert_times(
            "@weekly",
            "UTC",
            "2026-01-31T00:00:00.5Z",
            &["2026-02-01T00:00:00Z", "2026-02-08T00:00:00Z"],
        );
    }

    #[test]
    fn expressions_that_mean_nothing_are_refused() {
        for text in [
            "",
            "* * * *",
            "61 * * * *",
            "0 0 0 3 * *",
            "0 0 30 2 *",
            "nightly",
        ] {
            let error = cron(text).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
