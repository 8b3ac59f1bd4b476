//! What happens when an instance's actor has ended.
//!
//! In order when the instance is gone. Otherwise by a defect (a panic in a handler ends that actor
//! only), and it is rebuilt from what it last showed and from what runs; a bounded number of
//! times, so that a defect that repeats itself does not spin.

use std::time::Duration;

use super::*;

/// So often an actor is rebuilt within [`REVIVALS_WINDOW`].
const REVIVALS_MAX: usize = 5;
const REVIVALS_WINDOW: Duration = Duration::from_secs(600);

impl Supervisor {
    pub(super) fn actor_ended(&mut self, name: &InstanceName, ctx: &mut Context<Self>) {
        let Some(entry) = self.instances.get_mut(name) else {
            return;
        };
        let status = entry.status.borrow().clone();
        if status.state == State::Gone {
            self.instances.remove(name);
            return;
        }
        if self.draining {
            return;
        }
        let now = tokio::time::Instant::now();
        entry
            .revivals
            .retain(|at| now.saturating_duration_since(*at) < REVIVALS_WINDOW);
        if entry.revivals.len() >= REVIVALS_MAX {
            tracing::error!(
                instance = %name,
                revivals = REVIVALS_MAX,
                "an instance's actor keeps ending, restart multidb and report this defect"
            );
            return;
        }
        entry.revivals.push(now);
        let revivals = entry.revivals.clone();
        tracing::error!(instance = %name, state = status.state.name(), "an instance's actor ended, it is rebuilt");
        let runtime = self.deps.runtime.clone();
        let found = async move { runtime.running().await };
        let found = found.into_actor(self).map(move |found, actor, ctx| {
            let found = found.unwrap_or_else(|error| {
                tracing::error!(
                    error = multidb_store::error_chain(&error),
                    "cannot tell what runs"
                );
                Vec::new()
            });
            let uid = status.record.uid;
            let running = found.into_iter().find(|found| found.uid == uid);
            let origin = match (running, actor.slots.try_acquire()) {
                (Some(found), Some(slot)) => Origin::Adopt(found.postgres, slot),
                _ => super::restore::origin_at_rest(&status.record),
            };
            actor.launch(status.record, origin, revivals, ctx);
        });
        ctx.spawn(found);
    }
}
