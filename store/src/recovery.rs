//! The rule of a start, as a pure function: [`plan`] compares the records with the clones on disk.
//!
//! **Nothing that holds complete data is deleted, unless the live record of the same name has data of a higher
//! epoch. Everything else is kept, and shown.**
//!
//! Records can be older than the disk: restored from a copy, or without the end of their log, which sled loses
//! silently where a page of it is damaged. So a record is a claim, the data is the truth, and the order of
//! happened is read~events is read
//!
//! | record of the name | its clone | other complete clones of the name | result |
//! | --- | --- | --- | --- |
//! | any | cannot be read | any | it is shown as failed, and all of them are left alone |
//! | any | complete | of lower epochs | it is served, the others are deleted |
//! | any | complete | one of a higher epoch | that one is served, the others are deleted |
//! | ready | without data | any | the one of the highest epoch is served |
//! | ready | without data | none | it is shown as failed |
//! | ready | in the trash | as for deleting | as for deleting |
//! | cloning | without data | any | the one of the highest epoch is served |
//! | cloning | without data | none | the record is removed: no client was told of it |
//! | deleting | without data | of an epoch that is no lower | that one is served |
//! | deleting | without data | of a lower epoch, or none | the record is removed, the others are quarantined |
//! | renamed | | of an epoch that is no lower | that one is served |
//! | renamed | | of a lower epoch, or none | the record is removed, the others are quarantined |
//! | none | | any | the one of the highest epoch is served |
//!
//! - A record is renamed where the manifest of its own clone, or another record of that clone, has another name and a
//!   higher epoch: a rename takes the next epoch, and the manifest that it writes is its commit.
//! - A deletion moves the data to the trash before it is acknowledged, so complete data in place is of a deletion
//!   that failed or was interrupted before it did anything.
//! - A reset whose clone is complete is carried forward: its record would have been written next.
//! - Of the copies of one record the one with the higher sequence number counts. The time of last use never goes back.
//!   A change of a pin is acknowledged once both copies have it, so where they differ and the manifest is not the newer
//!   one, the stronger pin counts: the record is of another time, or its change was not acknowledged.
//! - Complete data whose manifest is damaged has no name: it is quarantined, unless a record names it.
//! - A directory without a manifest that no record names is left alone, and so is an unreadable one, for now.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::clones::{OF_ANOTHER, why_unusable};
use crate::ids::{InstanceName, InstanceUid};
use crate::records::{InstanceRecord, Phase};

mod copies;
mod renames;

pub use self::copies::LastUse;
use self::copies::{count_as_used, merge};
use self::renames::Renames;

/// The records and clones that a start finds.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The records of the database, at most one of each name.
    pub records: Vec<InstanceRecord>,
    /// The clones in `instances/`, at most one of each uid.
    pub clones: Vec<FoundClone>,
    /// The clones in the trash.
    pub trashed: Vec<InstanceUid>,
    /// The highest epoch elsewhere: the database's counter, the quarantine, the trash.
    pub epoch: u64,
    /// The last use of an instance of which it is not known. It is now, so that nothing expires too early.
    pub last_use: LastUse,
}

/// A clone on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundClone {
    /// The name of its directory.
    pub uid: InstanceUid,
    /// Its manifest.
    pub manifest: FoundManifest,
    /// Whether its data is complete.
    pub has_data: bool,
}

/// The manifest of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundManifest {
    /// It names this clone.
    Record(Box<InstanceRecord>),
    /// Its bytes are wrong.
    Damaged(String),
    /// It cannot be read for now: the device failed, or a newer multidb wrote it.
    Unreadable(String),
    /// There is none, and only the files of a clone that a crash cut off.
    Unfinished,
    /// There is none.
    Missing,
    /// It is of another directory.
    Foreign(String),
}

/// The decisions of a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The instances, by name.
    pub instances: Vec<Recovered>,
    /// The names whose records are to be removed.
    pub removed: Vec<InstanceName>,
    /// The clones that are not of an instance, by uid. Each may have a server, which has to be stopped first.
    pub leftovers: Vec<Leftover>,
    /// The directories that nothing is done to, by uid, and why.
    pub left_alone: Vec<(InstanceUid, String)>,
    /// The highest epoch of all.
    pub epoch: u64,
}

