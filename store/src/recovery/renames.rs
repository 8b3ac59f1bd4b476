//! Instances that have another name since a record of them was written.

use std::collections::HashMap;

use super::{FoundClone, Plan, RecordOrigin};
use crate::ids::{InstanceName, InstanceUid};
use crate::records::InstanceRecord;

/// The names of records whose instance has another name since, and that name.
///
/// A rename takes the next epoch, so of the names of one clone the one of the highest epoch counts.
#[derive(Debug, Default)]
pub(super) struct Renames(HashMap<InstanceName, InstanceName>);

impl Renames {
    /// The renames of these records.
    pub(super) fn find<'a>(
        records: &'a [InstanceRecord],
        clones: impl Iterator<Item = &'a FoundClone>,
    ) -> Self {
        let mut newest: HashMap<InstanceUid, &InstanceRecord> = HashMap::new();
        for record in records.iter().chain(clones.filter_map(FoundClone::record)) {
            let known = newest.entry(record.uid).or_insert(record);
            if record.epoch > known.epoch {
                *known = record;
            }
        }
        let renamed = records.iter().filter_map(|record| {
            let newest = newest.get(&record.uid)?;
            let is_renamed = newest.name != record.name && newest.epoch > record.epoch;
            is_renamed.then(|| (record.name.clone(), newest.name.clone()))
        });
        Self(renamed.collect())
    }

    /// Whether the instance of this record has another name since.
    pub(super) fn has(&self, name: &InstanceName) -> bool {
        self.0.contains_key(name)
    }

    /// Completes the renames: says so of the instances that got the names, and tells their clones, which are told after
    /// the instance itself. The old record goes last, so it is there as long as a clone may not know.
    pub(super) fn complete(&self, plan: &mut Plan) {
        for one in &mut plan.instances {
            let is_new = self.0.values().any(|name| *name == one.record.name);
            if is_new && one.origin == RecordOrigin::Manifest {
                one.origin = RecordOrigin::Renamed;
            }
        }
        for (old, new) in &self.0 {
            let has =
                |name: &InstanceName| plan.instances.iter().any(|one| one.record.name == *name);
            // Another instance may have the old name by now.
            if has(old) || !has(new) {
                continue;
            }
            for child in &mut plan.instances {
                if child.record.parent.as_ref() == Some(old) {
                    child.record.parent = Some(new.clone());
                    child.record.sequence += 1;
                    child.mends_manifest = child.unusable.is_none();
                    if child.origin == RecordOrigin::Database {
                        child.origin = RecordOrigin::ParentRenamed;
                    }
                }
            }
        }
    }
}
