//! One job: long work that outlives the command that began it.

use jiff::Timestamp;

use crate::ids::{JobId, ProjectName, SnapshotId};

/// The longest text of a record's failure or warning, in bytes. A record has room for all of them.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// The warnings that a record keeps.
const WARNINGS_MAX: usize = 8;

/// One job, as sled holds it and as commands show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its number.
    pub id: JobId,
    /// The kind of work.
    pub kind: JobKind,
    /// The project that it works for.
    pub project: ProjectName,
    /// The snapshot that it makes, if it makes one.
    pub snapshot: Option<SnapshotId>,
    /// How far it is.
    pub state: JobState,
    /// Its current step, or its last one after the end; none before the first.
    pub step: Option<String>,
    /// The bytes done in this step.
    pub bytes_done: u64,
    /// The bytes to do in this step, where they are known.
    pub bytes_total: Option<u64>,
    /// When it began to run; none while it is queued.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed, if it did.
    pub failure: Option<JobFailure>,
    /// Remarks that are no failure, oldest first. Their number and length are limited.
    pub warnings: Vec<String>,
}

/// A kind of long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// The import of a snapshot.
    Import,
    /// A project's next snapshot, from its configured source.
    Refresh,
    /// Snapshots of a project come to share the blocks that they have in common.
    Dedup,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It waits until fewer jobs run.
    Queued,
    /// It runs, or is cleaned up.
    Running,
    /// It has done its work.
    Done,
    /// It failed, and nothing is left of it.
    Failed,
    /// It was cancelled, and nothing is left of it.
    Cancelled,
}

/// Why a job failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFailure {
    /// A stable word in `snake_case`, for programs.
    pub code: String,
    /// In one line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// Advice.
    pub hint: Option<String>,
}

impl JobKind {
    /// Its name in commands and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Dedup => "dedup",
            Self::Refresh => "refresh",
        }
    }
}

impl JobState {
    /// Its name in commands and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job has ended; no ended job changes any more.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Done | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl JobRecord {
    /// A job that waits to run.
    pub fn queued(
        id: JobId,
        kind: JobKind,
        project: ProjectName,
        snapshot: Option<SnapshotId>,
    ) -> Self {
        Self {
            id,
            kind,
            project,
            snapshot,
            state: JobState::Queued,
            step: None,
            bytes_done: 0,
            bytes_total: None,
            started_at: None,
            ended_at: None,
            failure: None,
            warnings: Vec::new(),
        }
    }

    /// Notes that it runs.
    pub fn begin(&mut self, now: Timestamp) {
        self.state = JobState::Running;
        self.started_at = Some(now);
    }

    /// Notes that a step has begun, of which nothing is done yet.
    pub fn set_step(&mut self, step: &str) {
        self.step = Some(step.to_owned());
        self.bytes_done = 0;
        self.bytes_total = None;
    }

    /// Adds a warning; warnings beyond the limit are dropped.
    pub fn add_warning(&mut self, warning: &str) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(limited(warning.to_owned()));
        }
    }

    /// Notes that it ended as `Done` or `Cancelled`.
    pub fn end(&mut self, state: JobState, now: Timestamp) {
        debug_assert!(state.is_ended(), "{state:?} is not an end");
        self.state = state;
        self.ended_at = Some(now);
    }

    /// Notes that it failed. Long texts are cut, so that the record stays within its limit.
    pub fn fail(&mut self, failure: JobFailure, now: Timestamp) {
        self.end(JobState::Failed, now);
        self.failure = Some(JobFailure {
            code: failure.code,
            message: limited(failure.message),
            detail: failure.detail.map(limited),
            hint: failure.hint.map(limited),
        });
    }
}

/// A text of bounded length, cut between two characters.
fn limited(mut text: String) -> String {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev();
    let boundary = end.into_iter().find(|at| text.is_char_boundary(*at));
    text.truncate(boundary.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_texts_fit_into_a_record() {
        let project = "p".repeat(63).parse().unwrap();
        let mut job = JobRecord::queued(JobId::FIRST, JobKind::Import, project, None);
        let long = "ä".repeat(100_000);
        for _ in 0..100 {
            job.add_warning(&long);
        }
        let failure = JobFailure {
            code: "import_failed".to_owned(),
            message: long.clone(),
            detail: Some(long.clone()),
            hint: Some(long),
        };
        job.fail(failure, Timestamp::UNIX_EPOCH);
        let bytes = crate::codec::encode_job(&job).unwrap();
        assert_eq!(crate::codec::decode_job(&bytes).unwrap(), job);
    }
}
