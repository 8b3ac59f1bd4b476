//! Runs the effects of the [`RecordWriter`].

use std::time::Duration;

use super::record_writer::{LockedJob, Retry, WriterEffect, WriterEvent};
use super::*;

/// The shortest interval between two writes of the time of last use.
pub(super) const USE_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval between two writes of the time of last use while there are sessions, unless the retention
/// is short. Without them, an instance with one long session could expire after a crash of the daemon.
const USE_INTERVAL_OPEN: Duration = Duration::from_secs(60);
/// The delay before a failed write is retried; it doubles each time.
const WRITE_RETRY_DELAY: Duration = Duration::from_secs(1);
const WRITE_RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

impl InstanceActor {
    /// Notes in the record that a client or an administrator uses the instance now.
    pub(super) fn note_use(&mut self) {
        let now = self.deps.clock.now();
        let record = &mut self.record;
        record.last_used_at = record.last_used_at.max(now.wall);
        record.last_used_observed = record.last_used_observed.max(now.observed);
        record.marked = None;
    }

    /// Notes a use, and writes it at most once in [`USE_INTERVAL`].
    pub(super) fn touch(&mut self, ctx: &mut Context<Self>) {
        self.note_use();
        self.step_writer(WriterEvent::Used, ctx);
    }

    /// Updates the time of last use regularly while the run has sessions.
    pub(super) fn keep_touching(&mut self, run: Job, ctx: &mut Context<Self>) {
        let retention = self.deps.limits.retention;
        let lifetime = self.record.ttl.map_or(retention, |ttl| ttl.min(retention));
        let interval = (lifetime / 10).min(USE_INTERVAL_OPEN);
        ctx.run_later(interval.max(USE_INTERVAL), move |actor, ctx| {
            if !matches!(actor.life.state(), State::Running { job, .. } if job == run) {
                return;
            }
            if actor.life.sessions() > 0 {
                actor.touch(ctx);
                actor.settle(ctx);
            }
            actor.keep_touching(run, ctx);
        });
    }

    /// Applies one event to the record writer and runs the effects.
    pub(super) fn step_writer(&mut self, event: WriterEvent, ctx: &mut Context<Self>) {
        for effect in self.writer.step(event) {
            match effect {
                WriterEffect::Write(copies) => self.write(copies, ctx),
                WriterEffect::Begin(LockedJob::Clone(job, why)) => self.begin_clone(job, why, ctx),
                WriterEffect::Begin(LockedJob::Delete(job)) => self.begin_delete(job, ctx),
                WriterEffect::ArmUseInterval => {
                    ctx.run_later(USE_INTERVAL, |actor, ctx| {
                        actor.step_writer(WriterEvent::UseIntervalElapsed, ctx);
                    });
                }
                WriterEffect::ArmRetry { retry, failures } => {
                    self.retry_write(retry, failures, ctx)
                }
                WriterEffect::AnswerPins { count, outcome } => {
                    let result = match (outcome, &self.write_failure) {
                        (Outcome::Failed, Some(error)) => {
                            Err(InstanceError::Storage(error.clone()))
                        }
                        (Outcome::Failed, None) => Err(InstanceError::Died),
                        (Outcome::Done, _) => Ok(()),
                    };
                    self.answer_pins(count, &result);
                }
                WriterEffect::RefusePins => {
                    self.answer_pins(self.pins.len(), &Err(InstanceError::Deleted));
                }
            }
        }
    }

    fn write(&mut self, copies: Copies, ctx: &mut Context<Self>) {
        let has_mark = self.record.marked.is_some();
        self.record.sequence += 1;
        let record = self.record.clone();
        let persist = Persist(record.clone(), copies);
        let writes = self.shared.writes();
        let written = writes.run(&self.deps.worker, persist, |()| {
            Written::Record(Box::new(record))
        });
        let written = written.into_actor(self).map(move |result, actor, ctx| {
            actor.write_failure = result.err();
            let outcome = match actor.write_failure {
                None => {
                    actor.mark_may_be_stored = has_mark || actor.record.marked.is_some();
                    Outcome::Done
                }
                Some(_) => Outcome::Failed,
            };
            actor.step_writer(WriterEvent::Written(outcome), ctx);
        });
        ctx.spawn(written);
    }

    fn retry_write(&mut self, retry: Retry, failures: u32, ctx: &mut Context<Self>) {
        let delay = backoff(WRITE_RETRY_DELAY, WRITE_RETRY_DELAY_MAX, failures);
        tracing::error!(
            instance = %self.record.name,
            uid = %self.record.uid,
            attempts = failures,
            delay_ms = delay.as_millis() as u64,
            error = self.write_failure.as_ref().map(|error| multidb_store::error_chain(error)),
            "record was not written, retrying"
        );
        ctx.run_later(delay, move |actor, ctx| {
            actor.step_writer(WriterEvent::RetryElapsed(retry), ctx);
        });
    }

    fn answer_pins(&mut self, count: usize, result: &Result<(), InstanceError>) {
        for reply in self.pins.drain(..count.min(self.pins.len())) {
            if reply.send(result.clone()).is_err() {
                tracing::debug!("the caller of a pin has gone");
            }
        }
    }
}

/// The delay after this number of failures in a row.
pub(super) fn backoff(first: Duration, max: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(max)
}
