//! What is done where sled does not have all records: the manifests beside the data have them too.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;

use super::StoreError;
use super::database::Database;
use crate::ids::InstanceName;
use crate::layout::Layout;
use crate::manifest;
use crate::records::{InstanceRecord, Phase};

/// Fills an empty database from the manifests, and says how many instances there are.
pub(super) fn rebuild(database: &Database, layout: &Layout) -> Result<usize, StoreError> {
    let records = records_from_manifests(layout)?;
    for record in records.values() {
        database.insert(record)?;
    }
    database.set_complete()?;
    Ok(records.len())
}

/// What was added to a database from the manifests.
#[derive(Default)]
pub(super) struct Added {
    /// The instances whose first clone was complete but for its record, as a crash leaves it.
    pub(super) finished: Vec<InstanceName>,
    /// The instances whose record was lost.
    pub(super) found: Vec<InstanceName>,
}

/// Adds the instances whose data is complete and whose record is not there, or is older than their data.
///
/// sled drops the end of its log without a word where a page of it is damaged. An instance is deleted by moving its
/// data away before its record goes, and a reset's new clone counts only when its record is written: so data
/// without a record is data that a client may have been told of.
pub(super) fn complete(database: &Database, layout: &Layout) -> Result<Added, StoreError> {
    let records = database.all()?;
    let records: HashMap<_, _> = records
        .iter()
        .map(|record| (&record.name, record))
        .collect();
    let mut added = Added::default();
    for (name, manifest) in records_from_manifests(layout)? {
        let to = match records.get(&name) {
            None => &mut added.found,
            Some(record) if record.uid == manifest.uid => match record.phase {
                Phase::Cloning => &mut added.finished,
                Phase::Ready | Phase::Deleting => continue,
            },
            Some(record) => {
                let is_older = record.phase == Phase::Ready
                    && record.generation < manifest.generation
                    && !layout.instance_data(record.uid).is_dir();
                match is_older {
                    true => &mut added.found,
                    false => continue,
                }
            }
        };
        to.push(name);
        database.insert(&manifest)?;
    }
    if !added.finished.is_empty() || !added.found.is_empty() {
        database.flush()?;
    }
    Ok(added)
}

/// Keeps a damaged database beside the new one.
pub(super) fn move_aside(layout: &Layout) -> Result<PathBuf, StoreError> {
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
