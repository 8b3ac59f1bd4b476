//! The records of all instances, in sled, and their recovery from the manifests.
//!
//! sled 0.34 has open reports of corruption after an abrupt stop (spacejam/sled 1533), so it is never the only
//! copy: a database that cannot be read is moved aside and rebuilt from the manifests, and a record that is
//! missing is added from its manifest.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crate::ids::InstanceName;
use crate::layout::Layout;
use crate::records::{InstanceRecord, ObservedTime};

mod batch;
mod database;
mod error;
mod jobs;
mod recovery;
mod times;

pub use self::batch::Batch;
use self::database::{Contents, Database};
pub use self::error::StoreError;
pub use self::jobs::{DamagedJob, StoredJobs};
use self::recovery::Added;
pub use self::times::StoredTime;

/// The records. Clones share one database.
#[derive(Clone)]
pub struct Store {
    layout: Layout,
    /// `None` after a failure, until it is open again.
    database: Arc<RwLock<Option<Database>>>,
}

/// A store that was just opened.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// All records, by name.
    pub records: Vec<InstanceRecord>,
    /// The repairs that were needed.
    pub recovery: Recovery,
    /// The observed time from which this root's clock goes on.
    pub observed: ObservedTime,
    /// When a deletion by expiry last began.
    pub last_expiry: Option<ObservedTime>,
}

/// The repairs that opening the store needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// None.
    None,
    /// The database was created, and there were no instances.
    New,
    /// Records were added from the manifests.
    Completed {
        /// The instances whose first clone was complete and whose record was not, after a crash.
        finished: Vec<InstanceName>,
        /// The instances whose records were missing in the database.
        found: Vec<InstanceName>,
    },
    /// The database was lost or damaged, and was rebuilt from the manifests.
    Rebuilt {
        /// Where the damaged database is now, if there was one.
        moved_to: Option<PathBuf>,
        /// Why it could not be used.
        cause: String,
        /// The number of instances that were found.
        instances: usize,
    },
}

impl Store {
    /// Opens the database and adds the records that only the manifests have. A database that is missing or
    /// damaged is rebuilt from the manifests; a damaged one is kept beside the new one.
    ///
    /// # Errors
    ///
    /// Another process has it open, the disk is full, or the directories cannot be read or written.
    pub fn open_or_rebuild(layout: &Layout) -> Result<Opened, StoreError> {
        let existed = layout.db().exists();
        match Database::open_and_read(layout) {
            Ok(contents) if contents.is_complete => Self::complete(layout, contents),
            Ok(Contents { database, .. }) => {
                let cause = if existed {
                    "the database was never filled"
                } else {
                    "there was no database"
                };
                Self::rebuild(layout, database, None, cause.to_owned())
            }
            Err(error @ StoreError::Locked { .. }) => Err(error),
            Err(error) if !error.is_damage() => Err(error),
            Err(error) => {
                let moved_to = recovery::move_aside(layout)?;
                let database = Database::open_and_read(layout)?.database;
                Self::rebuild(layout, database, Some(moved_to), crate::error_chain(&error))
            }
        }
    }

    fn complete(layout: &Layout, contents: Contents) -> Result<Opened, StoreError> {
        let Contents {
            database,
            mut records,
            ..
        } = contents;
        let Added { finished, found } = recovery::complete(&database, layout, &records)?;
        let recovery = if finished.is_empty() && found.is_empty() {
            Recovery::None
        } else {
            records = database.all()?;
            Recovery::Completed { finished, found }
        };
        Opened::new(layout, database, records, recovery)
    }

    fn rebuild(
        layout: &Layout,
        database: Database,
        moved_to: Option<PathBuf>,
        cause: String,
    ) -> Result<Opened, StoreError> {
        let records = recovery::rebuild(&database, layout)?;
        let recovery = if records.is_empty() && moved_to.is_none() {
            Recovery::New
        } else {
            Recovery::Rebuilt {
                moved_to,
                cause,
                instances: records.len(),
            }
        };
        Opened::new(layout, database, records, recovery)
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

    /// Removes a record. Durable when it returns.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn remove(&self, name: &InstanceName) -> Result<(), StoreError> {
        self.run(|database| {
            database.remove(name)?;
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
    /// (`Config::set_global_error`), so it is opened again and the action is retried once.
    fn run<T>(&self, action: impl Fn(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
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
        *open = None;
        let database = open.insert(Database::open_and_read(&self.layout)?.database);
        action(database)
    }
}

impl Opened {
    fn new(
        layout: &Layout,
        database: Database,
        records: Vec<InstanceRecord>,
        recovery: Recovery,
    ) -> Result<Self, StoreError> {
        let observed = times::latest(&database, &records)?;
        let last_expiry = database.time(StoredTime::LastExpiry)?;
        let store = Store {
            layout: layout.clone(),
            database: Arc::new(RwLock::new(Some(database))),
        };
        Ok(Self {
            store,
            records,
            recovery,
            observed,
            last_expiry,
        })
    }
}

#[cfg(test)]
mod tests;
