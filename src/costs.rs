//! The disk space that is an instance's or a snapshot's alone, measured in the background and kept in memory.
//!
//! On XFS and on Btrfs alike the shared flag of FIEMAP tells it exactly. Btrfs' own accounting, quota groups, would
//! have to be switched on for the whole file system, and slows down each write and each deletion of a snapshot.
//!
//! One tree is measured at a time, with the lowest priority for the disk, in at most a fifth of the time: a new one
//! soon, an instance again after it has stopped and now and then while it runs, and all of them after the snapshots or
//! their shared blocks have changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use jiff::Timestamp;
use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance::lifecycle::State;
use multidb_actors::instance_table::InstanceFilter;
use multidb_actors::snapshot_index::{ListSnapshots, SnapshotIndex};
use multidb_actors::supervisor::{CountInstances, Supervisor};
use multidb_store::{InstanceUid, Layout, SnapshotId, SnapshotRecord};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clone::{exclusive_bytes, instance_bytes};
use crate::dedup::{Deduplicator, yield_to_others};
use crate::fsutil::beneath::TreeError;
use crate::instances::Pages;

/// The delay between two looks for trees that are to be measured.
const INTERVAL: Duration = Duration::from_secs(1);
/// A running instance is measured again after this time. Its files are written to the disk for it.
const RUNNING_INTERVAL: Duration = Duration::from_secs(600);
/// After a measurement the disk rests for so many times its duration.
const REST_FACTOR: u32 = 4;

/// The measured sizes.
#[derive(Debug, Default)]
pub struct Costs(Mutex<Measured>);

/// The disk space of the measured instances and snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// The bytes that are exclusive to one of them.
    pub exclusive_bytes: u64,
    /// The part of `exclusive_bytes` that is exclusive to instances.
    pub instances_bytes: u64,
    /// The bytes that full copies would take beyond the used bytes.
    pub saved_bytes: u64,
}

#[derive(Debug, Default)]
struct Measured {
    instances: HashMap<InstanceUid, OfInstance>,
    snapshots: HashMap<SnapshotId, OfSnapshot>,
    /// The bytes that de-duplication has freed.
    deduplicated: u64,
    /// Counts the changes of the inputs on which the sizes of all trees depend.
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
struct OfInstance {
    bytes: u64,
    /// The bytes of its snapshot, which a full copy would take.
    full_bytes: u64,
    last_used_at: Timestamp,
    was_stopped: bool,
    generation: u64,
    at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct OfSnapshot {
    bytes: u64,
    had_instances: bool,
    generation: u64,
}

impl Costs {
    /// The bytes exclusive to the clone; `None` until it was measured.
    pub fn of_instance(&self, uid: InstanceUid) -> Option<u64> {
        self.lock().instances.get(&uid).map(|one| one.bytes)
    }

    /// The bytes exclusive to the snapshot; `None` until it was measured.
    pub fn of_snapshot(&self, id: &SnapshotId) -> Option<u64> {
        self.lock().snapshots.get(id).map(|one| one.bytes)
    }

    /// The sums; `None` until anything was measured.
    pub fn totals(&self) -> Option<Totals> {
        let measured = self.lock();
        if measured.instances.is_empty() && measured.snapshots.is_empty() {
            return None;
        }
        let instances = measured.instances.values();
        let saved = instances.clone();
        let saved = saved.map(|one| one.full_bytes.saturating_sub(one.bytes));
        let of_snapshots = measured.snapshots.values().map(|one| one.bytes);
        let instances_bytes: u64 = instances.map(|one| one.bytes).sum();
        Some(Totals {
            exclusive_bytes: instances_bytes + of_snapshots.sum::<u64>(),
            instances_bytes,
            saved_bytes: saved.sum::<u64>() + measured.deduplicated,
        })
    }

    /// Measures an instance, of whose snapshot a full copy would take so many bytes. Returns the bytes exclusive to it;
    /// `None` if it cannot be measured now.
    pub(crate) async fn measure_instance(
        &self,
        layout: &Layout,
        status: &InstanceStatus,
        full_bytes: Option<u64>,
        priority: Priority,
    ) -> Option<u64> {
        let uid = status.record.uid;
        if !has_data(status) {
            return None;
        }
        let generation = self.lock().generation;
        let layout = layout.clone();
        let bytes = measure(priority, move || instance_bytes(&layout, uid)).await?;
        let mut measured = self.lock();
        let known = measured.instances.get(&uid).map(|known| known.full_bytes);
        let instance = OfInstance {
            bytes,
            full_bytes: full_bytes.or(known).unwrap_or(0),
            last_used_at: status.record.last_used_at,
            was_stopped: is_stopped(status),
            generation,
            at: Instant::now(),
        };
        measured.instances.insert(uid, instance);
        Some(bytes)
    }

    /// Each change is one call, so a panic leaves the maps consistent.
    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfInstance {
    fn is_due(&self, status: &InstanceStatus, generation: u64) -> bool {
        if self.generation != generation {
            return true;
        }
        if is_stopped(status) {
            !self.was_stopped || self.last_used_at != status.record.last_used_at
        } else {
            self.at.elapsed() >= RUNNING_INTERVAL
        }
    }
}

fn is_stopped(status: &InstanceStatus) -> bool {
    matches!(status.state, State::Stopped | State::Failed)
}

/// Whether it has data that is complete.
fn has_data(status: &InstanceStatus) -> bool {
    match status.state {
        State::Cloning { .. } | State::Deleting { .. } | State::Gone => false,
        State::Stopped
        | State::Starting { .. }
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Failed
        | State::Unavailable { .. } => true,
    }
}

/// Measures.
pub struct CostProbe {
    costs: Arc<Costs>,
    layout: Layout,
    supervisor: Addr<Supervisor>,
    index: Addr<SnapshotIndex>,
    /// Knows the blocks that snapshots share.
    deduplicator: Arc<Deduplicator>,
}

impl CostProbe {
    /// Measures from now on, and returns where the results go.
    pub fn start(
        layout: &Layout,
        supervisor: &Addr<Supervisor>,
        index: &Addr<SnapshotIndex>,
        deduplicator: &Arc<Deduplicator>,
    ) -> Arc<Costs> {
        let costs = Arc::new(Costs::default());
        let probe = Self {
            costs: costs.clone(),
            layout: layout.clone(),
            supervisor: supervisor.clone(),
            index: index.clone(),
            deduplicator: deduplicator.clone(),
        };
        actix_rt::spawn(probe.run());
        costs
    }

