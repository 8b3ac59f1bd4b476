//! Opens the records, and logs the findings of the start.

use multidb_store::recovery::{Plan, RecordOrigin};
use multidb_store::store::{Opened, Recovery};
use multidb_store::{DiskFault, Layout, Store, StoreError, error_chain};

/// Opens the records.
///
/// # Errors
///
/// They cannot be read.
pub(super) fn open(layout: &Layout) -> anyhow::Result<Opened> {
    let opened = Store::open_or_rebuild(layout)?;
    match &opened.recovery {
        Recovery::None | Recovery::New => {}
        Recovery::Rebuilt { moved_to, cause } => tracing::warn!(
            cause,
            instances = opened.plan.instances.len(),
            moved_to = moved_to.as_ref().map(|path| path.display().to_string()),
            "the database of records was rebuilt from the manifests, only the times of last use are lost"
        ),
        Recovery::Unwritable(error) => tracing::error!(
            error = error_chain(error),
            hint = error.disk_fault().map(DiskFault::hint),
            "the records cannot be written, running instances are served, and what would change a record is refused until it can be written"
        ),
    }
    let is_rebuilt = matches!(opened.recovery, Recovery::Rebuilt { .. });
    tell(&opened.plan, is_rebuilt);
    for directory in &opened.foreign {
        tracing::warn!(
            directory = %directory.display(),
            "ignoring a directory that multidb did not create, inspect it and move it away"
        );
    }
    for (uid, why) in &opened.plan.left_alone {
        tracing::warn!(
            directory = %layout.instance(*uid).display(),
            why,
            "ignoring a directory without a readable manifest, inspect it and move it away"
        );
    }
    Ok(opened)
}

/// Lets a write fail that the next start can make up for, if the disk is full, read-only or failing.
///
/// # Errors
///
/// It failed otherwise.
pub(super) fn unless_of_disk(
    written: Result<(), StoreError>,
    what: &str,
) -> Result<(), StoreError> {
    match written {
        Err(error) if error.disk_fault().is_some() => {
            tracing::warn!(
                error = error_chain(&error),
                what,
                "not recorded before the next start"
            );
            Ok(())
        }
        written => written,
    }
}

fn tell(plan: &Plan, is_rebuilt: bool) {
    for one in &plan.instances {
        let (instance, uid) = (&one.record.name, one.record.uid);
        if let Some(why) = &one.unusable {
            tracing::error!(%instance, %uid, why, "the data of an instance cannot be used");
            continue;
        }
        match one.origin {
            RecordOrigin::Database => {}
            RecordOrigin::Finished => {
                tracing::info!(%instance, %uid, "keeping a new instance, its clone is complete");
            }
            RecordOrigin::Kept => {
                tracing::warn!(%instance, %uid, "keeping an instance whose deletion did not begin with its data");
            }
            RecordOrigin::Updated => {
                tracing::warn!(%instance, %uid, "the record of an instance was older than its manifest, it is updated");
            }
            RecordOrigin::Renamed => {
                tracing::info!(%instance, %uid, "completing the rename of an instance");
            }
            RecordOrigin::ParentRenamed => {
                tracing::info!(%instance, %uid, "the parent of an instance has another name");
            }
            RecordOrigin::Manifest if is_rebuilt => {}
            RecordOrigin::Manifest => {
                tracing::warn!(%instance, %uid, "the database of records had lost an instance, it is restored from its manifest");
            }
        }
    }
    for name in &plan.removed {
        tracing::info!(instance = %name, "an instance whose creation or deletion was interrupted is gone");
    }
}
