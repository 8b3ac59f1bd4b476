//! The records of all instances, in sled; and their recovery from the manifests.
//!
//! sled 0.34 has open reports of corruption after an abrupt stop (spacejam/sled 1533), so it is
//! never the only copy of the truth: a database that cannot be read is moved aside and rebuilt.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::codec::{self, CodecError};
use crate::ids::InstanceName;
use crate::layout::Layout;
use crate::manifest;
use crate::records::{InstanceRecord, Phase};

/// A record for each instance, under its name.
const INSTANCES: &str = "instances";
/// Set once the database was filled, so that an empty one can be told from a lost one.
const COMPLETE: &[u8] = b"complete";
/// Enough for ten thousand records.
const CACHE_BYTES: u64 = 8 << 20;

/// The records. Clones share one database.
#[derive(Clone)]
pub struct Store {
    db: sled::Db,
    instances: sled::Tree,
    /// sled's own file, for `fdatasync`.
    file: std::sync::Arc<File>,
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

/// Why the records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the database open.
    #[error("another multidb serves {}", .path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// sled failed.
    #[error("the database failed to {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: sled::Error,
    },
    /// sled panicked, which it does on some damage.
    #[error("the database is damaged: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// A record is broken.
    #[error("record \"{key}\" in tree \"{tree}\" is broken")]
    Record {
        /// The tree.
        tree: &'static str,
        /// The key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// A file could not be read, written or moved.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The instances' directories cannot be listed.
    #[error(transparent)]
    Manifest(#[from] manifest::ManifestError),
}

fn failed(action: &'static str) -> impl Fn(sled::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
}

impl Store {
    /// Opens the database, or rebuilds it from the manifests where it is lost or damaged. A
    /// damaged one is kept beside the new one.
    ///
    /// # Errors
    ///
    /// Another process has it open, or the directories cannot be read or written.
    pub fn open_or_rebuild(layout: &Layout) -> Result<Opened, StoreError> {
        let existed = layout.db().exists();
        let cause = match Self::open_whole(layout) {
            Ok((store, true)) => {
                let recovery = Recovery::None;
                return Ok(Opened { store, recovery });
            }
            Ok((store, false)) => {
                let cause = match existed {
                    true => "the database was never filled",
                    false => "there was no database",
                };
                return store.rebuild(layout, None, cause.to_owned());
            }
            Err(locked @ StoreError::Locked { .. }) => return Err(locked),
            Err(error) => error,
        };
        let moved_to = move_aside(layout)?;
        let (store, _) = Self::open_whole(layout)?;
        store.rebuild(layout, Some(moved_to), crate::error_chain(&cause))
    }

    /// Opens the database and reads every record; also says whether it was ever filled.
    fn open_whole(layout: &Layout) -> Result<(Self, bool), StoreError> {
        let open = || -> Result<(Self, bool), StoreError> {
            let store = Self::open(layout)?;
            store.instances()?;
            let complete = store.db.contains_key(COMPLETE).map_err(failed("read"))?;
            Ok((store, complete))
        };
        // Nothing of a database that panicked is used again.
        std::panic::catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let message = said.unwrap_or_else(|| "it panicked".to_owned());
            Err(StoreError::Panicked { message })
        })
    }

    fn open(layout: &Layout) -> Result<Self, StoreError> {
        let path = layout.db();
        let mut directory = DirBuilder::new();
        directory.recursive(true).mode(0o700);
        directory.create(&path).map_err(|source| StoreError::Io {
            action: "create",
            path: path.clone(),
            source,
        })?;
        let opened = sled::Config::new()
            .path(&path)
            .cache_capacity(CACHE_BYTES)
            // Every write is flushed by us, before anybody is told of it.
            .flush_every_ms(None)
            .open();
        let db = opened.map_err(|source| match &source {
            sled::Error::Io(error) if is_lock_conflict(error) => {
                StoreError::Locked { path: path.clone() }
            }
            _ => failed("open")(source),
        })?;
        let instances = db.open_tree(INSTANCES).map_err(failed("open"))?;
        let file = path.join("db");
        let file = File::open(&file).map_err(|source| StoreError::Io {
            action: "open",
            path: file.clone(),
            source,
        })?;
        Ok(Self {
            db,
            instances,
            file: std::sync::Arc::new(file),
        })
    }

    /// Fills an empty database from the manifests.
    fn rebuild(
        self,
        layout: &Layout,
        moved_to: Option<PathBuf>,
        cause: String,
    ) -> Result<Opened, StoreError> {
        let records = records_from_manifests(layout)?;
        for record in records.values() {
            self.insert(record)?;
        }
        self.db.insert(COMPLETE, b"1").map_err(failed("write"))?;
        self.flush()?;
        let recovery = match (records.len(), &moved_to) {
            (0, None) => Recovery::New,
            (instances, _) => Recovery::Rebuilt {
                moved_to,
                cause,
                instances,
            },
        };
        let store = self;
        Ok(Opened { store, recovery })
    }

    /// Writes a record. Durable when it returns, against a crash and against a power cut.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn put(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        self.insert(record)?;
        self.flush()
    }

    fn insert(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        let bytes = codec::encode(record).map_err(|source| broken(record.name.as_str(), source))?;
        self.instances
            .insert(record.name.as_str(), bytes)
            .map_err(failed("write"))?;
        Ok(())
    }

    /// Removes a record. Durable when it returns.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn remove(&self, name: &InstanceName) -> Result<(), StoreError> {
        self.instances
            .remove(name.as_str())
            .map_err(failed("write"))?;
        self.flush()
    }

    /// One record.
    ///
    /// # Errors
    ///
    /// The database failed, or the record is broken.
    pub fn get(&self, name: &InstanceName) -> Result<Option<InstanceRecord>, StoreError> {
        let found = self.instances.get(name.as_str()).map_err(failed("read"))?;
        let decode = |bytes: sled::IVec| codec::decode(&bytes);
        let record = found.map(decode).transpose();
        record.map_err(|source| broken(name.as_str(), source))
    }

    /// All records, ordered by name.
    ///
    /// # Errors
    ///
    /// The database failed, or a record is broken.
    pub fn instances(&self) -> Result<Vec<InstanceRecord>, StoreError> {
        let mut records = Vec::new();
        for entry in &self.instances {
            let (key, bytes) = entry.map_err(failed("read"))?;
            let key = String::from_utf8_lossy(&key);
            records.push(codec::decode(&bytes).map_err(|source| broken(&key, source))?);
        }
        Ok(records)
    }

    /// sled's flush reaches the page cache's writeback (`sync_file_range`), not the disk's own
    /// cache: that is what the `fdatasync` is for.
    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(failed("flush"))?;
        rustix::fs::fdatasync(&*self.file).map_err(|error| StoreError::Io {
            action: "sync",
            path: PathBuf::from("db"),
            source: error.into(),
        })
    }
}

