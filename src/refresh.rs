//! When the next refresh of a project is due, and after how many failures.
//!
//! Pure: the history is read from the records of jobs and snapshots, and the time is given. A refresh that was missed,
//! by a daemon that was off or by a clock that jumped ahead, is due once; a clock that is set back does not postpone the next
//! one by more than a period, since a time in the future counts as now.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use multidb_actors::observed_clock::Moment;
use multidb_store::{JobId, JobKind, JobRecord, JobState, ProjectName, SnapshotId};

use crate::config::RefreshSchedule;

/// The pause after the first failure; it doubles with each one.
const RETRY_DELAY: Duration = Duration::from_secs(60);
/// The longest pause.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60 * 60);
/// The characters of a project's name that the id of a snapshot begins with; a time follows.
const NAME_CHARS_MAX: usize = 40;
/// Likewise for a derived snapshot, whose id has a word more.
const DERIVED_CHARS_MAX: usize = 38;
/// The time in the id of a snapshot, UTC.
const ID_TIME: &str = "%Y%m%d-%H%M%S";
/// Its length.
const ID_TIME_CHARS: usize = 15;

/// The id of a snapshot that a refresh makes: the project and the time of its beginning.
pub fn snapshot_id(project: &ProjectName, begun: Timestamp) -> String {
    format!("{}-{}", short(project), begun.strftime(ID_TIME))
}

/// The id of a snapshot from the folder of incoming dumps, which is no refresh.
pub fn incoming_id(project: &ProjectName, begun: Timestamp) -> String {
    format!("{}-in-{}", short(project), begun.strftime(ID_TIME))
}

/// The id of a snapshot that is derived from an instance, which is no refresh.
pub fn derived_id(project: &ProjectName, begun: Timestamp) -> String {
    let short: String = short(project).chars().take(DERIVED_CHARS_MAX).collect();
    format!("{short}-derived-{}", begun.strftime(ID_TIME))
}

/// When the refresh that made this snapshot began; none if none of the project's did.
fn begun_of(project: &ProjectName, id: &SnapshotId) -> Option<Timestamp> {
    let rest = id.as_str().strip_prefix(&short(project))?;
    let time = rest.strip_prefix('-')?.get(..ID_TIME_CHARS)?;
    let time = DateTime::strptime(ID_TIME, time).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

fn short(project: &ProjectName) -> String {
    project.as_str().chars().take(NAME_CHARS_MAX).collect()
}

/// The refreshes of a project so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Whether a refresh runs or is queued.
    pub is_running: bool,
    /// When the last one began that ended well.
    pub success_begun: Option<Timestamp>,
    /// When it ended.
    pub success_ended: Option<Timestamp>,
    /// When the last cancelled one began, if none has ended well since.
    pub cancelled_begun: Option<Timestamp>,
    /// The refreshes that failed since, newest first.
    pub failed: Vec<JobRecord>,
}

impl History {
    /// The history by the records of jobs, in the order of their numbers, and by the snapshots, whose records outlive
    /// the records of the jobs.
    pub fn of(project: &ProjectName, jobs: &[JobRecord], snapshots: &[SnapshotId]) -> Self {
        let mut history = Self::default();
        let is_own = |job: &&JobRecord| job.kind == JobKind::Refresh && job.project == *project;
        for job in jobs.iter().rev().filter(is_own) {
            match job.state {
                JobState::Queued | JobState::Running => history.is_running = true,
                JobState::Failed if history.cancelled_begun.is_none() => {
                    history.failed.push(job.clone());
                }
                JobState::Failed => {}
                JobState::Cancelled if history.cancelled_begun.is_none() => {
                    history.cancelled_begun = job.started_at.or(job.ended_at);
                }
                JobState::Cancelled => {}
                JobState::Done => {
                    history.success_begun = job.started_at;
                    history.success_ended = job.ended_at;
                    break;
                }
            }
        }
        let made = snapshots
            .iter()
            .filter_map(|id| begun_of(project, id))
            .max();
        if history.success_begun.is_none() {
            (history.success_begun, history.success_ended) = (made, made);
        }
        history
    }
}

/// Whether a refresh is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// One runs.
    Running,
    /// It begins now, as the attempt of this number.
    Now {
        /// 1, unless the last one failed.
        attempt: usize,
    },
    /// Not before this time.
    At(Timestamp),
    /// Never again.
    Never,
}

/// The plan for one project. It starts anew with the daemon.
#[derive(Debug)]
pub struct Plan {
    schedule: RefreshSchedule,
    zone: TimeZone,
    /// After it comes the next refresh.
    last: Option<Timestamp>,
    /// The beginning in the history that `last` was taken from.
    known: Option<Timestamp>,
    /// The last failure that was seen.
    seen: Option<JobId>,
    /// Attempts that did not become a job, since the last attempt that did.
    not_begun: usize,
    /// When the next attempt is due, by the boot-time clock.
    retry_at: Option<Duration>,
}

impl Plan {
    /// A plan for this schedule.
    pub fn new(schedule: RefreshSchedule, zone: TimeZone) -> Self {
        Self {
            schedule,
            zone,
            last: None,
            known: None,
            seen: None,
            not_begun: 0,
            retry_at: None,
        }
    }

    /// Whether a refresh is due at this moment.
    pub fn look(&mut self, history: &History, now: Moment) -> Due {
        if history.is_running {
            self.not_begun = 0;
            self.retry_at = None;
            return Due::Running;
        }
        let known = history.success_begun.max(history.cancelled_begun);
        if known != self.known {
            self.known = known;
            self.last = known;
            self.not_begun = 0;
            self.retry_at = None;
        }
        // The clock was set back.
        self.last = self.last.map(|last| last.min(now.wall));
        if let Some(retry_at) = self.retry(history, now) {
            let failures = history.failed.len() + self.not_begun;
            return match retry_at.checked_sub(now.since_boot) {
                None | Some(Duration::ZERO) => Due::Now {
                    attempt: failures + 1,
                },
                Some(left) => Due::At(now.wall.checked_add(left).unwrap_or(Timestamp::MAX)),
            };
        }
        let last = match (&self.schedule, self.last) {
            (_, Some(last)) => last,
            // There is no snapshot to wait with.
            (RefreshSchedule::Every(_), None) => return Due::Now { attempt: 1 },
            (RefreshSchedule::Cron(_), None) => *self.last.insert(now.wall),
        };
        match self.schedule.next_after(last, &self.zone) {
            Some(next) if next <= now.wall => Due::Now { attempt: 1 },
            Some(next) => Due::At(next),
            None => Due::Never,
        }
    }

    /// The time of the schedule after this one.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.schedule.next_after(time, &self.zone)
    }

    /// An attempt did not become a job.
    pub fn failed_to_begin(&mut self, history: &History, now: Moment) {
        self.not_begun += 1;
        let failures = history.failed.len() + self.not_begun;
        self.retry_at = Some(now.since_boot + delay(failures));
    }

    /// When the next attempt after a failure is due.
    fn retry(&mut self, history: &History, now: Moment) -> Option<Duration> {
        let last = history.failed.first().map(|job| job.id);
        if last.is_some() && last != self.seen {
            self.not_begun = 0;
            self.retry_at = Some(now.since_boot + delay(history.failed.len()));
        }
        if last.is_none() && self.not_begun == 0 {
            self.retry_at = None;
        }
        self.seen = last;
        self.retry_at
    }
}

/// The pause after so many failures.
fn delay(failures: usize) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX);
    RETRY_DELAY.saturating_mul(factor).min(RETRY_DELAY_MAX)
}

#[cfg(test)]
mod tests;
