//! The present state, as [`Occurrence`]s with stable keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix::prelude::*;
use bytesize::ByteSize;
use jiff::{SignedDuration, Timestamp};
use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance::lifecycle::State;
use multidb_actors::observed_clock::Moment;
use multidb_actors::snapshot_index::ListSnapshots;
use multidb_actors::supervisor::Supervisor;
use multidb_actors::supervisor::retention::{ExpiryPeriods, expires_at};
use multidb_store::{JobId, JobKind, JobRecord, JobState, Pin, SnapshotPin, error_chain};

use crate::config::NotifyEvent;
use crate::control::advice::advice;
use crate::control::{Control, ControlError};
use crate::instances::{Followed, IsWanted};
use crate::notify::message::{Occurrence, Subject};

/// A pin that ends within this time is told.
const PIN_NOTICE: SignedDuration = SignedDuration::from_hours(24);
/// A snapshot that is older than so many periods of the schedule is late.
const PERIODS_MAX: u32 = 2;

/// The facts about instances that are kept between two looks.
pub(super) struct Watched {
    /// The instances of which there is something to tell, now or later.
    instances: Followed<IsWanted>,
    /// The failures that were not told yet, by key: also failures that are over.
    failures: BTreeMap<String, Occurrence>,
    pins: Pins,
}

impl Watched {
    pub(super) async fn new(supervisor: &Addr<Supervisor>) -> Result<Self, MailboxError> {
        let wanted: IsWanted = is_watched;
        Ok(Self {
            instances: Followed::new(supervisor, wanted).await?,
            failures: BTreeMap::new(),
            pins: Pins::default(),
        })
    }

    /// Forgets the failures of which this says that they were told.
    pub(super) fn forget_failures(&mut self, is_told: impl Fn(&str) -> bool) {
        self.failures.retain(|key, _| !is_told(key));
    }
}

/// Whether there is something to tell of an instance, now or later.
fn is_watched(status: &InstanceStatus) -> bool {
    let record = &status.record;
    record.marked.is_some()
        || matches!(record.pin, Pin::Until(_))
        || matches!(status.state, State::Failed)
}

/// The pins that end later than they are told. A pin that was never among them was made for a short time, and its user
/// knows its end.
#[derive(Debug, Default)]
pub(super) struct Pins {
    far: BTreeSet<String>,
    short: BTreeSet<String>,
    /// The first look sees pins whose end came near while no daemon ran.
    has_looked: bool,
}

impl Pins {
    /// Whether the pin's end is to be told.
    fn is_ending(&mut self, key: &str, until: Timestamp, now: Timestamp) -> bool {
        let left = until.duration_since(now);
        if left > PIN_NOTICE {
            self.far.insert(key.to_owned());
            return false;
        }
        if !left.is_positive() || self.short.contains(key) {
            return false;
        }
        let is_told = self.far.contains(key) || !self.has_looked;
        if is_told {
            // For as long as it is near.
            self.far.insert(key.to_owned());
        } else {
            self.short.insert(key.to_owned());
        }
        is_told
    }

    /// Forgets the pins that are not among these.
    fn retain(&mut self, keys: &BTreeSet<String>) {
        self.far.retain(|key| keys.contains(key));
        self.short.retain(|key| keys.contains(key));
        self.has_looked = true;
    }
}

/// The key of a job's end.
pub(super) fn job_key(id: JobId) -> String {
    format!("job/{id}")
}

impl Control {
    /// Everything that is the case.
    pub(super) async fn occurrences(
        &self,
        watched: &mut Watched,
        now: Moment,
    ) -> Result<Vec<Occurrence>, ControlError> {
        let Watched {
            instances,
            failures,
            pins,
        } = watched;
        let mut all = Vec::new();
        let mut pinned = BTreeSet::new();
        let by_key = |failure: Occurrence| (failure.key.clone(), failure);
        failures.extend(instances.update().iter().filter_map(failed).map(by_key));
        let mut all_failures = failures.clone();
        for status in instances.wanted() {
            all.extend(self.expiring(status, now));
            all_failures.extend(failed(status).map(by_key));
            all.extend(instance_pin(status, pins, &mut pinned, now));
        }
        all.extend(all_failures.into_values());
        for snapshot in self.deps.index.send(ListSnapshots).await? {
            let SnapshotPin::Until { at, .. } = snapshot.pin else {
                continue;
            };
            let key = format!("pin_ending/snapshot/{}/{at}", snapshot.id);
            pinned.insert(key.clone());
            if pins.is_ending(&key, at, now.wall) {
                let id = &snapshot.id;
                let subject = Subject {
                    project: Some(snapshot.project.clone()),
                    snapshot: Some(id.clone()),
                    ..Subject::default()
                };
                all.push(Occurrence {
                    key,
                    event: NotifyEvent::PinEnding,
                    subject,
                    message: format!("The pin of snapshot \"{id}\" ends at {}.", time(at)),
                    action: format!(
                        "\"multidb snapshot pin {id} --for 30d\" pins it for longer. Without a pin it is deleted once it is beyond keep and no instance needs it."
                    ),
                });
            }
        }
        pins.retain(&pinned);
        all.extend(self.deps.jobs.list().iter().filter_map(job));
        all.extend(self.refreshes(now).await?);
        all.extend(self.disk()?);
        Ok(all)
    }

