//! `publish = "auto"`: an instance that ran migrations beyond its snapshot and then stopped offers its data as a derived snapshot.
//!
//! Only an instance that was used since this daemon began is looked at, once for each time that it was used. A look reads
//! the migrations from a copy-on-write clone of its data, and is no job: most instances have none to offer. One at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance::lifecycle::State;
use multidb_actors::snapshot_index::ListSnapshots;
use multidb_store::{
    FromInstance, InstanceRecord, InstanceUid, JobKind, Phase, SnapshotRecord, error_chain,
};
use tokio::time::MissedTickBehavior;

use super::access::Caller;
use super::model::{ImportOrder, OrderSource};
use super::{Control, ControlError};
use crate::config::Publish;
use crate::import::{ErrorPolicy, ImportRequest, ImportSource, SourceInstance, StoppedInstance};
use crate::instances::Followed;
use crate::refresh::derived_id;

/// How often stopped instances are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// When each stopped instance was used last before it was looked at.
type Looked = HashMap<InstanceUid, Timestamp>;

impl Control {
    /// Makes derived snapshots, for as long as it is polled.
    pub async fn run_publishing(&self) {
        let projects = self.deps.config.projects.iter();
        let projects = projects.filter(|(_, project)| project.publish == Publish::Auto);
        let projects: Vec<_> = projects.map(|(name, _)| name).collect();
        if projects.is_empty() {
            return std::future::pending().await;
        }
        let is_wanted = |status: &InstanceStatus| {
            let record = &status.record;
            status.state == State::Stopped
                && record.phase == Phase::Ready
                && record.last_used_at >= self.deps.started_at
                && projects.contains(&&record.project)
        };
        let Ok(mut stopped) = Followed::new(&self.deps.supervisor, is_wanted).await else {
            // With the Supervisor the daemon ends.
            return std::future::pending().await;
        };
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = Looked::new();
        loop {
            looks.tick().await;
            stopped.update();
            self.look_at_stopped(&mut stopped, &mut looked).await;
        }
    }

    async fn look_at_stopped<Wanted: Fn(&InstanceStatus) -> bool>(
        &self,
        stopped: &mut Followed<Wanted>,
        looked: &mut Looked,
    ) {
        let mut again = Vec::new();
        while let Some(status) = stopped.pop() {
            let InstanceRecord {
                name,
                uid,
                last_used_at,
                ..
            } = &*status.record;
            if looked.get(uid) == Some(last_used_at) {
                continue;
            }
            match self.publish(&status.record).await {
                Ok(()) => {
                    looked.insert(*uid, *last_used_at);
                }
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::debug!(instance = %name, error, "a stopped instance was not looked at");
                    again.push(status);
                }
            }
        }
        again
            .into_iter()
            .for_each(|status| stopped.put_back(status));
    }

    /// Makes a derived snapshot of a stopped instance, if its migrations are beyond its snapshot's and no other
    /// snapshot has them.
    async fn publish(&self, record: &Arc<InstanceRecord>) -> Result<(), ControlError> {
        let instance = &record.name;
        let all = self.deps.index.send(ListSnapshots).await?;
        let base = all.iter().find(|one| one.id == record.snapshot);
        let Some(base) = base else {
            return Ok(());
        };
        let request = self.derived_request(record, base)?;
        let id = request.id.clone();
        let migrations = match self.deps.importer.migrations_of(request.clone()).await {
            Ok(migrations) => migrations,
            Err(error) => {
                let error = error_chain(&error);
                tracing::info!(%instance, error, "no derived snapshot is made of an instance");
                return Ok(());
            }
        };
        let is_known = |migration| base.migrations.contains(migration);
        if migrations.iter().all(is_known) {
            return Ok(());
        }
        let all = self.deps.index.send(ListSnapshots).await?;
        let has_same = |one: &&Arc<SnapshotRecord>| {
            one.project == record.project && one.migrations == migrations
        };
        if let Some(same) = all.iter().find(has_same) {
            tracing::info!(%instance, snapshot = %same.id, "a snapshot has the migrations of a stopped instance already");
            return Ok(());
        }
        tracing::info!(%instance, snapshot = %id, "an instance that ran migrations becomes a derived snapshot");
        let job = self
            .import_in_job(&Caller::Administrator, JobKind::Import, request, None)
            .await?;
        // The next one may have the same migrations.
        self.deps.jobs.wait(job.id).await?;
        Ok(())
    }

    fn derived_request(
        &self,
        record: &InstanceRecord,
        base: &SnapshotRecord,
    ) -> Result<ImportRequest, ControlError> {
        let stopped = StoppedInstance {
            data: self.deps.layout.instance_data(record.uid),
            postgres_major: record.postgres_major,
            from: FromInstance {
                instance: record.name.clone(),
                snapshot: record.snapshot.clone(),
                commit: record.commit.clone(),
                derived: true,
            },
            // Its data is as old as that, but for the changes by the instance: it never makes fresher data look old.
            taken_at: base.taken_at,
        };
        let id = derived_id(&record.project, self.deps.clock.now().wall);
        let id = id.parse().map_err(|_| ControlError::ActorEnded)?;
        let order = ImportOrder {
            id,
            project: record.project.clone(),
            // Only its settings are used.
            source: OrderSource::Instance(record.name.clone()),
            taken_at: None,
            postgres_major: None,
            errors: ErrorPolicy::Default,
        };
        let source = SourceInstance::stopped(stopped, base.prepared_by.clone());
        let source = ImportSource::Instance(source);
        let mut request = self.import_request(&Caller::Administrator, order, source)?;
        request.settings.of_instance(!base.prepared_by.is_empty());
        Ok(request)
    }
}
