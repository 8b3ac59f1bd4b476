//! The actors of the instances.

use super::*;
use crate::instance::InstanceDeps;

/// The actor of one instance.
pub(super) struct Entry {
    pub(super) addr: Addr<InstanceActor>,
    /// The state that outlives it.
    pub(super) shared: SharedState,
    /// When it was rebuilt after it had ended by a defect.
    pub(super) revivals: Vec<tokio::time::Instant>,
    pub(super) life: ActorLife,
}

/// Whether an instance has its actor.
pub(super) enum ActorLife {
    /// It has.
    Alive,
    /// It has ended and is being rebuilt. The drop wakes the waiters.
    Rebuilding(Vec<oneshot::Sender<()>>),
    /// It ends, since the instance gets another name. The drop wakes the waiters.
    Renaming(Vec<oneshot::Sender<()>>),
    /// It kept ending by a defect, and is not rebuilt by itself any more.
    GivenUp,
}

impl Supervisor {
    /// The actor of an instance. An instance that was not used since the start gets its actor now.
    pub(super) fn actor_of(
        &mut self,
        record: &InstanceRecord,
        ctx: &mut Context<Self>,
    ) -> Addr<InstanceActor> {
        if let Some(entry) = self.actors.get(&record.name) {
            return entry.addr.clone();
        }
        let origin = match self.table.get(&record.name) {
            Some(InstanceStatus {
                state: State::Unavailable { then, .. },
                failure,
                ..
            }) => Origin::Unavailable(then, failure.unwrap_or(InstanceError::Died)),
            _ => Origin::Stopped,
        };
        self.launch(record.clone(), origin, SharedState::default(), ctx)
    }

    /// Starts the actor of an instance.
    pub(super) fn launch(
        &mut self,
        record: InstanceRecord,
        origin: Origin,
        shared: SharedState,
        ctx: &mut Context<Self>,
    ) -> Addr<InstanceActor> {
        let name = record.name.clone();
        let deps = InstanceDeps {
            runtime: self.deps.runtime.clone(),
            probe: self.deps.probe.clone(),
            worker: self.deps.worker.clone(),
            slots: self.slots.clone(),
            free_slot: ctx.address().recipient(),
            limits: self.deps.limits.clone(),
            clock: self.deps.clock.clone(),
            epochs: self.deps.epochs.clone(),
            leftovers: self.leftovers.clone(),
            metrics: self.deps.metrics.clone(),
            history: self.deps.history.clone(),
        };
        let publisher = self.table.publisher(name.clone(), self.ended.clone());
        let addr = InstanceActor::launch(record, origin, deps, publisher, shared.clone());
        let entry = Entry {
            addr: addr.clone(),
            shared,
            revivals: Vec::new(),
            life: ActorLife::Alive,
        };
        self.actors.insert(name, entry);
        addr
    }
}