    fn expiring(&self, status: &InstanceStatus, now: Moment) -> Option<Occurrence> {
        let record = &status.record;
        let mark = record.marked?;
        let periods = ExpiryPeriods::from(&self.deps.config.limits);
        let name = &record.name;
        let when = match expires_at(record, periods, now) {
            Some(at) => format!(" at {}", time(at)),
            None => String::new(),
        };
        Some(Occurrence {
            key: format!("expiring/{}/{}", record.uid, mark.at),
            event: NotifyEvent::Expiring,
            subject: of_instance(status),
            message: format!(
                "Instance \"{name}\" of {} was last used at {}, and is deleted{when} unless somebody uses or pins it.",
                record.created_by,
                time(record.last_used_at),
            ),
            action: format!(
                "A connection to it keeps it, and so does \"multidb instance pin {name}\"."
            ),
        })
    }

    async fn refreshes(&self, now: Moment) -> Result<Vec<Occurrence>, ControlError> {
        let mut all = Vec::new();
        for (project, refresh) in self.refresh_status().await? {
            let subject = || Subject {
                project: project.parse().ok(),
                ..Subject::default()
            };
            if let Some(error) = &refresh.last_error {
                let since = refresh.last_success_at;
                let since = since.map_or("never".to_owned(), |at| at.to_string());
                let again = match refresh.next_at {
                    Some(at) => format!(" It is tried again at {}.", time(at)),
                    None => String::new(),
                };
                let hint = error.hint.as_deref();
                let hint = hint.unwrap_or("\"multidb job ls\" and the daemon's log have more.");
                all.push(Occurrence {
                    key: format!("refresh_failed/{project}/{since}"),
                    event: NotifyEvent::RefreshFailed,
                    subject: subject(),
                    message: format!(
                        "The refresh of project \"{project}\" failed: {}.{again}",
                        error.message.trim_end_matches('.')
                    ),
                    action: format!("{hint} The snapshots stay as they are."),
                });
            }
            let period = refresh.period_seconds.map(Duration::from_secs);
            let limit =
                period.and_then(|period| SignedDuration::try_from(period * PERIODS_MAX).ok());
            if let (Some(limit), Some(taken)) = (limit, refresh.newest_taken_at)
                && now.wall.duration_since(taken) > limit
            {
                all.push(Occurrence {
                    key: format!("refresh_late/{project}/{taken}"),
                    event: NotifyEvent::RefreshLate,
                    subject: subject(),
                    message: format!(
                        "The newest snapshot of project \"{project}\" is of {}, which is more than two periods of its schedule ago.",
                        time(taken)
                    ),
                    action: "\"multidb job ls\", \"multidb doctor\" and the daemon's log say what became of the refreshes.".to_owned(),
                });
            }
        }
        Ok(all)
    }

    fn disk(&self) -> Result<Vec<Occurrence>, ControlError> {
        let usage = self.deps.cloner.disk_usage()?;
        let config = &self.deps.config;
        let mut all = Vec::new();
        let mut push = |key: &str, message: String, action: &str| {
            all.push(Occurrence {
                key: format!("disk_high/{key}"),
                event: NotifyEvent::DiskHigh,
                subject: Subject::default(),
                message,
                action: action.to_owned(),
            });
        };
        if let Some(mark) = config.disk_high_water
            && usage.bytes_above(mark) > 0
        {
            let message = format!(
                "The disk of the root is {}% full, above limits.disk_high_water of {mark}%. Room is made: expired instances go first, then the least recently used ones.",
                usage.percent()
            );
            push(
                "high_water",
                message,
                "Pin the instances that are needed, remove instances and snapshots that nobody needs, or enlarge the disk. \"multidb doctor\" says what was done.",
            );
        }
        if usage.free_bytes < config.disk_reserve_bytes {
            let message = format!(
                "The disk of the root has {} left, less than limits.disk_reserve of {}: no new instance is made.",
                ByteSize::b(usage.free_bytes),
                ByteSize::b(config.disk_reserve_bytes)
            );
            push(
                "reserve",
                message,
                "Remove instances and snapshots that nobody needs, or enlarge the disk.",
            );
        }
        Ok(all)
    }
}

