//! The disk: the directories of clones and their data, as they are after a crash at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::ports::{
    CloneError, CloneReport, CloneSource, ClonedFrom, Cloner, SnapshotCatalog,
};
use multidb_actors::testing;
use multidb_store::quarantine::Quarantined;
use multidb_store::{InstanceName, InstanceRecord, InstanceUid, SnapshotId, SnapshotRecord};

use crate::ports::Ports;
use crate::world::World;

/// The directories under the root.
#[derive(Default)]
pub struct Disk {
    pub instances: BTreeMap<InstanceUid, Directory>,
    /// Directories that are no longer there for the daemon.
    pub trash: Vec<InstanceUid>,
    /// The clones that no name can have.
    pub quarantine: BTreeMap<InstanceUid, Directory>,
}

/// The directory of one clone.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    pub manifest: Option<InstanceRecord>,
    /// Whether there is an incomplete copy.
    pub partial: bool,
    /// The complete data.
    pub data: Option<Data>,
    /// Whether a power cut leaves it as it is.
    pub synced: bool,
}

/// The data directory of a Postgres.
#[derive(Debug, Clone)]
pub struct Data {
    pub snapshot: SnapshotId,
    /// The committed writes.
    pub writes: BTreeSet<u64>,
}

impl Disk {
    pub fn data(&mut self, uid: InstanceUid) -> Option<&mut Data> {
        self.instances.get_mut(&uid)?.data.as_mut()
    }

    /// Everything on the file system becomes durable.
    pub fn sync(&mut self) {
        for directory in self.instances.values_mut() {
            directory.synced = true;
        }
    }

    /// The quarantined clones of this name.
    pub fn quarantined(&self, name: &InstanceName) -> Vec<InstanceUid> {
        let kept = self.quarantine.iter();
        let kept = kept.filter(|(_, one)| one.manifest.as_ref().is_some_and(|m| m.name == *name));
        kept.map(|(uid, _)| *uid).collect()
    }

    /// A power cut leaves of an unsynced clone its steps up to any of them.
    pub fn lose_power(&mut self, mut kept: impl FnMut() -> u64) {
        self.instances.retain(|_, directory| {
            if directory.synced {
                return true;
            }
            match kept() % 4 {
                0 => return false,
                1 => {
                    directory.manifest = None;
                    directory.data = None;
                    directory.partial = false;
                }
                2 => {
                    directory.partial |= directory.data.take().is_some();
                }
                _ => {}
            }
            directory.synced = true;
            true
        });
    }
}

/// The snapshots: `s1` has the migration `a.1`; `s2`, taken later, has `a.1` and `a.2`.
pub fn snapshots() -> Vec<SnapshotRecord> {
    let snapshot = |id: &str, second, migrations: &[&str]| SnapshotRecord {
        files: 1,
        ..testing::snapshot(id, second, migrations)
    };
    vec![
        snapshot("s1", 100, &["a.1"]),
        snapshot("s2", 200, &["a.1", "a.2"]),
    ]
}

fn failed(what: &str) -> CloneError {
    CloneError::Failed {
        message: format!("simulated: {what}"),
    }
}

impl Ports {
    /// A step on the disk. Fails once the daemon is dead, which it may be from now on.
    fn disk_step(&self, what: &str) -> Result<(), CloneError> {
        self.step(what).map_err(|_| failed("the daemon is dead"))
    }

    fn with_directory(&self, uid: InstanceUid, change: impl FnOnce(&mut Directory)) {
        change(self.world.disk().instances.entry(uid).or_default());
    }
}

/// Asserts that no server has this clone's data.
fn assert_unserved(world: &Arc<World>, uid: InstanceUid, what: &str) {
    if world.servers().by_uid.contains_key(&uid) {
        world.violated(format_args!("{what} {uid} while a server runs on it"));
    }
}

