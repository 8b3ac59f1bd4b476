//! NOTICEs about how a session's instance came to be, and beside answers of the console. The session goes on.

use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{Class, InstanceName, InstanceRecord, SnapshotId, TakenAtOrigin};

use crate::instance::Beginning;
use crate::ports::Unconfirmed;
use crate::request::Source;
use crate::text::{self, about, quoted};

/// The digits of a commit in a message.
const COMMIT_DIGITS: usize = 12;

/// A NOTICE of multidb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientNotice {
    /// The message, without the prefix.
    pub message: String,
    /// The DETAIL.
    pub detail: Option<String>,
    /// The HINT.
    pub hint: Option<String>,
}

impl ClientNotice {
    /// The instance was created for this session, from a snapshot of this age.
    pub fn created(instance: &InstanceName, snapshot: &SnapshotId, age: Duration) -> Self {
        Self {
            message: format!(
                "created instance \"{instance}\" from snapshot \"{snapshot}\", taken {} ago",
                about(age)
            ),
            detail: None,
            hint: None,
        }
    }

    /// A notice for a client of the console, beside the answer to its statement.
    pub fn of_console(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// How long that took.
    pub fn took(self, beginning: Beginning) -> Self {
        let start = beginning.start.as_millis();
        let took = match beginning.clone {
            Some(clone) => format!("clone {} ms, start {start} ms", clone.as_millis()),
            None => format!("start {start} ms"),
        };
        Self {
            message: format!("{} ({took})", self.message),
            ..self
        }
    }

    /// The scratch instance was cloned afresh.
    pub fn renewed(record: &InstanceRecord) -> Self {
        Self {
            message: format!(
                "scratch instance \"{}\" ended uncleanly and was cloned afresh from snapshot \"{}\"",
                record.name, record.snapshot
            ),
            detail: Some("It runs without fsync. What was written to it is lost.".to_owned()),
            hint: Some(
                "Use another instance name without \"class:scratch\" for what has to survive a crash."
                    .to_owned(),
            ),
        }
    }

    /// The instance was created for this session, as a clone of another one.
    pub fn created_from(instance: &InstanceName, parent: &InstanceName) -> Self {
        Self {
            message: format!("created instance \"{instance}\" from instance \"{parent}\""),
            detail: None,
            hint: None,
        }
    }

    /// The instance exists already, and is no clone of the one that the client names.
    pub fn other_parent(record: &InstanceRecord, from: &InstanceName) -> Self {
        let instance = &record.name;
        let origin = match &record.parent {
            Some(parent) => format!("instance \"{parent}\""),
            None => format!("snapshot \"{}\"", record.snapshot),
        };
        Self {
            message: format!("instance \"{instance}\" exists already, from {origin}"),
            detail: Some(format!("\"from:{from}\" does not apply to it.")),
            hint: Some("Use another instance name to get a new clone.".to_owned()),
        }
    }

    /// The source is a date, which has no time zone.
    pub fn of_date(self, source: &Source) -> Self {
        let date = format!("\"{source}\" is the end of that day in UTC.");
        Self {
            detail: Some(match self.detail {
                Some(detail) => format!("{date} {detail}"),
                None => date,
            }),
            hint: Some(
                "For another time zone give a time with its offset, such as \"asof:2026-01-31T23:59:59+11:00\", under another instance name."
                    .to_owned(),
            ),
            ..self
        }
    }

    /// The time of the snapshot is not exact.
    pub fn of_guessed_time(
        self,
        snapshot: &SnapshotId,
        taken_at: Timestamp,
        origin: TakenAtOrigin,
    ) -> Self {
        let guess = match origin {
            TakenAtOrigin::Known => return self,
            TakenAtOrigin::AssumedZone => {
                "the dump has its time without a time zone, and that of the importing machine was assumed"
            }
            TakenAtOrigin::FileTime => "the dump has no time, and its file was last changed then",
            TakenAtOrigin::ImportTime => "the dump has no time, and was imported then",
        };
        Self {
            detail: Some(format!(
                "Snapshot \"{snapshot}\" counts as taken at {taken_at:.0}: {guess}."
            )),
            hint: Some("An import with --taken-at tells when the data was taken.".to_owned()),
            ..self
        }
    }

    /// The remote did not answer, so that its revision may have moved.
    pub fn unconfirmed(self, gitref: &str, commit: &str, unconfirmed: Unconfirmed) -> Self {
        let gitref = quoted(gitref);
        let short = commit.get(..COMMIT_DIGITS).unwrap_or(commit);
        let as_of = match unconfirmed.age {
            Some(age) => format!("as it was {} ago", about(age)),
            None => "as it was at an unknown time".to_owned(),
        };
        Self {
            detail: Some(format!(
                "The git remote does not answer: {gitref} is commit {short}, {as_of}."
            )),
            hint: Some(format!(
                "If {gitref} has moved since, connect under another instance name when the remote answers."
            )),
            ..self
        }
    }

    /// The instance exists already, and the client's source would choose another snapshot now.
    pub fn other_snapshot(
        instance: &InstanceName,
        snapshot: &SnapshotId,
        source: &Source,
        now: &SnapshotId,
    ) -> Self {
        Self {
            message: format!(
                "instance \"{instance}\" exists already, created from snapshot \"{snapshot}\""
            ),
            detail: Some(format!(
                "\"{source}\" would choose snapshot \"{now}\" now, but applies only to a new instance."
            )),
            hint: Some("Use another instance name to get a new instance.".to_owned()),
        }
    }

    /// The instance exists already, with another time to live or class than the client's.
    pub fn other_lifetime(
        record: &InstanceRecord,
        ttl: Option<Duration>,
        class: Option<Class>,
    ) -> Self {
        let ttl = ttl.map(|ttl| {
            let has = record.ttl.map_or_else(|| "none".to_owned(), text::duration);
            format!("Its ttl is {has}, not {}.", text::duration(ttl))
        });
        let class = class.map(|class| format!("Its class is {}, not {class}.", record.class));
        let differences: Vec<String> = ttl.into_iter().chain(class).collect();
        Self {
            message: format!(
                "instance \"{}\" exists already, with another lifetime",
                record.name
            ),
            detail: Some(differences.join(" ")),
            hint: Some(
                "\"ttl\" and \"class\" apply only to a new instance; use another instance name to get one."
                    .to_owned(),
            ),
        }
    }

    /// The instance exists already, and the snapshot that the client's source would choose is unknown.
    pub fn source_ignored(instance: &InstanceName, source: &Source) -> Self {
        Self {
            message: format!("instance \"{instance}\" exists already, so \"{source}\" was ignored"),
            detail: None,
            hint: None,
        }
    }
}
