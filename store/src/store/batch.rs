//! Several changes of the records, made durable by one flush.

use super::times::StoredTime;
use super::{Store, StoreError};
use crate::ids::{InstanceName, InstanceUid};
use crate::records::{InstanceRecord, ObservedTime};

/// Changes that are written together, in order.
pub struct Batch<'a> {
    pub(super) store: &'a Store,
    pub(super) changes: Vec<Change<'a>>,
}

pub(super) enum Change<'a> {
    Put(&'a InstanceRecord),
    Remove(&'a InstanceName, InstanceUid),
    PutTime(StoredTime, ObservedTime),
}

impl<'a> Batch<'a> {
    /// Adds a record to be written.
    pub fn put(&mut self, record: &'a InstanceRecord) {
        self.changes.push(Change::Put(record));
    }

    /// Adds the record of a clone to be removed. That of another clone with the name stays.
    pub fn remove(&mut self, name: &'a InstanceName, uid: InstanceUid) {
        self.changes.push(Change::Remove(name, uid));
    }

    /// Adds a moment to be written.
    pub fn put_time(&mut self, which: StoredTime, time: ObservedTime) {
        self.changes.push(Change::PutTime(which, time));
    }

    /// Makes the changes. All are durable when it returns, against a crash and against a power cut.
    ///
    /// # Errors
    ///
    /// The database failed, or a record cannot be encoded. Any of the changes may have been made.
    pub fn write(self) -> Result<(), StoreError> {
        self.store.run(|database| {
            for change in &self.changes {
                match change {
                    Change::Put(record) => database.insert(record)?,
                    Change::Remove(name, uid) => database.remove_clone(name, *uid)?,
                    Change::PutTime(which, time) => database.insert_time(*which, *time)?,
                }
            }
            database.flush()
        })
    }
}
