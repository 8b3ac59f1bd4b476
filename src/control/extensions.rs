//! The extensions that snapshots need and Postgres lacks.

use std::collections::BTreeSet;
use std::sync::Arc;

use multidb_actors::snapshot_index::ListSnapshots;
use multidb_store::{SnapshotRecord, error_chain};

use super::{Control, ControlError};
use crate::runtime::extensions::{HINT, lacking};

impl Control {
    /// Warns of the extensions of snapshots that Postgres lacks where it runs, as after a change of its packages or of
    /// its image.
    pub async fn warn_of_missing_extensions(&self) {
        if let Err(error) = self.name_missing_extensions().await {
            let error = error_chain(&error);
            tracing::info!(error, "the extensions of the snapshots were not looked for");
        }
    }

    async fn name_missing_extensions(&self) -> Result<(), ControlError> {
        let all = self.deps.index.send(ListSnapshots).await?;
        let has_any = |one: &&Arc<SnapshotRecord>| !one.extensions.is_empty();
        let majors: BTreeSet<u16> = all
            .iter()
            .filter(has_any)
            .map(|one| one.postgres_major)
            .collect();
        for postgres_major in majors {
            // A major that is not installed has errors of its own.
            let Ok(Some(installed)) = self.deps.host.extensions(postgres_major).await else {
                continue;
            };
            let of_major = all
                .iter()
                .filter(|one| one.postgres_major == postgres_major);
            for (extension, snapshots) in lacking(of_major.map(Arc::as_ref), &installed) {
                tracing::warn!(
                    extension,
                    postgres_major,
                    snapshots = snapshots.join(", "),
                    hint = HINT,
                    "snapshots need an extension that Postgres lacks here"
                );
            }
        }
        Ok(())
    }
}
