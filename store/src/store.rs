//! The records of all instances, in sled, and their recovery from the manifests.
//!
//! sled 0.34 has open reports of corruption after an abrupt stop (spacejam/sled 1533), so it is never the only
//! copy: a database that cannot be read is moved aside and rebuilt from the manifests, and a record that is
//! missing is added from its manifest.

use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::clones::ClonesOnDisk;
use crate::disk_fault::{DiskFault, FileError};
use crate::ids::{InstanceName, InstanceUid};
use crate::layout::Layout;
use crate::manifest;
use crate::records::{InstanceRecord, ObservedTime};
use crate::recovery::{self, Found, LastUse, Plan, RecordOrigin};

mod batch;
mod database;
mod error;
mod jobs;
mod times;
mod unwritable;

pub use self::batch::Batch;
use self::database::{Contents, Database, catch_panic};
pub use self::error::StoreError;
pub use self::jobs::{DamagedJob, StoredJobs};
pub use self::times::StoredTime;

/// A database that was closed can keep its lock for some milliseconds.
const REOPEN_ATTEMPTS: u32 = 50;
const REOPEN_DELAY: Duration = Duration::from_millis(20);

/// The records. Clones share one database.
#[derive(Clone)]
pub struct Store {
    layout: Layout,
    /// `None` after a failure, until it is open again.
    database: Arc<RwLock<Option<Database>>>,
    /// Why the records cannot be written, since the last attempt.
    fault: Arc<Mutex<Option<DiskFault>>>,
}

/// A store that was just opened.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The instances, and the plan for clones that are not of one.
    pub plan: Plan,
    /// The directories in `instances/` that multidb did not create.
    pub foreign: Vec<PathBuf>,
    /// The recovery of the database.
    pub recovery: Recovery,
    /// The observed time from which this root's clock goes on.
    pub observed: ObservedTime,
    /// When a deletion by expiry last began.
    pub last_expiry: Option<ObservedTime>,
    /// The history of jobs.
    pub jobs: Result<StoredJobs, StoreError>,
}

/// How the database was recovered when it was opened.
#[derive(Debug)]
pub enum Recovery {
    /// Nothing.
    None,
    /// It was created, and there were no instances.
    New,
    /// It was lost or damaged, and was rebuilt from the manifests.
    Rebuilt {
        /// Where the damaged database is now, if there was one.
        moved_to: Option<PathBuf>,
        /// Why it could not be used.
        cause: String,
    },
    /// It cannot be written, for now: the disk is full, or read-only. Its records were read from a copy.
    Unwritable(StoreError),
}

