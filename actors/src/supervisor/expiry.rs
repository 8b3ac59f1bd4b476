//! The sweep: marks instances that were not used for the retention time, and deletes marked ones after their grace.
//!
//! It only proposes: each InstanceActor decides by its own record, see [`Expire`]. It goes a few instances at a time,
//! so that a client's new instance does not wait behind thousands of deletions, and [`DeletionRate`] bounds the
//! deletions of an hour. While the clocks disagree, nothing expires.

use multidb_store::{ObservedTime, StoredTime};

use super::clock_watch::ClockWatch;
use super::deletion_rate::DeletionRate;
use super::retention::ExpiryStep;
use super::*;
use crate::clone_worker::PutTime;
use crate::instance::{Expire, ExpiryAnswer};
use crate::observed_clock::Moment;
use crate::text;

/// How often the sweep looks for expired instances at most. Short periods make it more often.
pub(super) const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(60);
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The delay before the sweep goes on where more instances have expired than it handles at a time.
const SWEEP_CONTINUE_DELAY: Duration = Duration::from_millis(100);
/// The instances that are marked at a time.
const MARKS_MAX: usize = 16;
/// The instances that are deleted at a time.
const DELETIONS_MAX: usize = 16;
/// The shortest interval between two writes of the observed time.
const STORE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The progress of expiry.
#[derive(Debug)]
pub(super) struct Expiry {
    interval: Duration,
    /// The time for which the log is not told again of too many deletions.
    window: Duration,
    watch: ClockWatch,
    rate: DeletionRate,
    /// The last instance that the current sweep has reached with a mark, and with a deletion.
    marked_to: Option<Timed>,
    deleted_to: Option<Timed>,
    /// The instances that have not answered yet whether they delete themselves.
    asked: usize,
    /// The observed time that was written last.
    stored: ObservedTime,
    /// When the log was last told that more instances have expired than may be deleted.
    told: Option<ObservedTime>,
}

/// The state of expiry, for `multidb status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryStatus {
    /// The instances that are marked as expired.
    pub marked: usize,
    /// For how long expiry waits until the clocks have agreed; none where it goes on.
    pub paused_for: Option<Duration>,
}

impl Expiry {
    pub(super) fn new(limits: &Limits, now: Moment, last_expiry: Option<ObservedTime>) -> Self {
        let interval = limits.retention.min(limits.expiry_grace) / 10;
        let window = limits.expiry_window();
        Self {
            interval: interval.clamp(SWEEP_INTERVAL_MIN, SWEEP_INTERVAL_MAX),
            window,
            watch: ClockWatch::new(now, window),
            rate: DeletionRate::new(window, last_expiry),
            marked_to: None,
            deleted_to: None,
            asked: 0,
            stored: now.observed,
            told: None,
        }
    }

    /// Looks at the clocks, and returns whether they have agreed for long enough.
    fn clocks_agree(&mut self, now: Moment) -> bool {
        let jump = self.watch.look(now);
        let remaining = self.watch.remaining(now.observed);
        if let Some(jump) = jump {
            tracing::warn!(
                jump_s = jump.as_secs(),
                paused_for = text::duration(remaining.unwrap_or_default()),
                "the wall clock jumped, no instance expires until it has agreed with the boot-time clock"
            );
        }
        remaining.is_none()
    }
}

impl Supervisor {
    pub(super) fn sweep_later(&self, ctx: &mut Context<Self>) {
        ctx.run_later(self.expiry.interval, Self::sweep);
    }

    /// The state of expiry.
    pub(super) fn expiry_status(&self) -> ExpiryStatus {
        let now = self.deps.clock.now();
        ExpiryStatus {
            marked: self.table.count_marked(),
            paused_for: self.expiry.watch.remaining(now.observed),
        }
    }

