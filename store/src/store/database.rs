//! sled: the only place that opens it and makes its writes durable.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::StoreError;
use crate::codec::{self, CodecError};
use crate::directory;
use crate::disk_fault::FileError;
use crate::ids::{InstanceName, InstanceUid};
use crate::layout::Layout;
use crate::records::InstanceRecord;

/// The tree of instances, by name.
const INSTANCES: &str = "instances";
/// The tree of jobs, by number.
pub(super) const JOBS: &str = "jobs";
/// The key that is set once the database was filled, which distinguishes an empty database from a lost one.
const COMPLETE: &[u8] = b"complete";
/// The key of the highest epoch that was ever given.
const EPOCH: &[u8] = b"epoch";
/// The records are read once, at the start; afterwards the cache only serves writes.
const CACHE_BYTES: u64 = 8 << 20;

/// An open database.
pub(super) struct Database {
    pub(super) db: sled::Db,
    pub(super) instances: sled::Tree,
    /// A record for each job, under [`JobId::to_key`](crate::JobId::to_key).
    pub(super) jobs: sled::Tree,
    /// sled's own file, for `fdatasync`.
    file: File,
}

/// An open database and its contents.
pub(super) struct Contents {
    pub(super) database: Database,
    /// All records, by name.
    pub(super) records: Vec<InstanceRecord>,
    /// Whether the database was ever filled.
    pub(super) is_complete: bool,
    /// The highest epoch that was ever given.
    pub(super) epoch: u64,
}

impl Database {
    /// Opens the database and reads every record.
    pub(super) fn open_and_read(layout: &Layout) -> Result<Contents, StoreError> {
        Self::open_and_read_at(layout.db())
    }

    /// Opens the database in this directory, and reads every record.
    pub(super) fn open_and_read_at(path: PathBuf) -> Result<Contents, StoreError> {
        let open = || -> Result<Contents, StoreError> {
            let database = Self::open(path)?;
            let records = database.all()?;
            let is_complete = database.db.contains_key(COMPLETE).map_err(failed("read"))?;
            let epoch = database.epoch()?;
            Ok(Contents {
                database,
                records,
                is_complete,
                epoch,
            })
        };
        // A database that panicked is not used again.
        catch_panic(AssertUnwindSafe(open))
    }

    fn open(path: PathBuf) -> Result<Self, StoreError> {
        directory::create_missing(&path, 0o700).map_err(FileError::at("open", &path))?;
        let opened = sled::Config::new()
            .path(&path)
            .cache_capacity(CACHE_BYTES)
            // Each write is flushed explicitly before it is acknowledged.
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
        let file = File::open(&file).map_err(FileError::at("open", &file))?;
        Ok(Self {
            db,
            instances,
            jobs,
            file,
        })
    }

    /// Marks the database as filled.
    pub(super) fn set_complete(&self) -> Result<(), StoreError> {
        self.db.insert(COMPLETE, b"1").map_err(failed("write"))?;
        self.flush()
    }

    pub(super) fn insert(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        let bytes = codec::encode(record).map_err(|source| broken(record.name.as_str(), source))?;
        self.instances
            .insert(record.name.as_str(), bytes)
            .map_err(failed("write"))?;
        self.note_epoch(record.epoch)
    }

    /// Removes the record of this clone, and leaves that of another one with its name.
    pub(super) fn remove_clone(
        &self,
        name: &InstanceName,
        uid: InstanceUid,
    ) -> Result<(), StoreError> {
        match self.get(name) {
            Ok(Some(record)) if record.uid != uid => Ok(()),
            // A broken record is removed as well.
            Ok(_) | Err(StoreError::Record { .. }) => self.remove(name),
            Err(error) => Err(error),
        }
    }

    /// The record of this name.
    pub(super) fn get(&self, name: &InstanceName) -> Result<Option<InstanceRecord>, StoreError> {
        let bytes = self.instances.get(name.as_str()).map_err(failed("read"))?;
        let decode = |bytes: sled::IVec| codec::decode(&bytes);
        let decoded = bytes.map(decode).transpose();
        decoded.map_err(|source| broken(name.as_str(), source))
    }

    /// The highest epoch that was ever given. It outlives the records that had it.
    fn epoch(&self) -> Result<u64, StoreError> {
        let bytes = self.db.get(EPOCH).map_err(failed("read"))?;
        let number =
            bytes.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?)));
        Ok(number.unwrap_or(0))
    }

    pub(super) fn note_epoch(&self, epoch: u64) -> Result<(), StoreError> {
        if epoch > self.epoch()? {
            let bytes = &epoch.to_be_bytes()[..];
            self.db.insert(EPOCH, bytes).map_err(failed("write"))?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, name: &InstanceName) -> Result<(), StoreError> {
        self.instances
            .remove(name.as_str())
            .map_err(failed("write"))?;
        Ok(())
    }

    /// All records, by name.
    pub(super) fn all(&self) -> Result<Vec<InstanceRecord>, StoreError> {
        let mut records = Vec::new();
        for entry in &self.instances {
            let (key, bytes) = entry.map_err(failed("read"))?;
            let key = String::from_utf8_lossy(&key);
            records.push(codec::decode(&bytes).map_err(|source| broken(&key, source))?);
        }
        Ok(records)
    }

    /// Makes all writes durable. sled's own flush (`sync_file_range`) does not reach the disk's cache, so
    /// `fdatasync` follows.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(failed("flush"))?;
        let synced = rustix::fs::fdatasync(&self.file).map_err(io::Error::from);
        Ok(synced.map_err(FileError::at("sync", Path::new("db")))?)
    }
}

/// Keeps a damaged database beside the new one.
pub(super) fn move_aside(layout: &Layout) -> Result<PathBuf, StoreError> {
    let path = layout.db();
    let stamp = Timestamp::now().as_millisecond();
    let moved_to = path.with_file_name(format!("db.damaged-{stamp}"));
    fs::rename(&path, &moved_to).map_err(FileError::at("move aside", &path))?;
    Ok(moved_to)
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

/// sled wraps the error of its `flock` in an error of its own that has the cause only in its text.
fn is_lock_conflict(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock || error.to_string().contains("acquire lock")
}
