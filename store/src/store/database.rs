//! sled itself: the one place that opens it, and knows how its writes become durable.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, UnwindSafe};
use std::path::PathBuf;

use super::StoreError;
use crate::codec::{self, CodecError};
use crate::ids::InstanceName;
use crate::layout::Layout;
use crate::records::InstanceRecord;

/// A record for each instance, under its name.
const INSTANCES: &str = "instances";
/// A record for each job, under its number.
pub(super) const JOBS: &str = "jobs";
/// Set once the database was filled, so that an empty one can be told from a lost one.
const COMPLETE: &[u8] = b"complete";
/// Enough for ten thousand records.
const CACHE_BYTES: u64 = 8 << 20;

/// An open database.
pub(super) struct Database {
    db: sled::Db,
    pub(super) instances: sled::Tree,
    /// A record for each job, under [`JobId::to_key`](crate::JobId::to_key).
    pub(super) jobs: sled::Tree,
    /// sled's own file, for `fdatasync`.
    file: File,
}

impl Database {
    /// Opens the database and reads every record; also says whether it was ever filled.
    pub(super) fn open_whole(layout: &Layout) -> Result<(Self, bool), StoreError> {
        let open = || -> Result<(Self, bool), StoreError> {
            let database = Self::open(layout)?;
            database.all()?;
            let complete = database.db.contains_key(COMPLETE).map_err(failed("read"))?;
            Ok((database, complete))
        };
        // Nothing of a database that panicked is used again.
        catch_panic(AssertUnwindSafe(open))
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
        let jobs = db.open_tree(JOBS).map_err(failed("open"))?;
        let file = path.join("db");
        let file = File::open(&file).map_err(|source| StoreError::Io {
            action: "open",
            path: file.clone(),
            source,
        })?;
        Ok(Self {
            db,
            instances,
            jobs,
            file,
        })
    }

    /// Says that all records are there.
    pub(super) fn set_complete(&self) -> Result<(), StoreError> {
        self.db.insert(COMPLETE, b"1").map_err(failed("write"))?;
        self.flush()
    }

    pub(super) fn insert(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        let bytes = codec::encode(record).map_err(|source| broken(record.name.as_str(), source))?;
        self.instances
            .insert(record.name.as_str(), bytes)
            .map_err(failed("write"))?;
        Ok(())
    }

    pub(super) fn remove(&self, name: &InstanceName) -> Result<(), StoreError> {
        self.instances
            .remove(name.as_str())
            .map_err(failed("write"))?;
        Ok(())
    }

    /// All records, ordered by name.
    pub(super) fn all(&self) -> Result<Vec<InstanceRecord>, StoreError> {
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
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(failed("flush"))?;
        rustix::fs::fdatasync(&self.file).map_err(|error| StoreError::Io {
            action: "sync",
            path: PathBuf::from("db"),
            source: error.into(),
        })
    }
}

/// Turns a panic of sled into an error.
pub(super) fn catch_panic<T>(
    action: impl FnOnce() -> Result<T, StoreError> + UnwindSafe,
) -> Result<T, StoreError> {
    std::panic::catch_unwind(action).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        let message = said.unwrap_or_else(|| "it panicked".to_owned());
        Err(StoreError::Panicked { message })
    })
}

pub(super) fn failed(action: &'static str) -> impl Fn(sled::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
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
