//! InstanceTable: the status of every instance, and the counts and orders by which the Supervisor decides.
//!
//! Each InstanceActor publishes its status here, through its [`StatusPublisher`]; the Supervisor reads. An instance
//! that has not been used since the start has a row and no actor. No decision walks the rows: every change passes
//! through [`Rows::replace`], which keeps the counts and the orders up to date.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use multidb_store::{InstanceName, InstanceRecord, ObservedTime, ProjectName, SnapshotId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::instance::lifecycle::{AfterStop, Job, Look, State, StateName};
use crate::instance::{InstanceError, InstanceStatus};
use crate::supervisor::retention::{self, Due, ExpiryPeriods, ExpiryStep};

mod changes;

pub use self::changes::{InstanceChange, InstanceChanges};

use self::changes::Readers;

/// The table, shared by the Supervisor and the instances.
#[derive(Debug, Clone)]
pub struct InstanceTable(Arc<Mutex<Rows>>);

/// An instance and the time by which it is ordered.
pub type Timed = (ObservedTime, InstanceName);

/// Which instances a list has. The default is all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InstanceFilter {
    /// Only instances of this project.
    pub project: Option<ProjectName>,
    /// Only instances in this state.
    pub state: Option<StateName>,
    /// Only instances that this multidb user created.
    pub created_by: Option<String>,
    /// Only instances whose names come after this one.
    pub after: Option<InstanceName>,
    /// At most this number of them, the first ones by name.
    pub limit: Option<usize>,
}

/// The numbers of instances.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InstanceCounts {
    /// In each state that has any.
    pub by_state: BTreeMap<StateName, usize>,
    /// Made from each snapshot that has any.
    pub by_snapshot: BTreeMap<SnapshotId, usize>,
}

/// Publishes the status of one instance for its actor. Dropped with the actor, which is how the Supervisor
/// learns that the actor has ended: in order, or by a panic.
#[derive(Debug)]
pub struct StatusPublisher {
    name: InstanceName,
    table: InstanceTable,
    /// The record that was published last.
    record: Option<Arc<InstanceRecord>>,
    ended: mpsc::UnboundedSender<ActorEnded>,
}

/// The actor of this instance has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorEnded(pub InstanceName);

#[derive(Debug, Default)]
struct Rows {
    by_name: BTreeMap<InstanceName, InstanceStatus>,
    counts: InstanceCounts,
    by_creator: HashMap<String, usize>,
    /// The running instances that are unused, by last use in observed time.
    evictable: BTreeSet<Timed>,
    /// The number of instances that stop, without instances whose stop failed.
    releasing: usize,
    /// The instances that expire if they stay as they are, by the time of the next step: unmarked ones to be marked,
    /// and marked ones to be deleted.
    to_mark: BTreeSet<Timed>,
    to_delete: BTreeSet<Timed>,
    /// The number of records with a mark.
    marked: usize,
    periods: ExpiryPeriods,
    readers: Readers,
}

impl InstanceTable {
    /// An empty table of instances that expire after these periods without use.
    pub fn new(periods: ExpiryPeriods) -> Self {
        Self(Arc::new(Mutex::new(Rows {
            periods,
            ..Rows::default()
        })))
    }

    /// The rows are consistent whenever the lock is free: nothing in [`Rows`] panics.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an instance that does not run and has no actor.
    pub fn insert_stopped(&self, record: InstanceRecord) {
        self.publish(InstanceStatus::unused(record, State::Stopped));
    }

    /// Adds an instance without an actor, whose Postgres may run or not.
    pub fn insert_unavailable(&self, record: InstanceRecord, why: InstanceError) {
        let state = State::Unavailable {
            job: Job::default(),
            look: Look::Later,
            then: AfterStop::Stopped,
        };
        self.publish(InstanceStatus {
            failure: Some(why),
            ..InstanceStatus::unused(record, state)
        });
    }

    /// Publishes the status of an instance without an actor.
    pub fn publish(&self, status: InstanceStatus) {
        let name = status.record.name.clone();
        self.rows().replace(&name, Some(status));
    }