fn broken(key: &str, source: CodecError) -> StoreError {
    StoreError::Record {
        tree: INSTANCES,
        key: key.to_owned(),
        source,
    }
}

/// sled wraps the error of its `flock` in one of its own, with the cause only in the text.
fn is_lock_conflict(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock || error.to_string().contains("acquire lock")
}

fn move_aside(layout: &Layout) -> Result<PathBuf, StoreError> {
    let path = layout.db();
    let stamp = Timestamp::now().as_millisecond();
    let moved_to = path.with_file_name(format!("db.damaged-{stamp}"));
    fs::rename(&path, &moved_to).map_err(|source| StoreError::Io {
        action: "move aside",
        path,
        source,
    })?;
    Ok(moved_to)
}

/// The instances whose data is complete. Of two clones of one name, the one of the last reset
/// counts. None is to expire by a time of last use that nobody knows, so that is now.
fn records_from_manifests(
    layout: &Layout,
) -> Result<BTreeMap<InstanceName, InstanceRecord>, StoreError> {
    let mut records: BTreeMap<InstanceName, InstanceRecord> = BTreeMap::new();
    if !layout.instances().exists() {
        return Ok(records);
    }
    for (directory, record) in manifest::scan::<InstanceRecord>(&layout.instances())? {
        let mut record = match record {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(
                    directory = %directory.display(),
                    error = crate::error_chain(&error),
                    "a directory without a readable manifest is left alone"
                );
                continue;
            }
        };
        let is_complete = layout.instance_data(record.uid).is_dir();
        let older = records.get(&record.name);
        if !is_complete || older.is_some_and(|older| older.generation > record.generation) {
            continue;
        }
        record.phase = Phase::Ready;
        record.last_used_at = Timestamp::now();
        records.insert(record.name.clone(), record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
