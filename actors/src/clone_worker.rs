//! CloneWorker: the blocking work: clones, deletions, measurements and their records. It makes no decisions; it keeps
//! the order of intent, act and result.
//!
//! | message | effect |
//! | --- | --- |
//! | [`MakeClone`] | writes the intent, clones, writes the result; all durable |
//! | [`DiscardClone`] | deletes a clone that is of no instance, and the record that a failed creation may have left of it |
//! | [`QuarantineClone`] | moves a clone that no name can have to the quarantine |
//! | [`ListQuarantine`] | lists the quarantined clones |
//! | [`TakeFromQuarantine`] | moves a clone back from the quarantine, and writes its record |
//! | [`InspectData`] | tells whether the data of a record can be used |
//! | [`DeleteInstance`] | writes the intent, deletes the clone, removes the record |
//! | [`Persist`] | writes a record, and its manifest on request |
//! | [`ReadManifest`] | reads the record beside a clone's data |
//! | [`PutTime`] | writes a moment in observed time |
//! | [`Measure`] | measures the bytes exclusive to one clone |
//! | [`DeleteSnapshot`] | deletes a snapshot |
//!
//! Each step is work of one [`Lane`], which has threads of its own: a record is written beside any number of clones,
//! and a clone is made beside any number of deletions. A message has its position among the records when it is
//! handled, so the changes of one sender keep their order.

use std::sync::Arc;

use actix::prelude::*;
use futures_util::future::{BoxFuture, OptionFuture, join};
use multidb_store::quarantine::Quarantined;
use multidb_store::{
    InstanceName, InstanceRecord, InstanceUid, ObservedTime, Phase, SnapshotId, StoredTime,
};
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::ports::{
    CloneError, CloneReport, CloneSource, Cloner, RecordChange, Records, SnapshotCatalog,
};

mod executor;
mod measurements;
mod record_queue;

pub use self::executor::{Executor, Lane, WorkerThreads};

use self::measurements::Measurements;
use self::record_queue::RecordQueue;

/// The dependencies of the CloneWorker.
#[derive(Clone)]
pub struct CloneWorkerDeps {
    /// Makes and deletes clones.
    pub cloner: Arc<dyn Cloner>,
    /// Deletes snapshots.
    pub catalog: Arc<dyn SnapshotCatalog>,
    /// The records.
    pub records: Arc<dyn Records>,
    /// Runs the steps that block.
    pub executor: Arc<dyn Executor>,
    /// The metrics of all actors.
    pub metrics: Arc<Metrics>,
}

/// The CloneWorker.
pub struct CloneWorker {
    records: RecordQueue,
    measurements: Measurements,
    deps: CloneWorkerDeps,
}

impl CloneWorker {
    /// A CloneWorker without work.
    pub fn new(deps: CloneWorkerDeps) -> Self {
        let CloneWorkerDeps {
            cloner,
            records,
            executor,
            metrics,
            ..
        } = deps.clone();
        Self {
            records: RecordQueue::new(records, cloner, executor, metrics),
            measurements: Measurements::default(),
            deps,
        }
    }
}

impl Actor for CloneWorker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // More senders wait, which is in order: nothing here takes long.
        ctx.set_mailbox_capacity(1024);
    }
}

impl CloneWorkerDeps {
    /// Runs one step that blocks.
    fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> Result<T, CloneError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, CloneError>> {
        let (reply, answer) = oneshot::channel();
        let work = move || {
            if reply.send(work()).is_err() {
                tracing::debug!("the sender of work for the clone worker has gone");
            }
        };
        self.executor.run(lane, Box::new(work));
        // The reply is dropped by a panic, and at the end of the threads.
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(worker_ended())) })
    }

    fn delete(&self, uid: InstanceUid) -> BoxFuture<'static, Result<(), CloneError>> {
        let cloner = self.cloner.clone();
        self.run(Lane::Deletions, move || cloner.delete(uid))
    }
}

/// The error for work whose thread panicked or has ended.
pub(crate) fn worker_ended() -> CloneError {
    CloneError::Failed {
        message: "the clone worker panicked or has ended".to_owned(),
    }
}

/// Makes the record's clone. Returns the record in its new phase.
#[derive(Message)]
#[rtype(result = "Result<(InstanceRecord, CloneReport), CloneError>")]
pub struct MakeClone {
    /// The instance with its new clone.
    pub record: InstanceRecord,
    /// Whether the name has a record already, which must be kept until the new clone is complete.
    pub replaces: bool,
    /// The source of the clone.
    pub source: CloneSource,
}

impl Handler<MakeClone> for CloneWorker {
    type Result = ResponseFuture<Result<(InstanceRecord, CloneReport), CloneError>>;

