//! When the record of an instance is written, as a pure function: `step(event)` returns the effects. No clock, no
//! actor, no I/O.
//!
//! ```text
//!                 ┌─────────────── changed ───────────────┐
//!                 ▼                                        │
//!   clean ──▶ changed ──write──▶ writing ──done──▶ clean ──┘
//!                 ▲                 │
//!                 └──retry delay── failed
//! ```
//!
//! - One write at a time, always of the newest record: of two writes in progress the older could land last, since a
//!   manifest is written by several threads. Changes during a write are written together by the next one.
//! - A clone and a deletion write the record themselves. Each gets the write lock at the end of the write in
//!   progress, and no write begins before the lock is released. After a deletion nothing is written.
//! - A pin, and the removal of a mark, is acknowledged by the write that has it. A change of the last use is written at
//!   most once in [`USE_INTERVAL`](super::persistence::USE_INTERVAL), since sessions begin and end a thousand times a
//!   second.
//! - A failed write is reported to the callers that wait for it and retried: after a delay, or with the next pin.

use crate::clone_worker::Copies;
use crate::instance::lifecycle::{CloneReason, Job, Outcome};

/// The changes of one record that are not durable yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RecordWriter {
    /// The copies that are out of date and in no write in progress.
    unwritten: Option<Copies>,
    /// The callers that wait for the next write to acknowledge their pin, or the removal of a mark.
    pins: usize,
    /// Whether a change of the last use is written at once.
    last_use: LastUse,
    /// The holder of the write lock.
    lock: WriteLock,
    /// The clone or deletion that waits for the write lock.
    wanted: Option<LockedJob>,
    /// The delay after a failed write.
    retry: Option<Retry>,
    /// The number of failed writes since the last one that succeeded.
    failures: u32,
    /// The last number given to a retry.
    last_retry: u64,
}

/// Whether a change of the last use is written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum LastUse {
    /// The last write for a use is an interval ago.
    #[default]
    Due,
    /// Within the interval, and whether there was another use since.
    Recent { again: bool },
}

/// The holder of the write lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum WriteLock {
    #[default]
    Free,
    /// A write, of these copies, which these pins wait for.
    Write { copies: Copies, pins: usize },
    /// A clone or a deletion.
    Job(LockedJob),
    /// The instance is deleted, and nothing is written any more.
    Closed,
}

/// A job that writes the record itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockedJob {
    /// A clone.
    Clone(Job, CloneReason),
    /// The deletion.
    Delete(Job),
}

/// The number of a delay after a failed write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry(u64);

/// An event of the record writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriterEvent {
    /// A session began, goes on or ended.
    Used,
    /// The interval after a write for a use is over.
    UseIntervalElapsed,
    /// The instance stops, after which the daemon may end.
    Stopping,
    /// The pin changed, or the mark of an expiry was removed, and a caller waits until that is durable.
    PinSet,
    /// A change without a waiter.
    Changed(Copies),
    /// The write ended.
    Written(Outcome),
    /// The delay after a failed write is over.
    RetryElapsed(Retry),
    /// A job has to write the record itself.
    LockWanted(LockedJob),
    /// The job ended.
    LockReleased(Outcome),
}

/// An effect that the actor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriterEffect {
    /// Write the record as it is now.
    Write(Copies),
    /// Begin the job: it has the write lock.
    Begin(LockedJob),
    /// Wait for an interval.
    ArmUseInterval,
    /// Wait before the next attempt.
    ArmRetry {
        /// Its number.
        retry: Retry,
        /// How many attempts failed in a row.
        failures: u32,
    },
    /// Tell the callers that have waited the longest for their pin.
    AnswerPins {
        /// How many.
        count: usize,
        /// Whether the pin is durable.
        outcome: Outcome,
    },
    /// Tell all callers that wait for their pin that the instance is deleted.
    RefusePins,
}

