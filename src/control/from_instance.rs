//! Snapshots that are made from instances.

use std::sync::Arc;

use multidb_actors::auth::Identity;
use multidb_actors::instance::{Attach, InstanceError};
use multidb_actors::request::ConnectRequest;
use multidb_actors::snapshot_index::ListSnapshots;
use multidb_actors::supervisor::{Acquire, AcquireError, Supervisor};
use multidb_store::{FromInstance, InstanceName, JobKind, Prepared, SnapshotId, error_chain};

use super::access::{Action, Caller, authorize};
use super::advice::advice;
use super::jobs::view;
use super::model::{ImportOrder, JobView};
use super::{Control, ControlError};
use crate::import::{
    AttachInstance, AttachedInstance, ImportSource, InstanceFault, SourceInstance,
};

impl Control {
    /// Starts a job that makes a snapshot from an instance, whose sessions go on.
    pub(super) async fn start_import_of_instance(
        &self,
        caller: &Caller,
        order: ImportOrder,
        name: &InstanceName,
    ) -> Result<JobView, ControlError> {
        let project = self.project(Some(&order.project))?;
        let record = self.instance(name).await?.record.clone();
        authorize(caller, Action::View, &*record, "see instances")?;
        if record.project != project {
            let error = AcquireError::InstanceOfOtherProject {
                instance: name.clone(),
                project: record.project.clone(),
                requested: project,
            };
            return Err(ControlError::Acquire(error));
        }
        let prepared_by = self.prepared_by(&record.snapshot).await?;
        let is_prepared = !prepared_by.is_empty();
        let request = ConnectRequest {
            instance: name.clone(),
            source: None,
            from: None,
            project: Some(project),
            role: None,
            user: None,
            idle: Default::default(),
            ttl: None,
            class: None,
        };
        let attach = attach(
            self.deps.supervisor.clone(),
            request,
            self.identity(caller)?,
        );
        let source = ImportSource::Instance(SourceInstance::new(name, prepared_by, attach));
        let mut request = self.import_request(caller, order, source)?;
        request.settings.of_instance(is_prepared);
        let job = self
            .import_in_job(caller, JobKind::Import, request, None)
            .await?;
        Ok(view(&job))
    }

    /// The preparations of this snapshot; none where it is gone.
    async fn prepared_by(&self, id: &SnapshotId) -> Result<Vec<Prepared>, ControlError> {
        let all = self.deps.index.send(ListSnapshots).await?;
        let found = all.iter().find(|snapshot| snapshot.id == *id);
        Ok(found.map_or_else(Vec::new, |found| found.prepared_by.clone()))
    }
}

/// Wakes an instance as a client of it does, whose rights apply.
fn attach(
    supervisor: actix::Addr<Supervisor>,
    request: ConnectRequest,
    identity: Identity,
) -> AttachInstance {
    Arc::new(move || {
        let (supervisor, request, identity) =
            (supervisor.clone(), request.clone(), identity.clone());
        Box::pin(async move {
            let instance = request.instance.clone();
            let acquired = supervisor.send(Acquire { request, identity }).await;
            let acquired = acquired.unwrap_or(Err(AcquireError::ShuttingDown));
            let acquired = acquired.map_err(|error| InstanceFault {
                code: error.code(),
                message: error_chain(&error),
                hint: None,
            })?;
            let attached = acquired.addr.send(Attach::default()).await;
            let lease = attached.unwrap_or(Err(InstanceError::Died));
            let lease = lease.map_err(|error| InstanceFault {
                code: error.code(),
                message: error_chain(&error),
                hint: advice(instance.as_str(), &error),
            })?;
            Ok(AttachedInstance {
                lease,
                from: FromInstance {
                    instance,
                    snapshot: acquired.record.snapshot.clone(),
                    commit: acquired.record.commit.clone(),
                    derived: false,
                },
            })
        })
    })
}