fn of_instance(status: &InstanceStatus) -> Subject {
    let record = &status.record;
    Subject {
        project: Some(record.project.clone()),
        instance: Some(record.name.clone()),
        snapshot: Some(record.snapshot.clone()),
        job: None,
    }
}

fn failed(status: &InstanceStatus) -> Option<Occurrence> {
    let failure = status.failure.as_ref()?;
    if !matches!(status.state, State::Failed) {
        return None;
    }
    let record = &status.record;
    let name = &record.name;
    let advice = advice(name.as_str(), failure);
    Some(Occurrence {
        key: format!("instance_failed/{}/{}", record.uid, failure.code()),
        event: NotifyEvent::InstanceFailed,
        subject: of_instance(status),
        message: format!("Instance \"{name}\" failed: {}.", error_chain(failure)),
        action: advice.unwrap_or_else(|| format!("\"multidb instance show {name}\" has more.")),
    })
}

fn instance_pin(
    status: &InstanceStatus,
    pins: &mut Pins,
    pinned: &mut BTreeSet<String>,
    now: Moment,
) -> Option<Occurrence> {
    let record = &status.record;
    let Pin::Until(until) = record.pin else {
        return None;
    };
    let key = format!("pin_ending/{}/{until}", record.uid);
    pinned.insert(key.clone());
    let name = &record.name;
    pins.is_ending(&key, until, now.wall).then(|| Occurrence {
        key,
        event: NotifyEvent::PinEnding,
        subject: of_instance(status),
        message: format!("The pin of instance \"{name}\" ends at {}.", time(until)),
        action: format!(
            "\"multidb instance pin {name} --for 30d\" pins it for longer. Without a pin it expires when nobody uses it for limits.retention."
        ),
    })
}

/// The end of a job. A completed de-duplication needs no notice.
fn job(record: &JobRecord) -> Option<Occurrence> {
    let JobRecord {
        id, kind, project, ..
    } = record;
    let what = match (kind, &record.snapshot) {
        (JobKind::Dedup, _) => format!("The de-duplication of project \"{project}\""),
        (_, Some(snapshot)) => format!("The {} of snapshot \"{snapshot}\"", kind.name()),
        (_, None) => format!("The {} of project \"{project}\"", kind.name()),
    };
    let (event, message, action) = match (record.state, &record.failure) {
        (JobState::Done, _) if *kind == JobKind::Dedup => return None,
        (JobState::Done, _) => {
            let message = format!("{what}, job {id}, is done.");
            (
                NotifyEvent::JobDone,
                message,
                "Nothing is to be done.".to_owned(),
            )
        }
        (JobState::Failed, failure) => {
            let error = failure.as_ref().map_or("", |failure| &failure.message);
            let hint = failure.as_ref().and_then(|failure| failure.hint.clone());
            let message = format!("{what}, job {id}, failed: {}.", error.trim_end_matches('.'));
            let show = || format!("\"multidb job show {id}\" has more.");
            (NotifyEvent::JobFailed, message, hint.unwrap_or_else(show))
        }
        (JobState::Queued | JobState::Running | JobState::Cancelled, _) => return None,
    };
    Some(Occurrence {
        key: job_key(*id),
        event,
        subject: Subject {
            project: Some(project.clone()),
            snapshot: record.snapshot.clone(),
            job: Some(*id),
            instance: None,
        },
        message,
        action,
    })
}

/// A time for people.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_is_told_a_day_before_its_end_unless_it_is_shorter() {
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let all: BTreeSet<String> = ["long", "short", "old"].map(str::to_owned).into();
        let mut pins = Pins::default();
        assert!(!pins.is_ending("long", at(48), at(0)));
        assert!(pins.is_ending("old", at(2), at(0)));
        pins.retain(&all);
        for hours in [24, 30, 47] {
            assert!(pins.is_ending("long", at(48), at(hours)), "{hours}");
        }
        assert!(pins.is_ending("old", at(2), at(1)));
        assert!(!pins.is_ending("short", at(2), at(1)));
        assert!(!pins.is_ending("short", at(2), at(1)));
        assert!(!pins.is_ending("old", at(2), at(2)));
        pins.retain(&BTreeSet::new());
        assert!(pins.far.is_empty() && pins.short.is_empty());
    }
}