impl RecordWriter {
    /// Applies one event.
    #[must_use]
    pub(super) fn step(&mut self, event: WriterEvent) -> Vec<WriterEffect> {
        let mut effects = Vec::new();
        match event {
            WriterEvent::Used => self.used(&mut effects),
            WriterEvent::UseIntervalElapsed => self.use_interval_elapsed(&mut effects),
            WriterEvent::Stopping => self.stopping(),
            WriterEvent::PinSet => {
                self.pins += 1;
                self.add(Copies::DatabaseAndManifest);
            }
            WriterEvent::Changed(copies) => self.add(copies),
            WriterEvent::Written(outcome) => self.written(outcome, &mut effects),
            WriterEvent::RetryElapsed(retry) => {
                if self.retry == Some(retry) {
                    self.retry = None;
                }
            }
            WriterEvent::LockWanted(job) => {
                debug_assert_eq!(self.wanted, None, "an instance has one job at a time");
                self.wanted = Some(job);
            }
            WriterEvent::LockReleased(outcome) => self.released(outcome),
        }
        self.lock_next(&mut effects);
        effects
    }

    /// Gives the write lock to the next job or write, if it is free.
    fn lock_next(&mut self, effects: &mut Vec<WriterEffect>) {
        match self.lock {
            WriteLock::Free => {}
            WriteLock::Closed if self.pins > 0 => {
                self.pins = 0;
                effects.push(WriterEffect::RefusePins);
                return;
            }
            WriteLock::Write { .. } | WriteLock::Job(_) | WriteLock::Closed => return,
        }
        if let Some(job) = self.wanted.take() {
            self.lock = WriteLock::Job(job);
            effects.push(WriterEffect::Begin(job));
            return;
        }
        if self.retry.is_some() && self.pins == 0 {
            return;
        }
        if let Some(copies) = self.unwritten.take() {
            self.retry = None;
            let pins = std::mem::take(&mut self.pins);
            self.lock = WriteLock::Write { copies, pins };
            effects.push(WriterEffect::Write(copies));
        }
    }

    fn add(&mut self, copies: Copies) {
        self.unwritten = Some(match self.unwritten {
            Some(Copies::DatabaseAndManifest) => Copies::DatabaseAndManifest,
            Some(Copies::Database) | None => copies,
        });
    }

    fn used(&mut self, effects: &mut Vec<WriterEffect>) {
        match self.last_use {
            LastUse::Due => self.write_use(effects),
            LastUse::Recent { .. } => self.last_use = LastUse::Recent { again: true },
        }
    }

    fn use_interval_elapsed(&mut self, effects: &mut Vec<WriterEffect>) {
        match self.last_use {
            LastUse::Recent { again: true } => self.write_use(effects),
            LastUse::Recent { again: false } | LastUse::Due => self.last_use = LastUse::Due,
        }
    }

    fn write_use(&mut self, effects: &mut Vec<WriterEffect>) {
        self.last_use = LastUse::Recent { again: false };
        self.add(Copies::Database);
        effects.push(WriterEffect::ArmUseInterval);
    }

    /// Writes all changes at once.
    fn stopping(&mut self) {
        if self.last_use == (LastUse::Recent { again: true }) {
            self.last_use = LastUse::Recent { again: false };
            self.add(Copies::Database);
        }
        self.retry = None;
    }

    fn written(&mut self, outcome: Outcome, effects: &mut Vec<WriterEffect>) {
        let WriteLock::Write { copies, pins } = self.lock else {
            return;
        };
        self.lock = WriteLock::Free;
        match outcome {
            Outcome::Done => self.failures = 0,
            Outcome::Failed => {
                self.add(copies);
                self.failures = self.failures.saturating_add(1);
                self.last_retry += 1;
                let retry = Retry(self.last_retry);
                self.retry = Some(retry);
                let failures = self.failures;
                effects.push(WriterEffect::ArmRetry { retry, failures });
            }
        }
        if pins > 0 {
            let count = pins;
            effects.push(WriterEffect::AnswerPins { count, outcome });
        }
    }

    fn released(&mut self, outcome: Outcome) {
        let WriteLock::Job(job) = self.lock else {
            return;
        };
        self.lock = match (job, outcome) {
            (LockedJob::Delete(_), Outcome::Done) => WriteLock::Closed,
            (LockedJob::Delete(_), Outcome::Failed) | (LockedJob::Clone(..), _) => WriteLock::Free,
        };
        // The job has written another record, or may have, which does not count.
        match (job, outcome) {
            (
                LockedJob::Delete(_) | LockedJob::Clone(_, CloneReason::Reset | CloneReason::Renew),
                Outcome::Failed,
            ) => {
                self.add(Copies::Database);
            }
            (LockedJob::Delete(_) | LockedJob::Clone(..), _) => {}
        }
        self.retry = None;
    }
}

#[cfg(test)]
mod tests;