    /// Measures until the actors have ended.
    async fn run(self) {
        let mut known = None;
        while let Ok(snapshots) = self.index.send(ListSnapshots).await {
            let sharing = self.sharing(&snapshots).await;
            if known.as_ref() != Some(&sharing) {
                known = Some(sharing);
                self.costs.lock().generation += 1;
            }
            if self.round(&snapshots).await.is_err() {
                return;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// The inputs on which the sizes of all trees depend: the snapshots, and when each one came to share the blocks of
    /// another.
    async fn sharing(
        &self,
        snapshots: &[Arc<SnapshotRecord>],
    ) -> Vec<(SnapshotId, Option<Timestamp>)> {
        let (deduplicator, snapshots) = (self.deduplicator.clone(), snapshots.to_vec());
        let read = on_thread(Priority::Lowest, move || {
            let mut saved = 0;
            let sharing = snapshots.iter().map(|snapshot| {
                let record = deduplicator.record(snapshot);
                saved += record.as_ref().map_or(0, |record| record.bytes_saved);
                let finished = record.and_then(|record| record.finished_at);
                (snapshot.id.clone(), finished)
            });
            let sharing: Vec<_> = sharing.collect();
            (sharing, saved)
        });
        let (sharing, saved) = read.await.unwrap_or_default();
        self.costs.lock().deduplicated = saved;
        sharing
    }

    /// Measures the trees that are due, and forgets the deleted ones.
    async fn round(&self, snapshots: &[Arc<SnapshotRecord>]) -> Result<(), MailboxError> {
        let bytes: HashMap<_, _> = snapshots.iter().map(|one| (&one.id, one.bytes)).collect();
        let mut present = HashSet::new();
        let mut pages = Pages::new(&self.supervisor, InstanceFilter::default());
        while let Some(page) = pages.next().await? {
            for status in &page {
                present.insert(status.record.uid);
                let full_bytes = bytes.get(&status.record.snapshot).copied();
                self.instance(status, full_bytes).await;
            }
        }
        let counts = self.supervisor.send(CountInstances).await?;
        for snapshot in snapshots {
            let has_instances = counts.by_snapshot.contains_key(&snapshot.id);
            self.snapshot(&snapshot.id, has_instances).await;
        }
        let mut measured = self.costs.lock();
        measured.instances.retain(|uid, _| present.contains(uid));
        measured.snapshots.retain(|id, _| bytes.contains_key(id));
        Ok(())
    }

    async fn instance(&self, status: &InstanceStatus, full_bytes: Option<u64>) {
        let is_due = {
            let measured = self.costs.lock();
            let known = measured.instances.get(&status.record.uid);
            known.is_none_or(|known| known.is_due(status, measured.generation))
        };
        if is_due {
            let (costs, layout) = (&self.costs, &self.layout);
            let measured = costs.measure_instance(layout, status, full_bytes, Priority::Lowest);
            measured.await;
        }
    }

    async fn snapshot(&self, id: &SnapshotId, has_instances: bool) {
        let (generation, known) = {
            let measured = self.costs.lock();
            (measured.generation, measured.snapshots.get(id).copied())
        };
        let is_current = |known: OfSnapshot| {
            known.generation == generation && known.had_instances == has_instances
        };
        if known.is_some_and(is_current) {
            return;
        }
        let data = self.layout.snapshot_data(id);
        let measured = measure(Priority::Lowest, move || exclusive_bytes(&data));
        let Some(bytes) = measured.await else {
            return;
        };
        let measured = OfSnapshot {
            bytes,
            had_instances: has_instances,
            generation,
        };
        self.costs.lock().snapshots.insert(id.clone(), measured);
    }
}

/// Measures one tree, and lets the disk rest if that has the lowest priority.
async fn measure(
    priority: Priority,
    measure: impl FnOnce() -> Result<u64, TreeError> + Send + 'static,
) -> Option<u64> {
    let began = Instant::now();
    let measured = on_thread(priority, measure).await?;
    if priority == Priority::Lowest {
        tokio::time::sleep(began.elapsed() * REST_FACTOR).await;
    }
    match measured {
        Ok(bytes) => Some(bytes),
        // Files come and go under a running Postgres. The next round tries again.
        Err(error) => {
            tracing::debug!(%error, "a tree was not measured");
            None
        }
    }
}

/// The priority of a thread that measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// That of the daemon.
    Normal,
    /// All other work on the disk or a processor comes first.
    Lowest,
}

/// Runs this on a thread of its own; `None` if it panics or there is no thread.
pub(crate) async fn on_thread<T: Send + 'static>(
    priority: Priority,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("background".to_owned());
    let spawned = thread.spawn(move || {
        if priority == Priority::Lowest {
            yield_to_others();
        }
        // The daemon may be ending.
        let _gone = reply.send(work());
    });
    if let Err(error) = spawned {
        tracing::debug!(%error, "no thread for work in the background");
    }
    answer.await.ok()
}