    /// The publisher for the actor of an instance. It sends the name to `ended` when it is dropped.
    pub fn publisher(
        &self,
        name: InstanceName,
        ended: mpsc::UnboundedSender<ActorEnded>,
    ) -> StatusPublisher {
        StatusPublisher {
            name,
            table: self.clone(),
            record: None,
            ended,
        }
    }

    /// All instances now, and from now on the changed ones.
    pub fn changes(&self) -> InstanceChanges {
        let mut rows = self.rows();
        let Rows {
            by_name, readers, ..
        } = &mut *rows;
        readers.add(by_name.iter())
    }

    /// Removes an instance that is gone.
    pub fn remove(&self, name: &InstanceName) {
        self.rows().replace(name, None);
    }

    /// The status of one instance.
    pub fn get(&self, name: &InstanceName) -> Option<InstanceStatus> {
        self.rows().by_name.get(name).cloned()
    }

    /// The number of all instances.
    pub fn count(&self) -> usize {
        self.rows().by_name.len()
    }

    /// The number of instances that are marked as expired.
    pub fn count_marked(&self) -> usize {
        self.rows().marked
    }

    /// The numbers of instances by state and by snapshot.
    pub fn counts(&self) -> InstanceCounts {
        self.rows().counts.clone()
    }

    /// The number of instances in this state.
    pub fn count_in(&self, state: StateName) -> usize {
        let rows = self.rows();
        rows.counts.by_state.get(&state).copied().unwrap_or(0)
    }

    /// The number of instances made from this snapshot.
    pub fn count_of(&self, snapshot: &SnapshotId) -> usize {
        let rows = self.rows();
        rows.counts.by_snapshot.get(snapshot).copied().unwrap_or(0)
    }

    /// The number of instances that this user created.
    pub fn count_created_by(&self, user: &str) -> usize {
        self.rows().by_creator.get(user).copied().unwrap_or(0)
    }

    /// The first `max` instances made from this snapshot, by name. Walks the table.
    pub fn names_of(&self, snapshot: &SnapshotId, max: usize) -> Vec<InstanceName> {
        let rows = self.rows();
        let made = rows.by_name.values();
        let made = made.filter(|status| status.record.snapshot == *snapshot);
        let names = made.map(|status| status.record.name.clone());
        names.take(max).collect()
    }

    /// The instances that the filter lets through, by name. Walks the table from [`InstanceFilter::after`]
    /// to the last one that is returned.
    pub fn list(&self, filter: &InstanceFilter) -> Vec<InstanceStatus> {
        let start = match &filter.after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let rows = self.rows();
        let listed = rows.by_name.range((start, Bound::Unbounded));
        let listed = listed.map(|(_, status)| status);
        let listed = listed.filter(|status| filter.matches(status));
        let limit = filter.limit.unwrap_or(usize::MAX);
        listed.take(limit).cloned().collect()
    }

    /// The running instances without use or waiting clients whose residency is over, the least recently used one
    /// first. At most `max_running`.
    pub fn evictable(&self, now: Instant) -> Vec<InstanceName> {
        let rows = self.rows();
        let evictable = rows.evictable.iter().map(|(_, name)| name);
        let evictable = evictable.filter(|name| {
            let status = rows.by_name.get(*name);
            let until = status.and_then(|status| status.resident_until);
            until.is_none_or(|until| until <= now)
        });
        evictable.cloned().collect()
    }

    /// The number of instances that stop and will release their slots. One whose stop failed may never do so.
    pub fn count_releasing(&self) -> usize {
        self.rows().releasing
    }

    /// At most `max` of the instances for which this step of their expiry is due, in order, from behind `after`.
    pub fn due(
        &self,
        step: ExpiryStep,
        now: ObservedTime,
        after: Option<&Timed>,
        max: usize,
    ) -> Vec<Timed> {
        let start = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let mut rows = self.rows();
        let expiring = rows.expiring(step).range((start, Bound::Unbounded));
        let due = expiring.take_while(|(at, _)| *at <= now);
        due.take(max).cloned().collect()
    }

    /// The number of instances for which this step is due. Walks them.
    pub fn count_due(&self, step: ExpiryStep, now: ObservedTime) -> usize {
        let mut rows = self.rows();
        let expiring = rows.expiring(step).iter();
        expiring.take_while(|(at, _)| *at <= now).count()
    }
}