impl Plan {
    /// Whether clones that are served or kept may have to be made durable first.
    pub fn has_unsynced_clones(&self) -> bool {
        let mut instances = self.instances.iter();
        let mut leftovers = self.leftovers.iter();
        let is_kept = |leftover: &Leftover| leftover.action != LeftoverAction::Delete;
        instances.any(|one| one.origin.may_be_unsynced()) || leftovers.any(is_kept)
    }
}

/// An instance at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Its record, always `ready`.
    pub record: InstanceRecord,
    /// Where the record comes from.
    pub origin: RecordOrigin,
    /// Why its data cannot be used, if it cannot.
    pub unusable: Option<String>,
    /// Whether its manifest is to be written again.
    pub mends_manifest: bool,
}

/// Where the record of an instance comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOrigin {
    /// The database.
    Database,
    /// The database, and it was `deleting`: the data is still there.
    Kept,
    /// The database, and it was `cloning`: the clone is complete.
    Finished,
    /// The database and the manifest, which is newer.
    Updated,
    /// The manifest of a clone that no record named.
    Manifest,
    /// The manifest of a clone whose record has the name that the instance had before.
    Renamed,
    /// The database, but for the name of its parent, which was renamed.
    ParentRenamed,
}

impl RecordOrigin {
    /// Whether the clone may be complete and not durable: no record said that it is ready, which is written last.
    pub fn may_be_unsynced(self) -> bool {
        match self {
            Self::Finished | Self::Kept | Self::Manifest | Self::Renamed => true,
            Self::Database | Self::Updated | Self::ParentRenamed => false,
        }
    }
}

/// A clone that is not of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its directory.
    pub uid: InstanceUid,
    /// The name in its manifest, which it would be served under if the name had no other clone.
    pub name: Option<InstanceName>,
    /// The epoch in its manifest, or zero.
    pub epoch: u64,
    /// The action of the start.
    pub action: LeftoverAction,
}

/// The action for a clone that is not of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftoverAction {
    /// It is deleted: it has no complete data, or was superseded.
    Delete,
    /// It is moved to the quarantine, for this reason.
    Quarantine(String),
}

/// Decides about all that a start finds.
pub fn plan(found: Found) -> Plan {
    let of_records = found.records.iter();
    let of_manifests = found.clones.iter().filter_map(FoundClone::record);
    let epochs = of_records.chain(of_manifests).map(|record| record.epoch);
    let mut planning = Planning {
        clones: found
            .clones
            .iter()
            .map(|clone| (clone.uid, clone))
            .collect(),
        trashed: found.trashed.into_iter().collect(),
        last_use: found.last_use,
        used: HashSet::new(),
        renamed: Renames::find(&found.records, found.clones.iter()),
        plan: Plan {
            epoch: epochs.fold(found.epoch, u64::max),
            ..Plan::default()
        },
    };
    let claims = planning.claims(&found.records);
    // The complete clones that no record names, by the names in their manifests.
    let mut names: BTreeMap<&InstanceName, Vec<&InstanceRecord>> = BTreeMap::new();
    for clone in &found.clones {
        if let (Some(manifest), true) = (clone.record(), clone.has_data)
            && !claims.contains_key(&clone.uid)
        {
            names.entry(&manifest.name).or_default().push(manifest);
        }
    }
    for record in found.records {
        let mut others = names.remove(&record.name).unwrap_or_default();
        others.sort_by_key(|other| Reverse(rank(other)));
        let is_claimed = claims.get(&record.uid) == Some(&record.name);
        planning.of_record(record, is_claimed, &others);
    }
    for (_, mut clones) in names {
        clones.sort_by_key(|other| Reverse(rank(other)));
        if let Some((best, others)) = clones.split_first() {
            planning.serve_manifest(best);
            planning.leave_all(others, best);
        }
    }
    for clone in &found.clones {
        planning.of_rest(clone);
    }
    planning
        .plan
        .instances
        .sort_by(|a, b| a.record.name.cmp(&b.record.name));
    let Planning {
        renamed, mut plan, ..
    } = planning;
    plan.leftovers.sort_by_key(|leftover| leftover.uid);
    renamed.complete(&mut plan);
    plan
}

