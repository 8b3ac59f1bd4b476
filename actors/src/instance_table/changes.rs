//! Changes among the instances, for readers outside: each is told of every instance once, then of the instances that
//! changed since it last asked. So a reader that asks every few seconds walks no table, and costs nothing while nothing
//! happens; and a short state, such as a failure that is over, is not lost between two questions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use multidb_store::InstanceName;

use crate::instance::InstanceStatus;
use crate::instance::lifecycle::State;

/// The changes that one reader has not taken yet. The table stops to keep them when this is dropped.
#[derive(Debug)]
pub struct InstanceChanges(Arc<Pending>);

/// The change of the instance of one name.
#[derive(Debug, Clone, Default)]
pub struct InstanceChange {
    /// Its status now; none if it is gone.
    pub status: Option<InstanceStatus>,
    /// Each failure that it had meanwhile, once: also one that is over, or of an instance that is gone.
    pub failures: Vec<InstanceStatus>,
}

#[derive(Debug, Default)]
struct Pending(Mutex<BTreeMap<InstanceName, InstanceChange>>);

/// The readers of a table.
#[derive(Debug, Default)]
pub(super) struct Readers(Vec<Weak<Pending>>);

impl InstanceChanges {
    /// The instances that changed since this was called last, by name. Never waits.
    pub fn take(&mut self) -> BTreeMap<InstanceName, InstanceChange> {
        std::mem::take(&mut *self.0.changes())
    }
}

impl Pending {
    fn changes(&self) -> MutexGuard<'_, BTreeMap<InstanceName, InstanceChange>> {
        // Each change is whole when the lock is free.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: &InstanceName, status: Option<&InstanceStatus>) {
        let mut changes = self.changes();
        let change = changes.entry(name.clone()).or_default();
        if let Some(failed) = status
            && is_failed(failed)
            && !change.failures.iter().any(|one| is_same(one, failed))
        {
            change.failures.push(failed.clone());
        }
        change.status = status.cloned();
    }
}

impl Readers {
    /// A reader that is first told of these.
    pub(super) fn add<'a>(
        &mut self,
        all: impl Iterator<Item = (&'a InstanceName, &'a InstanceStatus)>,
    ) -> InstanceChanges {
        let pending = Arc::new(Pending::default());
        all.for_each(|(name, status)| pending.add(name, Some(status)));
        self.0.push(Arc::downgrade(&pending));
        InstanceChanges(pending)
    }

    /// Tells all readers.
    pub(super) fn tell(&mut self, name: &InstanceName, status: Option<&InstanceStatus>) {
        self.0.retain(|reader| {
            let reader = reader.upgrade();
            if let Some(pending) = &reader {
                pending.add(name, status);
            }
            reader.is_some()
        });
    }
}

/// Whether an instance has failed, with its reason.
fn is_failed(status: &InstanceStatus) -> bool {
    matches!(status.state, State::Failed) && status.failure.is_some()
}

/// Whether two failures are of one kind, and of the same clone.
fn is_same(one: &InstanceStatus, other: &InstanceStatus) -> bool {
    let code = |status: &InstanceStatus| status.failure.as_ref().map(|failure| failure.code());
    one.record.uid == other.record.uid && code(one) == code(other)
}