impl InstanceFilter {
    fn matches(&self, status: &InstanceStatus) -> bool {
        let record = &status.record;
        self.project.as_ref().is_none_or(|p| *p == record.project)
            && self
                .state
                .is_none_or(|s| s == StateName::from(status.state))
            && self
                .created_by
                .as_ref()
                .is_none_or(|user| *user == record.created_by)
    }
}

impl StatusPublisher {
    /// Publishes the status of the instance, made with its record. A record that has not changed is
    /// shared with the status that was published last.
    pub fn publish(
        &mut self,
        record: &InstanceRecord,
        status: impl FnOnce(Arc<InstanceRecord>) -> InstanceStatus,
    ) {
        let record = match &self.record {
            Some(published) if **published == *record => published.clone(),
            _ => self.record.insert(Arc::new(record.clone())).clone(),
        };
        let status = status(record);
        self.table.rows().replace(&self.name, Some(status));
    }
}

impl Drop for StatusPublisher {
    fn drop(&mut self) {
        // The channel is closed only when the Supervisor has ended.
        let _closed = self.ended.send(ActorEnded(self.name.clone()));
    }
}

impl Rows {
    /// Gives an instance a status, or none if it is gone.
    fn replace(&mut self, name: &InstanceName, status: Option<InstanceStatus>) {
        if let Some(old) = self.by_name.remove(name) {
            self.subtract(&old);
        }
        self.readers.tell(name, status.as_ref());
        if let Some(new) = status {
            self.add(&new);
            self.by_name.insert(name.clone(), new);
        }
    }

    fn add(&mut self, status: &InstanceStatus) {
        let record = &status.record;
        increment(&mut self.counts.by_state, StateName::from(status.state));
        increment(&mut self.counts.by_snapshot, record.snapshot.clone());
        *self
            .by_creator
            .entry(record.created_by.clone())
            .or_default() += 1;
        self.evictable.extend(evictable(status));
        self.releasing += usize::from(is_releasing(status));
        self.marked += usize::from(record.marked.is_some());
        if let Some((step, timed)) = expiring(status, self.periods) {
            self.expiring(step).insert(timed);
        }
    }

    /// The instances in the order of this step.
    fn expiring(&mut self, step: ExpiryStep) -> &mut BTreeSet<Timed> {
        match step {
            ExpiryStep::Mark => &mut self.to_mark,
            ExpiryStep::Delete => &mut self.to_delete,
        }
    }

    fn subtract(&mut self, status: &InstanceStatus) {
        let record = &status.record;
        decrement(&mut self.counts.by_state, &StateName::from(status.state));
        decrement(&mut self.counts.by_snapshot, &record.snapshot);
        if let Some(count) = self.by_creator.get_mut(&record.created_by) {
            *count -= 1;
            if *count == 0 {
                self.by_creator.remove(&record.created_by);
            }
        }
        if let Some(used) = evictable(status) {
            self.evictable.remove(&used);
        }
        self.releasing -= usize::from(is_releasing(status));
        self.marked -= usize::from(record.marked.is_some());
        if let Some((step, timed)) = expiring(status, self.periods) {
            self.expiring(step).remove(&timed);
        }
    }
}

fn increment<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The place in the order of eviction; none for an instance that is not to be stopped for another one.
fn evictable(status: &InstanceStatus) -> Option<(ObservedTime, InstanceName)> {
    let is_running = matches!(status.state, State::Running { .. });
    let record = &status.record;
    (is_running && status.unused).then(|| (record.last_used_observed, record.name.clone()))
}

fn is_releasing(status: &InstanceStatus) -> bool {
    let is_stopping = matches!(status.state, State::Stopping { .. });
    is_stopping && !matches!(status.failure, Some(InstanceError::Stop(_)))
}

/// The next step of the expiry and the place in its order; none for an instance that does not expire as it is.
fn expiring(status: &InstanceStatus, periods: ExpiryPeriods) -> Option<(ExpiryStep, Timed)> {
    let is_stopped = matches!(status.state, State::Stopped | State::Failed);
    if !is_stopped || !status.unused {
        return None;
    }
    let Due { step, at } = retention::due(&status.record, periods)?;
    Some((step, (at, status.record.name.clone())))
}

#[cfg(test)]
mod tests;