    /// Marks and deletes expired instances, and calls itself again.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let now = self.deps.clock.now();
        self.store_time(now.observed, ctx);
        let goes_on = self.expiry.clocks_agree(now) && !self.draining && {
            let more_to_mark = self.mark_expired(now.observed, ctx);
            let more_to_delete = self.delete_expired(now.observed, ctx);
            more_to_mark || more_to_delete
        };
        if goes_on {
            ctx.run_later(SWEEP_CONTINUE_DELAY, Self::sweep);
        } else {
            self.sweep_later(ctx);
        }
    }

    /// Writes the observed time now and then. Time not written is lost in a crash, and the clock is late by it.
    fn store_time(&mut self, now: ObservedTime, ctx: &mut Context<Self>) {
        let interval = self.expiry.interval.max(STORE_INTERVAL_MIN);
        if now.since(self.expiry.stored) < interval {
            return;
        }
        self.expiry.stored = now;
        let put = self.deps.worker.send(PutTime(StoredTime::Observed, now));
        let put = put.into_actor(self).map(|result, _, _| match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = multidb_store::error_chain(&error);
                tracing::error!(
                    error,
                    "the observed time was not written, a later sweep retries"
                );
            }
            Err(error) => tracing::error!(%error, "the clone workers have ended"),
        });
        ctx.spawn(put);
    }

    /// Marks some of the expired instances. Returns whether there may be more of them.
    fn mark_expired(&mut self, now: ObservedTime, ctx: &mut Context<Self>) -> bool {
        let after = self.expiry.marked_to.take();
        let due = self
            .table
            .due(ExpiryStep::Mark, now, after.as_ref(), MARKS_MAX);
        for (_, name) in &due {
            let Some(status) = self.table.get(name) else {
                continue;
            };
            let mark = Expire(ExpiryStep::Mark);
            // A full mailbox means that it is in use: the next sweep sees that.
            if let Err(error) = self.actor_of(&status.record, ctx).try_send(mark) {
                tracing::debug!(instance = %name, %error, "an instance did not take its mark");
            }
        }
        if due.len() < MARKS_MAX {
            return false;
        }
        self.expiry.marked_to = due.last().cloned();
        true
    }

    /// Deletes some of the instances whose grace is over. Returns whether there may be more of them.
    fn delete_expired(&mut self, now: ObservedTime, ctx: &mut Context<Self>) -> bool {
        let in_deletion = self.table.count_in(StateName::Deleting);
        let existing = self.table.count().saturating_sub(in_deletion);
        let permitted = self.expiry.rate.permitted(existing, now);
        let permitted = permitted.saturating_sub(self.expiry.asked);
        if permitted == 0 {
            self.tell_of_too_many(now);
            return self.expiry.asked > 0;
        }
        let deleting = in_deletion + self.expiry.asked;
        let max = permitted.min(DELETIONS_MAX.saturating_sub(deleting));
        if max == 0 {
            return true;
        }
        let after = self.expiry.deleted_to.take();
        let due = self.table.due(ExpiryStep::Delete, now, after.as_ref(), max);
        let Some(last) = due.last().cloned() else {
            // The next sweep begins with the instances that could not be deleted.
            return false;
        };
        self.expiry.deleted_to = Some(last);
        self.expiry.asked += due.len();
        let stored = self.deps.worker.send(PutTime(StoredTime::LastExpiry, now));
        let stored = stored.into_actor(self).map(move |result, actor, ctx| {
            // Without it, a restart could exceed the rate.
            let failure = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(multidb_store::error_chain(&error)),
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = &failure {
                tracing::error!(error, "expired instances are not deleted yet");
            }
            for (_, name) in due {
                match failure {
                    None => actor.delete_one(name, ctx),
                    Some(_) => actor.expiry.asked -= 1,
                }
            }
        });
        ctx.spawn(stored);
        true
    }

    fn delete_one(&mut self, name: InstanceName, ctx: &mut Context<Self>) {
        let Some(status) = self.table.get(&name) else {
            self.expiry.asked -= 1;
            return;
        };
        let expire = Expire(ExpiryStep::Delete);
        let answer = self.actor_of(&status.record, ctx).send(expire);
        let answer = answer.into_actor(self).map(move |answer, actor, _| {
            actor.expiry.asked -= 1;
            match answer {
                Ok(ExpiryAnswer::Begun) => {
                    let now = actor.deps.clock.now();
                    actor.expiry.rate.note(now.observed);
                }
                Ok(ExpiryAnswer::Declined) => {}
                Err(error) => {
                    tracing::debug!(instance = %name, %error, "an instance did not take its expiry");
                }
            }
        });
        ctx.spawn(answer);
    }

    /// Logs, at most once in each window, that more instances have expired than may be deleted.
    fn tell_of_too_many(&mut self, now: ObservedTime) {
        let expiry = &mut self.expiry;
        let is_told = |at: ObservedTime| now.since(at) < expiry.window;
        if expiry.told.is_some_and(is_told) {
            return;
        }
        let expired = self.table.count_due(ExpiryStep::Delete, now);
        if expired > 0 {
            expiry.told = Some(now);
            tracing::error!(
                expired,
                instances = self.table.count(),
                within = text::duration(expiry.window),
                "more instances have expired than a tenth of all, the rest is deleted later; pin those that are needed"
            );
        }
    }
}