impl Cloner for Ports {
    fn method(&self) -> &'static str {
        "simulated"
    }

    fn create(
        &self,
        record: &InstanceRecord,
        source: &CloneSource,
    ) -> Result<CloneReport, CloneError> {
        let uid = record.uid;
        let report = CloneReport {
            source: ClonedFrom::from(source),
            files: 1,
            elapsed: Duration::ZERO,
        };
        self.disk_step("clone: begin")?;
        assert_unserved(&self.world, uid, "a clone is made at");
        let exists = self.world.disk().data(uid).is_some();
        if exists {
            self.with_directory(uid, |directory| directory.manifest = Some(record.clone()));
            self.disk_step("clone: it was there, synced")?;
            self.with_directory(uid, |directory| directory.synced = true);
            return Ok(report);
        }
        if self.world.fails(self.world.settings.faults.disk) {
            let free_bytes = 1;
            return Err(CloneError::NoSpace {
                free_bytes,
                reserve_bytes: 2,
                missing_bytes: 1,
                taken: None,
            });
        }
        self.with_directory(uid, |directory| directory.synced = false);
        self.disk_step("clone: directory")?;
        self.with_directory(uid, |directory| directory.manifest = Some(record.clone()));
        self.disk_step("clone: manifest")?;
        self.with_directory(uid, |directory| directory.partial = true);
        self.disk_step("clone: partial data")?;
        if self.world.fails(self.world.settings.faults.disk) {
            self.world.disk().instances.remove(&uid);
            return Err(failed("a file was not cloned"));
        }
        self.with_directory(uid, |directory| {
            directory.partial = false;
            directory.data = Some(Data {
                snapshot: record.snapshot.clone(),
                writes: BTreeSet::new(),
            });
        });
        self.disk_step("clone: data")?;
        self.with_directory(uid, |directory| directory.synced = true);
        self.disk_step("clone: synced")?;
        Ok(report)
    }

    fn delete(&self, uid: InstanceUid) -> Result<(), CloneError> {
        self.disk_step("delete: begin")?;
        assert_unserved(&self.world, uid, "a deletion of");
        if !self.world.disk().instances.contains_key(&uid) {
            return Ok(());
        }
        if self.world.fails(self.world.settings.faults.disk) {
            return Err(failed("not moved to the trash"));
        }
        let moved = self.world.disk().instances.remove(&uid);
        if moved.is_some_and(|directory| directory.data.is_some()) {
            self.world.destroyed(uid);
        }
        self.world.disk().trash.push(uid);
        self.disk_step("delete: moved to the trash")?;
        if self.world.fails(self.world.settings.faults.disk) {
            // The next start tries again.
            return Ok(());
        }
        self.world.disk().trash.retain(|trashed| *trashed != uid);
        self.disk_step("delete: unlinked")
    }

    fn write_manifest(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        self.disk_step("manifest: begin")?;
        if self.world.fails(self.world.settings.faults.disk) {
            return Err(failed("the manifest was not written"));
        }
        let mut disk = self.world.disk();
        let Some(directory) = disk.instances.get_mut(&record.uid) else {
            return Err(failed("no such directory"));
        };
        directory.manifest = Some(record.clone());
        drop(disk);
        self.disk_step("manifest: written")
    }

    fn read_manifest(&self, uid: InstanceUid) -> Result<Option<InstanceRecord>, CloneError> {
        self.disk_step("manifest: read")?;
        if self.world.fails(self.world.settings.faults.disk) {
            return Err(failed("the manifest was not read"));
        }
        let disk = self.world.disk();
        let directory = disk.instances.get(&uid);
        Ok(directory.and_then(|directory| directory.manifest.clone()))
    }

    fn quarantine(&self, uid: InstanceUid, _: &str) -> Result<(), CloneError> {
        self.disk_step("quarantine: begin")?;
        assert_unserved(&self.world, uid, "a quarantine of");
        let mut disk = self.world.disk();
        if let Some(directory) = disk.instances.remove(&uid) {
            disk.quarantine.insert(uid, directory);
        }
        drop(disk);
        self.disk_step("quarantine: moved")
    }

    fn quarantined(&self) -> Result<Vec<Quarantined>, CloneError> {
        self.disk_step("quarantine: read")?;
        let disk = self.world.disk();
        let kept = disk.quarantine.iter().map(|(uid, directory)| Quarantined {
            directory: format!("/quarantine/{uid}").into(),
            uid: Some(*uid),
            note: None,
            manifest: directory
                .manifest
                .clone()
                .ok_or_else(|| "there is none".to_owned()),
        });
        Ok(kept.collect())
    }

    fn take_from_quarantine(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        self.disk_step("recover: begin")?;
        if self.world.fails(self.world.settings.faults.disk) {
            return Err(failed("the clone was not moved"));
        }
        match self.world.disk().quarantine.get_mut(&record.uid) {
            Some(directory) => directory.manifest = Some(record.clone()),
            None => return Err(failed("not in the quarantine")),
        }
        self.disk_step("recover: manifest")?;
        let mut disk = self.world.disk();
        let directory = disk.quarantine.remove(&record.uid);
        disk.instances
            .extend(directory.map(|moved| (record.uid, moved)));
        drop(disk);
        self.disk_step("recover: moved")
    }

    fn why_unusable(&self, record: &InstanceRecord) -> Result<Option<String>, CloneError> {
        self.disk_step("data: inspect")?;
        let is_there = self.world.disk().data(record.uid).is_some();
        Ok((!is_there).then(|| "its data is missing".to_owned()))
    }

    fn exclusive_bytes(&self, _: InstanceUid) -> Result<u64, CloneError> {
        Ok(0)
    }

    fn disk_free_bytes(&self) -> Result<u64, CloneError> {
        Ok(0)
    }
}

impl SnapshotCatalog for Ports {
    fn load(&self) -> Result<Vec<SnapshotRecord>, CloneError> {
        Ok(snapshots())
    }

    fn delete(&self, _: &SnapshotId) -> Result<(), CloneError> {
        Ok(())
    }
}