impl Store {
    /// Opens the database, reads all manifests, and brings the records up to date with them by [`recovery::plan`]. A
    /// database that is missing or damaged is rebuilt from the manifests; a damaged one is kept beside the new one.
    ///
    /// # Errors
    ///
    /// Another process has it open, the device fails, or the directories cannot be read.
    pub fn open_or_rebuild(layout: &Layout) -> Result<Opened, StoreError> {
        thread::scope(|scope| {
            let finding = scope.spawn(|| ClonesOnDisk::find(layout));
            let read = Self::read(layout);
            let clones = match finding.join() {
                Ok(clones) => clones?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            let (contents, recovery) = read?;
            Self::recover(layout, contents, recovery, clones)
        })
    }

    fn read(layout: &Layout) -> Result<(Contents, Recovery), StoreError> {
        let existed = layout.db().exists();
        match reopen(layout) {
            Ok(contents) if contents.is_complete => Ok((contents, Recovery::None)),
            Ok(contents) if existed => {
                let cause = "the database was never filled".to_owned();
                let moved_to = None;
                Ok((contents, Recovery::Rebuilt { moved_to, cause }))
            }
            Ok(contents) => Ok((contents, Recovery::New)),
            Err(error) if error.is_unwritable() && existed => {
                match unwritable::read_copy(layout)? {
                    Some(contents) => Ok((contents, Recovery::Unwritable(error))),
                    None => Err(error),
                }
            }
            Err(error) if !error.is_damage() => Err(error),
            Err(error) => {
                unwritable::require_readable(layout)?;
                let moved_to = Some(database::move_aside(layout)?);
                let contents = Database::open_and_read(layout)?;
                let cause = crate::error_chain(&error);
                Ok((contents, Recovery::Rebuilt { moved_to, cause }))
            }
        }
    }

    fn recover(
        layout: &Layout,
        contents: Contents,
        mut recovery: Recovery,
        clones: ClonesOnDisk,
    ) -> Result<Opened, StoreError> {
        let Contents {
            database,
            records,
            epoch,
            ..
        } = contents;
        let manifests = clones.clones.iter().filter_map(|clone| clone.record());
        let observed = times::latest(&database, records.iter().chain(manifests))?;
        let last_expiry = database.time(StoredTime::LastExpiry)?;
        let jobs = jobs::read(&database);
        let plan = recovery::plan(Found {
            records,
            clones: clones.clones,
            trashed: clones.trashed,
            epoch: epoch.max(clones.epoch),
            last_use: LastUse {
                at: Timestamp::now(),
                observed,
            },
        });
        if matches!(recovery, Recovery::New) && !plan.instances.is_empty() {
            let cause = "there was no database".to_owned();
            let moved_to = None;
            recovery = Recovery::Rebuilt { moved_to, cause };
        }
        let carried_out = sync_clones(layout, &plan).and_then(|()| match recovery {
            Recovery::Unwritable(_) => Ok(None),
            _ => Self::carry_out(&database, &plan).map(|()| Some(database)),
        });
        let database = match carried_out {
            Err(error) if error.is_unwritable() => {
                recovery = Recovery::Unwritable(error);
                None
            }
            done => done?,
        };
        mend_manifests(layout, &plan);
        let fault = match &recovery {
            Recovery::Unwritable(error) => error.disk_fault(),
            Recovery::None | Recovery::New | Recovery::Rebuilt { .. } => None,
        };
        Ok(Opened {
            store: Self {
                layout: layout.clone(),
                database: Arc::new(RwLock::new(database)),
                fault: Arc::new(Mutex::new(fault)),
            },
            plan,
            foreign: clones.foreign,
            recovery,
            observed,
            last_expiry,
            jobs,
        })
    }

    /// Why the records cannot be written, if the last attempt failed by a fault of the disk.
    pub fn fault(&self) -> Option<DiskFault> {
        *self.lock_fault()
    }

    fn lock_fault(&self) -> MutexGuard<'_, Option<DiskFault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the records that the plan changes.
    fn carry_out(database: &Database, plan: &Plan) -> Result<(), StoreError> {
        let changed = plan.instances.iter();
        let changed = changed.filter(|one| one.origin != RecordOrigin::Database);
        for instance in changed {
            database.insert(&instance.record)?;
        }
        for name in &plan.removed {
            database.remove(name)?;
        }
        database.note_epoch(plan.epoch)?;
        database.set_complete()
    }

    /// Writes a record. Durable when it returns, against a crash and against a power cut.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn put(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        self.run(|database| {
            database.insert(record)?;
            database.flush()
        })
    }

    /// Removes the record of this clone. Durable when it returns. The name may have been given to another clone
    /// since, whose record stays.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn remove(&self, name: &InstanceName, uid: InstanceUid) -> Result<(), StoreError> {
        self.run(|database| {
            database.remove_clone(name, uid)?;
            database.flush()
        })
    }

    /// An empty batch of changes.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            store: self,
            changes: Vec::new(),
        }
    }

    /// All records, by name.
    ///
    /// # Errors
    ///
    /// The database failed, or a record is broken.
    pub fn instances(&self) -> Result<Vec<InstanceRecord>, StoreError> {
        self.run(Database::all)
    }

    /// Runs an action. A sled that failed once, as on a full disk, fails from then on
    /// (`Config::set_global_error`), so it is opened again and the action is retried once. A panic of sled is an
    /// error of the database.
    fn run<T>(&self, action: impl Fn(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let result = self.run_again_if_failed(action);
        let fault = result.as_ref().err().and_then(StoreError::disk_fault);
        *self.lock_fault() = fault;
        result
    }

    fn run_again_if_failed<T>(
        &self,
        action: impl Fn(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let action = |database: &Database| catch_panic(AssertUnwindSafe(|| action(database)));
        let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*open {
            match action(database) {
                Err(error) if error.is_of_database() => tracing::warn!(
                    error = crate::error_chain(&error),
                    "the database of records failed and is reopened"
                ),
                result => return result,
            }
        }
        drop(open);
        let mut open = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // It holds its lock until it is closed.
        let failed = open.take();
        let close = || {
            drop(failed);
            Ok(())
        };
        catch_panic(AssertUnwindSafe(close))?;
        let database = open.insert(reopen(&self.layout)?.database);
        action(database)
    }
}

/// Opens the database, and waits for the end of an earlier one.
fn reopen(layout: &Layout) -> Result<Contents, StoreError> {
    for _ in 1..REOPEN_ATTEMPTS {
        match Database::open_and_read(layout) {
            Err(StoreError::Locked { .. }) => thread::sleep(REOPEN_DELAY),
            opened => return opened,
        }
    }
    Database::open_and_read(layout)
}

/// Makes the clones durable whose daemon died before their records were ready: now a client may be told of them. All
/// at once, since only that is certain on every file system.
fn sync_clones(layout: &Layout, plan: &Plan) -> Result<(), StoreError> {
    if !plan.has_unsynced_clones() {
        return Ok(());
    }
    let path = layout.instances();
    let sync = || -> io::Result<()> { Ok(rustix::fs::syncfs(File::open(&path)?)?) };
    Ok(sync().map_err(FileError::at("sync", &path))?)
}

/// Writes the manifests that are damaged or missing beside the data of an instance.
fn mend_manifests(layout: &Layout, plan: &Plan) {
    for instance in plan.instances.iter().filter(|one| one.mends_manifest) {
        let record = &instance.record;
        let error = match manifest::write(&layout.instance(record.uid), record) {
            Ok(()) => None,
            Err(error) => Some(crate::error_chain(&error)),
        };
        tracing::warn!(
            instance = %record.name,
            uid = %record.uid,
            error,
            "the manifest of an instance was damaged or missing, it is written again"
        );
    }
}

#[cfg(test)]
mod tests;
