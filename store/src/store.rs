//! The records of all instances, in sled; and their recovery from the manifests.
//!
//! sled 0.34 has open reports of corruption after an abrupt stop (spacejam/sled 1533), so it is
//! never the only copy of the truth: a database that cannot be read is moved aside and rebuilt, and what is
//! missing in one that can be read is added.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crate::ids::InstanceName;
use crate::layout::Layout;
use crate::records::InstanceRecord;

mod database;
mod error;
mod jobs;
mod recovery;

use self::database::Database;
pub use self::error::StoreError;
pub use self::jobs::{DamagedJob, StoredJobs};
use self::recovery::Added;

/// The records. Clones share one database.
#[derive(Clone)]
pub struct Store {
    layout: Layout,
    /// Nothing after a failure, until it could be opened again.
    database: Arc<RwLock<Option<Database>>>,
}

/// A store and how it was opened.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What had to be done for it.
    pub recovery: Recovery,
}

/// What opening the store had to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing.
    None,
    /// The database was new, and no instance was there.
    New,
    /// Records were added from the manifests.
    Completed {
        /// The instances whose first clone a crash had left complete but for its record.
        finished: Vec<InstanceName>,
        /// The instances whose records the database had lost.
        found: Vec<InstanceName>,
    },
    /// The database was lost or damaged, and was rebuilt from the manifests.
    Rebuilt {
        /// Where the damaged database is now, if there was one.
        moved_to: Option<PathBuf>,
        /// What was wrong with it.
        cause: String,
        /// How many instances were found again.
        instances: usize,
    },
}

impl Store {
    /// Opens the database, and adds from the manifests what it lacks; or rebuilds it from them where it is lost or
    /// damaged. A damaged one is kept beside the new one.
    ///
    /// # Errors
    ///
    /// Another process has it open, the machine has no room for it, or the directories cannot be read or
    /// written.
    pub fn open_or_rebuild(layout: &Layout) -> Result<Opened, StoreError> {
        let existed = layout.db().exists();
        let (database, moved_to, cause) = match Database::open_whole(layout) {
            Ok((database, true)) => {
                let Added { finished, found } = recovery::complete(&database, layout)?;
                let recovery = match finished.is_empty() && found.is_empty() {
                    true => Recovery::None,
                    false => Recovery::Completed { finished, found },
                };
                return Ok(Opened::new(layout, database, recovery));
            }
            Ok((database, false)) => {
                let cause = match existed {
                    true => "the database was never filled",
                    false => "there was no database",
                };
                (database, None, cause.to_owned())
            }
            Err(error @ StoreError::Locked { .. }) => return Err(error),
            Err(error) if !error.is_damage() => return Err(error),
            Err(error) => {
                let moved_to = recovery::move_aside(layout)?;
                let (database, _) = Database::open_whole(layout)?;
                (database, Some(moved_to), crate::error_chain(&error))
            }
        };
        let recovery = match (recovery::rebuild(&database, layout)?, &moved_to) {
            (0, None) => Recovery::New,
            (instances, _) => Recovery::Rebuilt {
                moved_to,
                cause,
                instances,
            },
        };
        Ok(Opened::new(layout, database, recovery))
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

    /// All records, ordered by name.
    ///
    /// # Errors
    ///
    /// The database failed, or a record is broken.
    pub fn instances(&self) -> Result<Vec<InstanceRecord>, StoreError> {
        self.run(Database::all)
    }

    /// A sled that failed once, as on a full disk, refuses all that is asked of it from then on
    /// (`Config::set_global_error`): it is opened again, and the action is tried once more.
    fn run<T>(&self, action: impl Fn(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*open {
            match action(database) {
                Err(error) if error.is_of_database() => tracing::warn!(
                    error = crate::error_chain(&error),
                    "the database of records failed, it is opened again"
                ),
                result => return result,
            }
        }
        drop(open);
        let mut open = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // It is locked until it is closed.
        *open = None;
        let (database, _) = Database::open_whole(&self.layout)?;
        let database = open.insert(database);
        action(database)
    }
}

impl Opened {
    fn new(layout: &Layout, database: Database, recovery: Recovery) -> Self {
        let store = Store {
            layout: layout.clone(),
            database: Arc::new(RwLock::new(Some(database))),
        };
        Self { store, recovery }
    }
}

#[cfg(test)]
mod tests;