    fn handle(&mut self, message: MakeClone, _: &mut Self::Context) -> Self::Result {
        let MakeClone {
            mut record,
            replaces,
            source,
        } = message;
        let intent = (!replaces).then(|| {
            record.phase = Phase::Cloning;
            self.records.write(RecordChange::put(&record))
        });
        let (records, deps) = (self.records.clone(), self.deps.clone());
        Box::pin(async move {
            if let Some(intent) = intent {
                intent.await?;
            }
            if !replaces {
                record.sequence += 1;
            }
            record.phase = Phase::Ready;
            let (cloner, ready) = (deps.cloner.clone(), record.clone());
            let lane = match source {
                CloneSource::Running { .. } => Lane::RunningClones,
                CloneSource::Snapshot | CloneSource::Base(_) => Lane::Clones,
            };
            let cloned = deps.run(lane, move || cloner.create(&ready, &source));
            let report = cloned.await?;
            records.write(RecordChange::put(&record)).await?;
            Ok((record, report))
        })
    }
}

/// Deletes a clone that is of no instance, after the record that a failed creation may have left of it.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct DiscardClone {
    /// The clone.
    pub uid: InstanceUid,
    /// The name that its record would have, if that is known. The record of another clone stays.
    pub name: Option<InstanceName>,
}

impl Handler<DiscardClone> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(&mut self, message: DiscardClone, _: &mut Self::Context) -> Self::Result {
        let DiscardClone { uid, name } = message;
        self.measurements.forget(uid);
        let removed = name.map(|name| self.records.write(RecordChange::Remove(name, uid)));
        let deps = self.deps.clone();
        Box::pin(async move {
            if let Some(removed) = removed {
                match removed.await {
                    // The deletion makes room.
                    Ok(()) | Err(CloneError::NoSpace { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            deps.delete(uid).await
        })
    }
}

/// Moves a clone that no name can have to the quarantine.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct QuarantineClone {
    /// The clone.
    pub uid: InstanceUid,
    /// Why no name can have it.
    pub why: String,
}

impl Handler<QuarantineClone> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(&mut self, message: QuarantineClone, _: &mut Self::Context) -> Self::Result {
        let QuarantineClone { uid, why } = message;
        let cloner = self.deps.cloner.clone();
        self.deps
            .run(Lane::Deletions, move || cloner.quarantine(uid, &why))
    }
}

/// The clones in the quarantine.
#[derive(Message)]
#[rtype(result = "Result<Vec<Quarantined>, CloneError>")]
pub struct ListQuarantine;

impl Handler<ListQuarantine> for CloneWorker {
    type Result = ResponseFuture<Result<Vec<Quarantined>, CloneError>>;

    fn handle(&mut self, _: ListQuarantine, _: &mut Self::Context) -> Self::Result {
        let cloner = self.deps.cloner.clone();
        self.deps.run(Lane::Manifests, move || cloner.quarantined())
    }
}

/// Moves a clone back from the quarantine as that of this record, which its manifest gets first.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct TakeFromQuarantine(pub InstanceRecord);

impl Handler<TakeFromQuarantine> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(
        &mut self,
        TakeFromQuarantine(record): TakeFromQuarantine,
        _: &mut Self::Context,
    ) -> Self::Result {
        let (records, deps) = (self.records.clone(), self.deps.clone());
        Box::pin(async move {
            let (cloner, taken) = (deps.cloner.clone(), record.clone());
            let taken = deps.run(Lane::Manifests, move || cloner.take_from_quarantine(&taken));
            taken.await?;
            // The manifest is in its place, so the next start finds it without the record.
            if let Err(error) = records.write(RecordChange::put(&record)).await {
                tracing::error!(
                    instance = %record.name,
                    error = multidb_store::error_chain(&error),
                    "the record of a recovered instance was not written, its manifest has it"
                );
            }
            Ok(())
        })
    }
}

/// Gives an instance the name in this record. The manifest comes first: once it is durable, a start finds the instance
/// under the new name alone, even if a record has the old one.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct Rename {
    /// The record with the new name, of a new epoch.
    pub record: InstanceRecord,
}

impl Handler<Rename> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(&mut self, Rename { record }: Rename, _: &mut Self::Context) -> Self::Result {
        let (records, deps) = (self.records.clone(), self.deps.clone());
        Box::pin(async move {
            let (cloner, renamed) = (deps.cloner.clone(), record.clone());
            let written = deps.run(Lane::Manifests, move || cloner.write_manifest(&renamed));
            written.await?;
            if let Err(error) = records.write(RecordChange::put(&record)).await {
                tracing::error!(
                    instance = %record.name,
                    error = multidb_store::error_chain(&error),
                    "the record of a renamed instance was not written, its manifest has it"
                );
            }
            Ok(())
        })
    }
}

/// Removes the record under the name that this clone had before a rename. Until then a start tells the clones of the
/// instance its new name. The record of another clone stays.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct RemoveOldName {
    /// The name.
    pub old: InstanceName,
    /// The clone.
    pub uid: InstanceUid,
}

impl Handler<RemoveOldName> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(
        &mut self,
        RemoveOldName { old, uid }: RemoveOldName,
        _: &mut Self::Context,
    ) -> Self::Result {
        Box::pin(self.records.write(RecordChange::Remove(old, uid)))
    }
}

