//! The instance of which a new one is a clone.

use super::*;
use crate::instance::{Attach, Lease};
use crate::request::SnapshotSelector;

/// The source of a new instance.
#[derive(Clone)]
pub(super) enum CreationSource {
    /// The snapshot that is chosen by this.
    Snapshot(Source),
    /// Another instance.
    Parent(InstanceName),
}

/// The snapshot and parent found for a new instance.
pub(super) struct Chosen {
    /// The snapshot; that of the parent for a clone of another instance.
    pub(super) choice: Choice,
    /// The parent, which runs for as long as the lease is held.
    pub(super) parent: Option<(InstanceName, Lease)>,
    /// How long the snapshot was looked for; none where the parent was woken.
    pub(super) took: Option<Duration>,
}

impl Supervisor {
    /// The source that the client names for a new instance.
    pub(super) fn source_of(request: &ConnectRequest) -> Result<CreationSource, AcquireError> {
        let snapshot = request.source.clone().map(CreationSource::Snapshot);
        let parent = request.from.clone().map(CreationSource::Parent);
        parent
            .or(snapshot)
            .ok_or_else(|| AcquireError::NoSuchInstance {
                instance: request.instance.clone(),
            })
    }

    /// The project of a new instance: that of its parent, or the requested one.
    pub(super) fn project_for(
        &self,
        request: &ConnectRequest,
        source: &CreationSource,
    ) -> Result<ProjectName, AcquireError> {
        let CreationSource::Parent(parent) = source else {
            return Ok(self.project_of(request)?);
        };
        let status = self.table.get(parent);
        let status = status.ok_or_else(|| AcquireError::NoSuchParent {
            instance: request.instance.clone(),
            parent: parent.clone(),
        })?;
        Ok(status.record.project.clone())
    }
}

/// Wakes the parent as a client of it does, whose rights apply, and finds the snapshot that it has.
pub(super) async fn attach(
    request: ConnectRequest,
    identity: Identity,
    parent: InstanceName,
    supervisor: Addr<Supervisor>,
    index: Addr<SnapshotIndex>,
) -> Result<Chosen, AcquireError> {
    let instance = request.instance.clone();
    let request = ConnectRequest {
        instance: parent.clone(),
        source: None,
        from: None,
        ttl: None,
        class: None,
        ..request
    };
    let acquired = supervisor.send(Acquire { request, identity }).await;
    let acquired = match acquired.unwrap_or(Err(AcquireError::ShuttingDown)) {
        Err(AcquireError::NoSuchInstance { instance: parent }) => {
            return Err(AcquireError::NoSuchParent { instance, parent });
        }
        acquired => acquired?,
    };
    let attached = acquired.addr.send(Attach::default()).await;
    let lease = attached.unwrap_or(Err(InstanceError::Died));
    let lease = lease.map_err(|error| AcquireError::Parent {
        instance,
        parent: parent.clone(),
        error: Box::new(error),
    })?;
    let record = &acquired.record;
    let choose = Choose {
        project: record.project.clone(),
        source: Source::Snapshot(SnapshotSelector::Id(record.snapshot.clone())),
        freshness: Freshness::Local,
    };
    let choice = index.send(choose).await;
    let choice = choice.unwrap_or(Err(ChooseError::IndexUnavailable))?;
    Ok(Chosen {
        choice,
        parent: Some((parent, lease)),
        took: None,
    })
}
