//! Instances that came into memory while their runtime was away, and have no actor.
//!
//! All of them are looked for together as soon as the runtime answers again. An instance that a client or a command
//! needs earlier gets an actor, which looks for itself.

use super::*;
use crate::instance::{RunLeases, SharedState, origin};

/// The delay before the runtime is asked again; it doubles each time.
const ASK_DELAY: Duration = Duration::from_secs(1);
const ASK_DELAY_MAX: Duration = Duration::from_secs(15);

impl Supervisor {
    /// Looks for the servers of the unavailable instances once the runtime answers again. Servers of a runtime that is
    /// not configured wait for a restart.
    pub(super) fn await_runtime(&self, ctx: &mut Context<Self>) {
        let kind = self.deps.runtime.kind();
        let is_awaited = move |status: &InstanceStatus| status.record.runtime == Some(kind);
        if !self.unavailable().iter().any(is_awaited) {
            return;
        }
        let runtime = self.deps.runtime.clone();
        let answered = async move {
            let mut delay = ASK_DELAY;
            loop {
                tokio::time::sleep(delay).await;
                if runtime.available().await.is_ok() {
                    return runtime.running().await;
                }
                delay = (2 * delay).min(ASK_DELAY_MAX);
            }
        };
        ctx.spawn(answered.into_actor(self).map(move |mut found, actor, ctx| {
            for status in actor.unavailable() {
                let record = Arc::unwrap_or_clone(status.record);
                let slot = || actor.slots.try_acquire().map(RunLeases::new);
                let found = found.take(&record);
                let origin = origin(&record, found, slot());
                actor.place(record, origin, ctx);
            }
            if !actor.unavailable().iter().any(is_awaited) {
                tracing::info!("the runtime answers again, its instances are available");
            }
            actor.await_runtime(ctx);
        }));
    }

    /// Gives an instance its row, and an actor if there is something to do.
    pub(super) fn place(
        &mut self,
        record: InstanceRecord,
        origin: Origin,
        ctx: &mut Context<Self>,
    ) {
        match origin {
            // Its actor is started when a client or an administrator needs it.
            Origin::Stopped => self.table.insert_stopped(record),
            Origin::Unavailable(AfterStop::Stopped, why) => {
                self.table.insert_unavailable(record, why);
            }
            origin => {
                if matches!(origin, Origin::Stop(AfterStop::Stopped)) {
                    tracing::info!(instance = %record.name, "its postgres is stopped: no slot is free");
                }
                self.launch(record, origin, SharedState::default(), ctx);
            }
        }
    }

    /// The unavailable instances without an actor. Walks the table.
    fn unavailable(&self) -> Vec<InstanceStatus> {
        let filter = InstanceFilter {
            state: Some(StateName::Unavailable),
            ..InstanceFilter::default()
        };
        let mut listed = self.table.list(&filter);
        listed.retain(|status| !self.actors.contains_key(&status.record.name));
        listed
    }
}
