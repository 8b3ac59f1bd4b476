//! The start's look at the records and the directories, by the rule of the daemon.

use multidb_actors::ports::{RecordChange, Records};
use multidb_store::ObservedTime;
use multidb_store::recovery::{
    self, Found, FoundClone, FoundManifest, LastUse, Plan, RecordOrigin,
};

use crate::ports::{Died, Ports};

/// The state from which the daemon starts.
pub struct Recovered {
    pub plan: Plan,
    pub observed: ObservedTime,
    pub last_expiry: ObservedTime,
}

/// The instances with which the daemon starts, and its plan for the other clones.
pub fn recover(ports: &Ports) -> Result<Recovered, Died> {
    ports.step("start: begin")?;
    let contents = ports.world.records().contents();
    let disk = ports.world.disk();
    let clones: Vec<_> = disk
        .instances
        .iter()
        .map(|(uid, directory)| FoundClone {
            uid: *uid,
            manifest: match &directory.manifest {
                Some(record) => FoundManifest::Record(Box::new(record.clone())),
                None => FoundManifest::Unfinished,
            },
            has_data: directory.data.is_some(),
        })
        .collect();
    let trashed = disk.trash.clone();
    drop(disk);
    let manifests = clones.iter().filter_map(FoundClone::record);
    let latest = contents.instances.values().chain(manifests);
    let latest = latest.map(|record| record.last_used_observed);
    let observed = latest.chain([contents.observed]).max().unwrap_or_default();
    let plan = recovery::plan(Found {
        epoch: contents.epoch,
        records: contents.instances.into_values().collect(),
        clones,
        trashed,
        last_use: LastUse {
            at: ports.world.wall(),
            observed,
        },
    });
    if plan.has_unsynced_clones() {
        ports.world.disk().sync();
        ports.step("start: synced")?;
    }
    let changed = plan.instances.iter();
    let changed = changed.filter(|one| one.origin != RecordOrigin::Database);
    let mut changes: Vec<_> = changed.map(|one| RecordChange::put(&one.record)).collect();
    for name in &plan.removed {
        let records = ports.world.records().contents().instances;
        let uid = records.get(name).map(|record| record.uid);
        changes.extend(uid.map(|uid| RecordChange::Remove(name.clone(), uid)));
    }
    // A start goes on without them: the next one finds the same.
    if ports.write(&changes).is_err() {
        tracing::debug!("the records of a start were not written");
    }
    ports.step("start: recovered")?;
    Ok(Recovered {
        plan,
        observed,
        last_expiry: contents.last_expiry,
    })
}
