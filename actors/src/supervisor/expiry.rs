//! The sweep: deletes the instances that were not used for the retention time.
//!
//! Expired instances are deleted a few at a time, so that a client's new instance does not wait behind
//! thousands of deletions in the queue of the CloneWorker.

use super::*;
use crate::instance::Control;
use crate::instance::lifecycle::Command;

/// How often the sweep looks for expired instances at most. A short retention makes it more often.
pub(super) const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(60);
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The delay before the sweep goes on where more instances have expired than it may delete at a time.
const SWEEP_CONTINUE_DELAY: Duration = Duration::from_millis(100);
/// The instances that are deleted at a time.
const DELETIONS_MAX: usize = 16;

impl Supervisor {
    pub(super) fn sweep_later(&self, ctx: &mut Context<Self>) {
        let interval = (self.deps.limits.retention / 10).min(SWEEP_INTERVAL_MAX);
        let interval = interval.max(SWEEP_INTERVAL_MIN);
        ctx.run_later(interval, Self::sweep);
    }

    /// Deletes expired instances, and calls itself again.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let deleting = self.table.count_in(StateName::Deleting);
        let max = DELETIONS_MAX.saturating_sub(deleting);
        let after = self.swept_to.as_ref();
        let expired = self.table.expired(self.deps.clock.now().wall, after, max);
        for (_, name) in &expired {
            self.expire(name, ctx);
        }
        if expired.len() < max {
            // The next sweep begins with the ones that could not be deleted.
            self.swept_to = None;
            return self.sweep_later(ctx);
        }
        self.swept_to = expired.last().cloned().or(self.swept_to.take());
        ctx.run_later(SWEEP_CONTINUE_DELAY, Self::sweep);
    }

    fn expire(&mut self, name: &InstanceName, ctx: &mut Context<Self>) {
        let Some(InstanceStatus { record, .. }) = self.table.get(name) else {
            return;
        };
        tracing::info!(instance = %name, last_used_at = %record.last_used_at, "instance expires");
        let expire = Control(Command::Expire);
        // A full mailbox means that it is in use: the next sweep sees that.
        if let Err(error) = self.actor_of(&record, ctx).try_send(expire) {
            tracing::debug!(instance = %name, %error, "an instance did not take its expiry");
        }
    }
}