/// Why the data of this record cannot be used; `None` where it can.
#[derive(Message)]
#[rtype(result = "Result<Option<String>, CloneError>")]
pub struct InspectData(pub InstanceRecord);

impl Handler<InspectData> for CloneWorker {
    type Result = ResponseFuture<Result<Option<String>, CloneError>>;

    fn handle(&mut self, InspectData(record): InspectData, _: &mut Self::Context) -> Self::Result {
        let cloner = self.deps.cloner.clone();
        self.deps
            .run(Lane::Manifests, move || cloner.why_unusable(&record))
    }
}

/// Deletes an instance: its clone, then its record.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct DeleteInstance(pub InstanceRecord);

impl Handler<DeleteInstance> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(
        &mut self,
        DeleteInstance(mut record): DeleteInstance,
        _: &mut Self::Context,
    ) -> Self::Result {
        record.phase = Phase::Deleting;
        self.measurements.forget(record.uid);
        let intent = self.records.write(RecordChange::put(&record));
        let (records, deps) = (self.records.clone(), self.deps.clone());
        Box::pin(async move {
            let is_recorded = match intent.await {
                Ok(()) => true,
                // The deletion makes room.
                Err(CloneError::NoSpace { .. }) => false,
                Err(error) => return Err(error),
            };
            deps.delete(record.uid).await?;
            let removed = records.write(RecordChange::Remove(record.name.clone(), record.uid));
            if let Err(error) = removed.await {
                if !is_recorded {
                    // It would be back at the next start, without its data.
                    return Err(error);
                }
                // The recorded intent removes the record at the next start.
                tracing::error!(
                    instance = %record.name,
                    error = multidb_store::error_chain(&error),
                    "the record of a deleted instance was not removed, the next start of multidb tries again"
                );
            }
            Ok(())
        })
    }
}

/// The copies of a record to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// The record in the database.
    Database,
    /// Also the manifest beside the data, for changes that must survive the loss of the database.
    DatabaseAndManifest,
}

/// Writes a record durably.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct Persist(pub InstanceRecord, pub Copies);

impl Handler<Persist> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(&mut self, Persist(record, copies): Persist, _: &mut Self::Context) -> Self::Result {
        let stored = self.records.write(RecordChange::put(&record));
        let cloner = self.deps.cloner.clone();
        let manifest = match copies {
            Copies::Database => None,
            Copies::DatabaseAndManifest => Some(
                self.deps
                    .run(Lane::Manifests, move || cloner.write_manifest(&record)),
            ),
        };
        Box::pin(async move {
            // At once, since each waits for the disk. A start takes the newer one if only one is written.
            let (stored, manifest) = join(stored, OptionFuture::from(manifest)).await;
            stored.and(manifest.unwrap_or(Ok(())))
        })
    }
}

/// Reads the record in a clone's manifest; `None` where the clone has no directory.
#[derive(Message)]
#[rtype(result = "Result<Option<InstanceRecord>, CloneError>")]
pub struct ReadManifest(pub InstanceUid);

impl Handler<ReadManifest> for CloneWorker {
    type Result = ResponseFuture<Result<Option<InstanceRecord>, CloneError>>;

    fn handle(&mut self, ReadManifest(uid): ReadManifest, _: &mut Self::Context) -> Self::Result {
        let cloner = self.deps.cloner.clone();
        self.deps
            .run(Lane::Manifests, move || cloner.read_manifest(uid))
    }
}

/// Writes a moment in observed time durably.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct PutTime(pub StoredTime, pub ObservedTime);

impl Handler<PutTime> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(&mut self, PutTime(which, time): PutTime, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.records.write(RecordChange::PutTime(which, time)))
    }
}

/// Measures the bytes exclusive to this clone. Answered soon: with the last result if a new one takes longer, and
/// with none before the first.
#[derive(Message)]
#[rtype(result = "Option<u64>")]
pub struct Measure(pub InstanceUid);

impl Handler<Measure> for CloneWorker {
    type Result = ResponseFuture<Option<u64>>;

    fn handle(&mut self, Measure(uid): Measure, _: &mut Self::Context) -> Self::Result {
        let cloner = self.deps.cloner.clone();
        Box::pin(self.measurements.measure(uid, cloner, &*self.deps.executor))
    }
}

/// Deletes one snapshot.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct DeleteSnapshot(pub SnapshotId);

impl Handler<DeleteSnapshot> for CloneWorker {
    type Result = ResponseFuture<Result<(), CloneError>>;

    fn handle(
        &mut self,
        DeleteSnapshot(id): DeleteSnapshot,
        _: &mut Self::Context,
    ) -> Self::Result {
        let catalog = self.deps.catalog.clone();
        self.deps.run(Lane::Deletions, move || catalog.delete(&id))
    }
}

#[cfg(test)]
mod tests;
