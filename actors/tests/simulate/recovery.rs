//! The start's look at the records and the directories.

use multidb_store::{InstanceRecord, ObservedTime, Phase};

use crate::ports::{Died, Ports};
use crate::records::Contents;

/// The records with which the daemon starts.
pub fn recover(ports: &Ports) -> Result<Contents, Died> {
    ports.step("start: begin")?;
    let mut contents = ports.world.records().contents();
    let disk = ports.world.disk();
    let manifests = || {
        disk.instances
            .values()
            .filter_map(|directory| directory.manifest.as_ref())
    };
    let latest = contents.instances.values().chain(manifests());
    let latest = latest.map(|record| record.last_used_observed);
    let observed = latest.chain([contents.observed]).max().unwrap_or_default();
    contents.observed = observed;
    for (uid, directory) in &disk.instances {
        let Some(manifest) = &directory.manifest else {
            continue;
        };
        if directory.data.is_none() {
            continue;
        }
        let is_newer = match contents.instances.get(&manifest.name) {
            None => true,
            Some(record) if record.uid == *uid => record.phase == Phase::Cloning,
            Some(record) => {
                let has_data = disk
                    .instances
                    .get(&record.uid)
                    .is_some_and(|d| d.data.is_some());
                record.phase == Phase::Ready && record.epoch < manifest.epoch && !has_data
            }
        };
        if is_newer {
            let record = found(manifest, observed, ports);
            contents.instances.insert(record.name.clone(), record);
        }
    }
    drop(disk);
    ports.step("start: recovered")?;
    Ok(contents)
}

fn found(manifest: &InstanceRecord, observed: ObservedTime, ports: &Ports) -> InstanceRecord {
    InstanceRecord {
        phase: Phase::Ready,
        last_used_at: ports.world.wall(),
        last_used_observed: observed,
        marked: None,
        ..manifest.clone()
    }
}
