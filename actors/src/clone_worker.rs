//! CloneWorker: a small pool of threads for blocking work: clones, deletions, measurements and their
//! records. It makes no decisions; it keeps the order of intent, act and result.
//!
//! | message | effect |
//! | --- | --- |
//! | [`MakeClone`] | writes the intent, clones, writes the result; all durable |
//! | [`DiscardClone`] | deletes a clone that no record names |
//! | [`DeleteInstance`] | writes the intent, deletes the clone, removes the record |
//! | [`Persist`] | writes a record, and its manifest on request |
//! | [`ReadManifest`] | reads the record beside a clone's data |
//! | [`PutTime`] | writes a moment in observed time |
//! | [`Measure`] | measures the bytes exclusive to one clone |
//! | [`LoadSnapshots`], [`DeleteSnapshot`] | read and delete snapshots |

use std::sync::Arc;

use actix::prelude::*;
use multidb_store::{
    InstanceRecord, InstanceUid, ObservedTime, Phase, SnapshotId, SnapshotRecord, StoreError,
    StoredTime,
};

use crate::ports::{CloneError, CloneReport, Cloner, Records, SnapshotCatalog};

/// The threads of the pool. Clones are bound by the file system's log, not by processors; more than one
/// thread only keeps a long deletion from blocking a clone.
pub const THREADS: usize = 4;

/// A worker. Clones share the cloner, the catalog and the records.
#[derive(Clone)]
pub struct CloneWorker {
    /// Makes and deletes clones.
    pub cloner: Arc<dyn Cloner>,
    /// Reads and deletes snapshots.
    pub catalog: Arc<dyn SnapshotCatalog>,
    /// The records.
    pub records: Arc<dyn Records>,
}

impl CloneWorker {
    /// Starts the pool.
    pub fn start_pool(self) -> Addr<Self> {
        SyncArbiter::start(THREADS, move || self.clone())
    }

    fn put(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        let put = self.records.put(record);
        put.map_err(|error| self.storage_failed(&error))
    }

    fn storage_failed(&self, error: &StoreError) -> CloneError {
        if error.is_out_of_space() {
            // The record did not fit; the reserve applies to data only.
            return CloneError::NoSpace {
                free_bytes: self.cloner.disk_free_bytes().unwrap_or(0),
                reserve_bytes: 0,
            };
        }
        CloneError::Failed {
            message: multidb_store::error_chain(error),
        }
    }
}

impl Actor for CloneWorker {
    type Context = SyncContext<Self>;
}

/// Makes the record's clone. Returns the record in its new phase.
#[derive(Message)]
#[rtype(result = "Result<(InstanceRecord, CloneReport), CloneError>")]
pub struct MakeClone {
    /// The instance with its new clone.
    pub record: InstanceRecord,
    /// Whether the name has a record already, which must be kept until the new clone is complete.
    pub replaces: bool,
}

impl Handler<MakeClone> for CloneWorker {
    type Result = Result<(InstanceRecord, CloneReport), CloneError>;

    fn handle(&mut self, message: MakeClone, _: &mut Self::Context) -> Self::Result {
        let MakeClone {
            mut record,
            replaces,
        } = message;
        if !replaces {
            record.phase = Phase::Cloning;
            self.put(&record)?;
        }
        record.phase = Phase::Ready;
        let report = self.cloner.create(&record)?;
        self.put(&record)?;
        Ok((record, report))
    }
}

/// Deletes a clone that no record names.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct DiscardClone(pub InstanceUid);

impl Handler<DiscardClone> for CloneWorker {
    type Result = Result<(), CloneError>;

    fn handle(&mut self, DiscardClone(uid): DiscardClone, _: &mut Self::Context) -> Self::Result {
        self.cloner.delete(uid)
    }
}

/// Deletes an instance: its clone, then its record.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct DeleteInstance(pub InstanceRecord);

impl Handler<DeleteInstance> for CloneWorker {
    type Result = Result<(), CloneError>;

    fn handle(
        &mut self,
        DeleteInstance(mut record): DeleteInstance,
        _: &mut Self::Context,
    ) -> Self::Result {
        record.phase = Phase::Deleting;
        self.put(&record)?;
        self.cloner.delete(record.uid)?;
        // The data is deleted. The recorded intent removes the record at the next start.
        if let Err(error) = self.records.remove(&record.name) {
            tracing::error!(
                instance = %record.name,
                error = multidb_store::error_chain(&error),
                "the record of a deleted instance was not removed, the next start of multidb tries again"
            );
        }
        Ok(())
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
    type Result = Result<(), CloneError>;

    fn handle(&mut self, Persist(record, copies): Persist, _: &mut Self::Context) -> Self::Result {
        self.put(&record)?;
        match copies {
            Copies::Database => Ok(()),
            Copies::DatabaseAndManifest => self.cloner.write_manifest(&record),
        }
    }
}

/// Reads the record in a clone's manifest; `None` where the clone has no directory.
#[derive(Message)]
#[rtype(result = "Result<Option<InstanceRecord>, CloneError>")]
pub struct ReadManifest(pub InstanceUid);

impl Handler<ReadManifest> for CloneWorker {
    type Result = Result<Option<InstanceRecord>, CloneError>;

    fn handle(&mut self, ReadManifest(uid): ReadManifest, _: &mut Self::Context) -> Self::Result {
        self.cloner.read_manifest(uid)
    }
}

/// Writes a moment in observed time durably.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct PutTime(pub StoredTime, pub ObservedTime);

impl Handler<PutTime> for CloneWorker {
    type Result = Result<(), CloneError>;

    fn handle(&mut self, PutTime(which, time): PutTime, _: &mut Self::Context) -> Self::Result {
        let put = self.records.put_time(which, time);
        put.map_err(|error| self.storage_failed(&error))
    }
}

/// Measures the bytes exclusive to this clone.
#[derive(Message)]
#[rtype(result = "Result<u64, CloneError>")]
pub struct Measure(pub InstanceUid);

impl Handler<Measure> for CloneWorker {
    type Result = Result<u64, CloneError>;

    fn handle(&mut self, Measure(uid): Measure, _: &mut Self::Context) -> Self::Result {
        self.cloner.exclusive_bytes(uid)
    }
}

/// Reads all snapshots.
#[derive(Message)]
#[rtype(result = "Result<Vec<SnapshotRecord>, CloneError>")]
pub struct LoadSnapshots;

impl Handler<LoadSnapshots> for CloneWorker {
    type Result = Result<Vec<SnapshotRecord>, CloneError>;

    fn handle(&mut self, _: LoadSnapshots, _: &mut Self::Context) -> Self::Result {
        self.catalog.load()
    }
}

/// Deletes one snapshot.
#[derive(Message)]
#[rtype(result = "Result<(), CloneError>")]
pub struct DeleteSnapshot(pub SnapshotId);

impl Handler<DeleteSnapshot> for CloneWorker {
    type Result = Result<(), CloneError>;

    fn handle(
        &mut self,
        DeleteSnapshot(id): DeleteSnapshot,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.catalog.delete(&id)
    }
}
