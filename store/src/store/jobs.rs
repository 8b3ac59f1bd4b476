//! The records of jobs. They are a history: losing one loses no data, so a damaged one is skipped.

use std::panic::AssertUnwindSafe;

use super::database::{Database, JOBS, catch_panic, failed};
use super::{Store, StoreError};
use crate::codec::{self, CodecError};
use crate::ids::JobId;
use crate::records::JobRecord;

/// The jobs in the database.
#[derive(Debug, Default)]
pub struct StoredJobs {
    /// The readable ones, by their numbers.
    pub records: Vec<JobRecord>,
    /// The records that cannot be read.
    pub damaged: Vec<DamagedJob>,
}

/// A record in the tree of jobs that cannot be read.
#[derive(Debug)]
pub struct DamagedJob {
    /// Its key.
    key: Vec<u8>,
    /// The fault.
    pub error: StoreError,
}

impl Store {
    /// Writes a job's record. Durable when it returns, against a crash and against a power cut.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn put_job(&self, record: &JobRecord) -> Result<(), StoreError> {
        let bytes = codec::encode_job(record).map_err(|source| broken(&record.id, source))?;
        self.run(|database| {
            let key = record.id.to_key();
            let inserted = database.jobs.insert(key, bytes.as_slice());
            inserted.map_err(failed("write"))?;
            database.flush()
        })
    }

    /// Removes jobs' records. Durable when it returns.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn remove_jobs(&self, ids: &[JobId]) -> Result<(), StoreError> {
        self.remove_job_keys(ids.iter().map(|id| id.to_key()))
    }

    /// Removes records that cannot be read. Durable when it returns.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn remove_damaged_jobs(&self, damaged: &[DamagedJob]) -> Result<(), StoreError> {
        self.remove_job_keys(damaged.iter().map(|damaged| &damaged.key))
    }

    fn remove_job_keys<K: AsRef<[u8]>>(
        &self,
        keys: impl Iterator<Item = K> + Clone,
    ) -> Result<(), StoreError> {
        self.run(|database| {
            for key in keys.clone() {
                database.jobs.remove(key).map_err(failed("write"))?;
            }
            database.flush()
        })
    }

    /// All jobs. A damaged record is told of, and is no error.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn jobs(&self) -> Result<StoredJobs, StoreError> {
        self.run(read)
    }
}

/// All jobs in the database.
pub(super) fn read(database: &Database) -> Result<StoredJobs, StoreError> {
    // sled panics on some damage.
    catch_panic(AssertUnwindSafe(|| read_all(database)))
}

fn read_all(database: &Database) -> Result<StoredJobs, StoreError> {
    let mut jobs = StoredJobs::default();
    for entry in &database.jobs {
        let (key, bytes) = entry.map_err(failed("read"))?;
        match decode(&key, &bytes) {
            Ok(record) => jobs.records.push(record),
            Err(error) => jobs.damaged.push(DamagedJob {
                key: key.to_vec(),
                error,
            }),
        }
    }
    Ok(jobs)
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<JobRecord, StoreError> {
    let id = JobId::from_key(key);
    let shown = id.map_or_else(|| key.escape_ascii().to_string(), |id| id.to_string());
    let record = codec::decode_job(bytes).map_err(|source| broken(&shown, source))?;
    if Some(record.id) == id {
        Ok(record)
    } else {
        Err(broken(&shown, CodecError::Key))
    }
}

fn broken(key: &impl ToString, source: CodecError) -> StoreError {
    StoreError::Record {
        tree: JOBS,
        key: key.to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::example_job;
    use crate::layout::Layout;

    fn job(number: u64) -> JobRecord {
        JobRecord {
            id: JobId::from_number(number),
            ..example_job()
        }
    }

    fn open(directory: &tempfile::TempDir) -> Store {
        Store::open_or_rebuild(&Layout::new(directory.path()))
            .unwrap()
            .store
    }

    #[test]
    fn jobs_survive_a_reopening_in_the_order_of_their_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        for number in [300, 2, 1, 256] {
            store.put_job(&job(number)).unwrap();
        }
        store.remove_jobs(&[JobId::from_number(2)]).unwrap();
        drop(store);
        let jobs = open(&directory).jobs().unwrap();
        assert_eq!(jobs.records, [job(1), job(256), job(300)]);
        assert!(jobs.damaged.is_empty());
    }

    #[test]
    fn damaged_job_is_reported_and_hides_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        store.put_job(&job(1)).unwrap();
        store.put_job(&job(3)).unwrap();
        let damage = |database: &Database| {
            let other = codec::encode_job(&job(9)).unwrap();
            let of = |number| JobId::from_number(number).to_key();
            database.jobs.insert(of(2), &b"garbage"[..]).unwrap();
            database.jobs.insert(of(4), other).unwrap();
            database.jobs.insert(b"x", &b""[..]).unwrap();
            database.flush()
        };
        store.run(damage).unwrap();
        let jobs = store.jobs().unwrap();
        assert_eq!(jobs.records, [job(1), job(3)]);
        let damaged: Vec<_> = jobs
            .damaged
            .iter()
            .map(|job| job.error.to_string())
            .collect();
        let expected =
            ["2", "4", "x"].map(|key| format!("record \"{key}\" in tree \"jobs\" is broken"));
        assert_eq!(damaged, expected);
        store.remove_damaged_jobs(&jobs.damaged).unwrap();
        drop(store);
        let jobs = open(&directory).jobs().unwrap();
        assert_eq!(jobs.records, [job(1), job(3)]);
        assert!(jobs.damaged.is_empty());
    }
}
