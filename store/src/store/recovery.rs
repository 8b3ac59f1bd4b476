//! Records that sled lacks are taken from the manifests beside the data.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;

use super::StoreError;
use super::database::Database;
use super::times;
use crate::ids::{InstanceName, InstanceUid};
use crate::layout::Layout;
use crate::manifest;
use crate::records::{InstanceRecord, ObservedTime, Phase};

/// Fills an empty database from the manifests, and returns its records by name.
pub(super) fn rebuild(
    database: &Database,
    layout: &Layout,
) -> Result<Vec<InstanceRecord>, StoreError> {
    let mut records = records_from_manifests(layout, &HashSet::new())?;
    let observed = times::latest(database, records.values())?;
    for record in records.values_mut() {
        count_as_used(record, observed);
        database.insert(record)?;
    }
    database.set_complete()?;
    Ok(records.into_values().collect())
}

/// The instances whose records were added from the manifests.
#[derive(Default)]
pub(super) struct Added {
    /// Those whose first clone was complete and whose record was not, after a crash.
    pub(super) finished: Vec<InstanceName>,
    /// Those whose record was missing.
    pub(super) found: Vec<InstanceName>,
}

/// Adds the instances that have complete data, and no record or one that is older than the data.
///
/// sled drops the end of its log without an error where a page of it is damaged. An instance is deleted by
/// moving its data away before its record is removed, and a reset's new clone counts only once its record is
/// written, so a client may have been told of any data that has no record.
///
/// A clone whose record is `ready` or `deleting` needs nothing, so its manifest is not read: with 50,000
/// instances that is most of the time of a start.
pub(super) fn complete(
    database: &Database,
    layout: &Layout,
    records: &[InstanceRecord],
) -> Result<Added, StoreError> {
    let settled = records
        .iter()
        .filter(|record| record.phase != Phase::Cloning)
        .map(|record| record.uid)
        .collect();
    let from_manifests = records_from_manifests(layout, &settled)?;
    let observed = times::latest(database, records.iter().chain(from_manifests.values()))?;
    let records: HashMap<_, _> = records
        .iter()
        .map(|record| (&record.name, record))
        .collect();
    let mut added = Added::default();
    for (name, mut manifest) in from_manifests {
        let to = match records.get(&name) {
            None => &mut added.found,
            Some(record) if record.uid == manifest.uid => match record.phase {
                Phase::Cloning => &mut added.finished,
                Phase::Ready | Phase::Deleting => continue,
            },
            Some(record) => {
                let is_older = record.phase == Phase::Ready
                    && record.epoch < manifest.epoch
                    && !layout.instance_data(record.uid).is_dir();
                if !is_older {
                    continue;
                }
                &mut added.found
            }
        };
        to.push(name);
        count_as_used(&mut manifest, observed);
        database.insert(&manifest)?;
    }
    if !added.finished.is_empty() || !added.found.is_empty() {
        database.flush()?;
    }
    Ok(added)
}

/// The last use of an instance whose record comes from its manifest is not known, so it is now: it does not expire
/// too early.
fn count_as_used(record: &mut InstanceRecord, observed: ObservedTime) {
    record.last_used_at = Timestamp::now();
    record.last_used_observed = observed;
    record.marked = None;
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

/// The instances whose data is complete, but for these clones. Of two clones of one name, the one with the
/// higher epoch counts.
fn records_from_manifests(
    layout: &Layout,
    except: &HashSet<InstanceUid>,
) -> Result<BTreeMap<InstanceName, InstanceRecord>, StoreError> {
    let mut records: BTreeMap<InstanceName, InstanceRecord> = BTreeMap::new();
    if !layout.instances().exists() {
        return Ok(records);
    }
    let is_wanted = |name: &OsStr| {
        let uid = name.to_str().and_then(|name| name.parse().ok());
        uid.is_none_or(|uid: InstanceUid| !except.contains(&uid))
    };
    let found = manifest::scan_some::<InstanceRecord>(&layout.instances(), is_wanted)?;
    for (directory, record) in found {
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
        if !is_complete || older.is_some_and(|older| older.epoch > record.epoch) {
            continue;
        }
        record.phase = Phase::Ready;
        records.insert(record.name.clone(), record);
    }
    Ok(records)
}
