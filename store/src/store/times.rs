//! The moments in observed time that outlive the daemon.

use super::database::{Database, failed};
use super::{Store, StoreError};
use crate::codec;
use crate::records::{InstanceRecord, ObservedTime};

/// A moment that the database keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredTime {
    /// The newest observed time that was written. The clock goes on from here at the next start.
    Observed,
    /// When a deletion by expiry last began. Written before the deletion.
    LastExpiry,
}

impl StoredTime {
    /// The key in the database, beside the trees of records.
    fn key(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::LastExpiry => "last-expiry",
        }
    }
}

impl Store {
    /// Writes a moment. Durable when it returns, against a crash and against a power cut.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn put_time(&self, which: StoredTime, time: ObservedTime) -> Result<(), StoreError> {
        self.run(|database| {
            database.insert_time(which, time)?;
            database.flush()
        })
    }

    /// A moment, if it was ever written.
    ///
    /// # Errors
    ///
    /// The database failed, or the moment is broken.
    pub fn time(&self, which: StoredTime) -> Result<Option<ObservedTime>, StoreError> {
        self.run(|database| database.time(which))
    }
}

impl Database {
    pub(super) fn insert_time(
        &self,
        which: StoredTime,
        time: ObservedTime,
    ) -> Result<(), StoreError> {
        let bytes = codec::encode_time(time).map_err(|source| broken(which, source))?;
        let inserted = self.db.insert(which.key(), bytes.as_slice());
        inserted.map_err(failed("write"))?;
        Ok(())
    }

    /// A moment, if it was ever written.
    pub(super) fn time(&self, which: StoredTime) -> Result<Option<ObservedTime>, StoreError> {
        let bytes = self.db.get(which.key()).map_err(failed("read"))?;
        let decode = |bytes: sled::IVec| codec::decode_time(&bytes);
        let decoded = bytes.map(decode).transpose();
        decoded.map_err(|source| broken(which, source))
    }
}

/// The observed time from which the clock of a root goes on: no earlier than any moment that was stored. A lost
/// counter makes it late, and never makes an instance look unused for longer than it was.
pub(super) fn latest<'a>(
    database: &Database,
    records: impl IntoIterator<Item = &'a InstanceRecord>,
) -> Result<ObservedTime, StoreError> {
    let stored = [StoredTime::Observed, StoredTime::LastExpiry];
    let mut latest = ObservedTime::default();
    for which in stored {
        latest = latest.max(database.time(which)?.unwrap_or_default());
    }
    let of_records = records.into_iter().flat_map(|record| {
        let marked = record.marked.map(|mark| mark.observed);
        [Some(record.last_used_observed), marked]
    });
    Ok(of_records.flatten().fold(latest, ObservedTime::max))
}

fn broken(which: StoredTime, source: codec::CodecError) -> StoreError {
    StoreError::Record {
        tree: "times",
        key: which.key().to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::codec::tests::example;
    use crate::layout::Layout;
    use crate::records::Mark;

    fn at(millis: u64) -> ObservedTime {
        ObservedTime::from_millis(millis)
    }

    fn record(name: &str, last_used: u64, marked: Option<u64>) -> InstanceRecord {
        InstanceRecord {
            name: name.parse().unwrap(),
            last_used_observed: at(last_used),
            marked: marked.map(|observed| Mark {
                at: jiff::Timestamp::UNIX_EPOCH,
                observed: at(observed),
            }),
            ..example()
        }
    }

    #[test]
    fn moments_survive_and_a_new_root_begins_at_zero() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let opened = Store::open_or_rebuild(&layout).unwrap();
        assert_eq!((opened.observed, opened.last_expiry), (at(0), None));
        let store = opened.store;
        store.put_time(StoredTime::Observed, at(70_000)).unwrap();
        store.put_time(StoredTime::LastExpiry, at(60_000)).unwrap();
        drop(store);
        let opened = Store::open_or_rebuild(&layout).unwrap();
        let expected = (at(70_000), Some(at(60_000)));
        assert_eq!((opened.observed, opened.last_expiry), expected);
    }

    #[test]
    fn clock_whose_counter_was_lost_goes_on_from_the_latest_record() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let store = Store::open_or_rebuild(&layout).unwrap().store;
        store.put(&record("a", 500, None)).unwrap();
        store.put(&record("b", 300, Some(900))).unwrap();
        drop(store);
        let opened = Store::open_or_rebuild(&layout).unwrap();
        assert_eq!((opened.observed, opened.last_expiry), (at(900), None));
    }

    #[test]
    fn record_from_a_manifest_counts_as_used_now() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let opened = Store::open_or_rebuild(&layout).unwrap();
        opened.store.put(&record("a", 500, None)).unwrap();
        opened
            .store
            .put_time(StoredTime::Observed, at(800))
            .unwrap();
        drop(opened);
        let lost = InstanceRecord {
            uid: crate::InstanceUid::from_bits(77),
            ..record("lost", 5, Some(6))
        };
        let directory = layout.instance(lost.uid);
        fs::create_dir_all(layout.instance_data(lost.uid)).unwrap();
        crate::manifest::write(&directory, &lost).unwrap();
        let found = || {
            let instances = Store::open_or_rebuild(&layout).unwrap().plan.instances;
            let mut records = instances.into_iter().map(|one| one.record);
            let found = records.find(|record| record.name == lost.name).unwrap();
            (found.last_used_observed, found.marked)
        };
        assert_eq!(found(), (at(800), None));
        // Likewise where the whole database is lost: then by the latest of the manifests.
        fs::remove_dir_all(layout.db()).unwrap();
        assert_eq!(found(), (at(6), None));
    }
}
