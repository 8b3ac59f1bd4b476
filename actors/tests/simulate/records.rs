//! The records: writes that a crash forgets where they were not flushed, and that damage forgets all the same.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;

use multidb_actors::ports::{RecordChange, Records};
use multidb_store::{
    FileError, InstanceName, InstanceRecord, InstanceUid, ObservedTime, Phase, StoreError,
    StoredTime,
};

use crate::entropy::Chance;
use crate::ports::Ports;
use crate::world::World;

/// The last writes that are kept apart.
const LOG_MAX: usize = 40;
/// The older copies that are kept.
const COPIES_MAX: usize = 8;

/// A database that is a log.
#[derive(Default)]
pub struct RecordLog {
    /// The effect of the writes before the log's.
    base: Contents,
    log: VecDeque<Write>,
    /// The writes of the log that are flushed.
    flushed: usize,
    /// The contents at earlier times.
    copies: VecDeque<Contents>,
}

/// The contents of the database.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    pub instances: BTreeMap<InstanceName, InstanceRecord>,
    /// The highest epoch that was written.
    pub epoch: u64,
    /// The observed time.
    pub observed: ObservedTime,
    /// The last expiry, in observed time.
    pub last_expiry: ObservedTime,
}

#[derive(Clone)]
enum Write {
    Put(Box<InstanceRecord>),
    Remove(InstanceName, InstanceUid),
    Time(StoredTime, ObservedTime),
}

impl Write {
    fn apply(self, contents: &mut Contents) {
        match self {
            Self::Put(record) => {
                contents.epoch = contents.epoch.max(record.epoch);
                contents.instances.insert(record.name.clone(), *record);
            }
            Self::Remove(name, uid) => {
                let named = contents.instances.get(&name);
                if named.is_some_and(|record| record.uid == uid) {
                    contents.instances.remove(&name);
                }
            }
            Self::Time(StoredTime::Observed, time) => contents.observed = time,
            Self::Time(StoredTime::LastExpiry, time) => contents.last_expiry = time,
        }
    }
}

impl RecordLog {
    fn append(&mut self, write: Write) {
        self.log.push_back(write);
    }

    fn flush(&mut self) {
        self.flushed = self.log.len();
        while self.flushed > LOG_MAX {
            if let Some(write) = self.log.pop_front() {
                write.apply(&mut self.base);
            }
            self.flushed -= 1;
        }
    }

    pub fn contents(&self) -> Contents {
        let mut contents = self.base.clone();
        for write in &self.log {
            write.clone().apply(&mut contents);
        }
        contents
    }

    /// An administrator makes a copy.
    pub fn copy(&mut self) {
        self.copies.push_back(self.contents());
        if self.copies.len() > COPIES_MAX {
            self.copies.pop_front();
        }
    }

    /// The daemon has died: some of the unflushed writes are lost.
    pub fn crash(&mut self, chance: &mut Chance) {
        let unflushed = self.log.len() - self.flushed;
        let kept = self.flushed + chance.below(unflushed as u64 + 1) as usize;
        self.log.truncate(kept);
        self.flushed = kept;
    }

    /// A damaged page ends the log early.
    pub fn lose_tail(&mut self, chance: &mut Chance) -> usize {
        let lost = chance.below(self.log.len() as u64 + 1) as usize;
        self.log.truncate(self.log.len() - lost);
        self.flushed = self.log.len();
        lost
    }

    /// An administrator restores an older copy.
    pub fn restore(&mut self, chance: &mut Chance) {
        if self.copies.is_empty() {
            return;
        }
        let at = chance.below(self.copies.len() as u64) as usize;
        self.base = self.copies[at].clone();
        self.log.clear();
        self.flushed = 0;
    }
}

fn failed(action: &'static str) -> StoreError {
    FileError::at(action, Path::new("db"))(io::Error::other("simulated")).into()
}

impl Write {
    fn new(change: &RecordChange) -> Self {
        match change {
            RecordChange::Put(record) => Self::Put(record.clone()),
            RecordChange::Remove(name, uid) => Self::Remove(name.clone(), *uid),
            RecordChange::PutTime(which, time) => Self::Time(*which, *time),
        }
    }

    fn trace(&self, world: &World) {
        match self {
            Self::Put(record) => world.trace(format_args!(
                "record {} {} epoch {} sequence {} {:?} {:?}",
                record.name, record.uid, record.epoch, record.sequence, record.phase, record.pin
            )),
            Self::Remove(name, _) => world.trace(format_args!("record {name} removed")),
            Self::Time(..) => {}
        }
    }
}

impl Records for Ports {
    fn put(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        self.write(&[RecordChange::Put(Box::new(record.clone()))])
    }

    fn remove(&self, name: &InstanceName, uid: InstanceUid) -> Result<(), StoreError> {
        self.write(&[RecordChange::Remove(name.clone(), uid)])
    }

    fn put_time(&self, which: StoredTime, time: ObservedTime) -> Result<(), StoreError> {
        self.write(&[RecordChange::PutTime(which, time)])
    }

    fn write(&self, changes: &[RecordChange]) -> Result<(), StoreError> {
        self.step("records: begin").map_err(|_| failed("write"))?;
        for change in changes {
            if self.world.fails(self.world.settings.faults.records) {
                return Err(failed("write"));
            }
            let write = Write::new(change);
            write.trace(&self.world);
            if let Write::Put(record) = &write
                && record.phase == Phase::Deleting
            {
                let observed = self.world.observed();
                self.world.oracle().deletion_recorded(record.uid, observed);
            }
            self.world.records().append(write);
            self.step("records: appended")
                .map_err(|_| failed("flush"))?;
        }
        if self.world.fails(self.world.settings.faults.records) {
            return Err(failed("flush"));
        }
        self.world.records().flush();
        self.step("records: flushed").map_err(|_| failed("answer"))
    }
}