/// The order of clones with one name. The uid only makes it total.
fn rank(manifest: &InstanceRecord) -> (u64, u64, InstanceUid) {
    (manifest.epoch, manifest.sequence, manifest.uid)
}

/// A plan in the making.
struct Planning<'a> {
    clones: HashMap<InstanceUid, &'a FoundClone>,
    trashed: HashSet<InstanceUid>,
    last_use: LastUse,
    /// The clones that are decided about.
    used: HashSet<InstanceUid>,
    renamed: Renames,
    plan: Plan,
}

impl Planning<'_> {
    /// The record that each clone with data belongs to. If two records name one clone, it belongs to the one that its
    /// manifest names.
    fn claims(&self, records: &[InstanceRecord]) -> HashMap<InstanceUid, InstanceName> {
        let mut claims: HashMap<InstanceUid, InstanceName> = HashMap::new();
        for record in records {
            let Some(clone) = self.clones.get(&record.uid).filter(|clone| clone.has_data) else {
                continue;
            };
            let is_foreign = matches!(clone.manifest, FoundManifest::Foreign(_));
            if is_foreign || self.renamed.has(&record.name) {
                continue;
            }
            let named = clone.record().map(|manifest| &manifest.name);
            if named == Some(&record.name) || !claims.contains_key(&record.uid) {
                claims.insert(record.uid, record.name.clone());
            }
        }
        claims
    }

    /// Decides about a name that has a record. The other complete clones are sorted, the highest
    /// epoch first.
    fn of_record(&mut self, record: InstanceRecord, has_data: bool, others: &[&InstanceRecord]) {
        let best = others.first().copied();
        let is_renamed = self.renamed.has(&record.name);
        let is_deleted =
            record.phase == Phase::Deleting || self.trashed.contains(&record.uid) || is_renamed;
        if let (false, false, Some(why)) = (has_data, is_renamed, self.unreadable(&record)) {
            for other in others {
                self.used.insert(other.uid);
                let why = format!(
                    "the newer clone of instance \"{}\" cannot be read",
                    record.name
                );
                self.plan.left_alone.push((other.uid, why));
            }
            self.show_as_failed(record, why);
            return;
        }
        if has_data {
            match best {
                Some(best) if best.epoch > record.epoch => {
                    self.serve_manifest(best);
                    self.leave(record.uid, record.epoch, best);
                    self.leave_all(&others[1..], best);
                }
                _ => {
                    let served = record.clone();
                    self.serve_record(record);
                    self.leave_all(others, &served);
                }
            }
            return;
        }
        match best {
            Some(best) if !is_deleted || best.epoch >= record.epoch => {
                self.serve_manifest(best);
                self.leave_all(&others[1..], best);
            }
            _ if is_deleted || record.phase == Phase::Cloning => {
                self.plan.removed.push(record.name.clone());
                for other in others {
                    let end = if is_renamed { "renamed" } else { "deleted" };
                    let why = format!(
                        "instance \"{}\" was {end}, and this is an older clone of it",
                        record.name
                    );
                    self.put_aside(other.uid, LeftoverAction::Quarantine(why));
                }
            }
            _ => {
                let clone = self.clones.get(&record.uid).copied();
                let why = why_unusable(&record, clone);
                let why = why.unwrap_or_else(|| OF_ANOTHER.to_owned());
                self.show_as_failed(record, why);
            }
        }
    }

    /// Why the clone of a record cannot be read for now. It may be complete.
    fn unreadable(&self, record: &InstanceRecord) -> Option<String> {
        match &self.clones.get(&record.uid)?.manifest {
            FoundManifest::Unreadable(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Its directory stays: the data may be brought back by hand.
    fn show_as_failed(&mut self, record: InstanceRecord, why: String) {
        self.used.insert(record.uid);
        self.plan.instances.push(Recovered {
            record: InstanceRecord {
                phase: Phase::Ready,
                ..record
            },
            origin: RecordOrigin::Database,
            unusable: Some(why),
            mends_manifest: false,
        });
    }

    /// Decides about a clone that no name has.
    fn of_rest(&mut self, clone: &FoundClone) {
        if self.used.contains(&clone.uid) {
            return;
        }
        match (&clone.manifest, clone.has_data) {
            (FoundManifest::Record(_) | FoundManifest::Unfinished, false) => {
                self.put_aside(clone.uid, LeftoverAction::Delete);
            }
            (FoundManifest::Damaged(why), true) => {
                self.put_aside(clone.uid, LeftoverAction::Quarantine(why.clone()));
            }
            (FoundManifest::Record(manifest), true) => {
                let why = format!(
                    "the record of instance \"{}\" has another clone",
                    manifest.name
                );
                self.put_aside(clone.uid, LeftoverAction::Quarantine(why));
            }
            (FoundManifest::Missing, _) | (FoundManifest::Unfinished, true) => {
                let why = "it has no manifest".to_owned();
                self.plan.left_alone.push((clone.uid, why));
            }
            (FoundManifest::Damaged(why), false)
            | (FoundManifest::Unreadable(why) | FoundManifest::Foreign(why), _) => {
                self.plan.left_alone.push((clone.uid, why.clone()));
            }
        }
    }

    fn serve_record(&mut self, record: InstanceRecord) {
        self.used.insert(record.uid);
        let clone = self.clones.get(&record.uid);
        let manifest = clone.and_then(|clone| clone.record());
        let mends_manifest = clone.is_some_and(|clone| {
            let is_damaged = matches!(clone.manifest, FoundManifest::Damaged(_));
            is_damaged || clone.manifest == FoundManifest::Missing
        });
        let phase = record.phase;
        let merged = match manifest {
            Some(manifest) => merge(&record, manifest, self.last_use),
            None => record.clone(),
        };
        let merged = InstanceRecord {
            phase: Phase::Ready,
            ..merged
        };
        let origin = match phase {
            Phase::Cloning => RecordOrigin::Finished,
            Phase::Deleting => RecordOrigin::Kept,
            Phase::Ready if merged == record => RecordOrigin::Database,
            Phase::Ready => RecordOrigin::Updated,
        };
        self.plan.instances.push(Recovered {
            record: merged,
            origin,
            unusable: None,
            mends_manifest,
        });
    }

    fn serve_manifest(&mut self, manifest: &InstanceRecord) {
        self.used.insert(manifest.uid);
        let mut record = manifest.clone();
        record.phase = Phase::Ready;
        count_as_used(&mut record, self.last_use);
        self.plan.instances.push(Recovered {
            record,
            origin: RecordOrigin::Manifest,
            unusable: None,
            mends_manifest: false,
        });
    }

    fn leave_all(&mut self, others: &[&InstanceRecord], served: &InstanceRecord) {
        for other in others {
            self.leave(other.uid, other.epoch, served);
        }
    }

    /// Puts a clone aside that is not served. It is superseded by a higher epoch only.
    fn leave(&mut self, uid: InstanceUid, epoch: u64, served: &InstanceRecord) {
        let manifest = self.clones.get(&uid).map(|clone| &clone.manifest);
        let action = if let Some(FoundManifest::Damaged(why)) = manifest {
            // It may have another name since.
            LeftoverAction::Quarantine(why.clone())
        } else if epoch < served.epoch {
            LeftoverAction::Delete
        } else {
            let name = &served.name;
            LeftoverAction::Quarantine(format!(
                "instance \"{name}\" has two clones, and it cannot be told which is newer"
            ))
        };
        self.put_aside(uid, action);
    }

    fn put_aside(&mut self, uid: InstanceUid, action: LeftoverAction) {
        self.used.insert(uid);
        let manifest = self.clones.get(&uid).and_then(|clone| clone.record());
        self.plan.leftovers.push(Leftover {
            uid,
            name: manifest.map(|manifest| manifest.name.clone()),
            epoch: manifest.map_or(0, |manifest| manifest.epoch),
            action,
        });
    }
}

impl FoundClone {
    /// The record in its manifest.
    pub fn record(&self) -> Option<&InstanceRecord> {
        match &self.manifest {
            FoundManifest::Record(record) => Some(record),
            FoundManifest::Damaged(_)
            | FoundManifest::Unreadable(_)
            | FoundManifest::Unfinished
            | FoundManifest::Missing
            | FoundManifest::Foreign(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
