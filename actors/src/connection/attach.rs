//! Attaches a client to its instance, which is created or started for it.

use std::time::Duration;

use multidb_store::SnapshotId;
use tokio_util::task::AbortOnDropHandle;

use super::{ConnectionDeps, RefusalReason};
use crate::auth::Identity;
use crate::client_error::ClientNotice;
use crate::instance::{Attach, InstanceError, Lease};
use crate::ports::Freshness;
use crate::request::{ConnectRequest, Source};
use crate::snapshot_index::Choose;
use crate::supervisor::{Acquire, AcquireError, Acquired, Created};

/// The number of times that an instance is acquired again because it was deleted, or its actor ended, in the meantime.
const REDIRECTS_MAX: usize = 8;
/// The longest delay of a session by the search for a notice about another snapshot.
const NOTICE_TIMEOUT: Duration = Duration::from_millis(20);

/// An instance that runs for the client.
pub(super) struct Attached {
    pub(super) acquired: Acquired,
    pub(super) lease: Lease,
    /// The notices for the client about its instance.
    pub(super) notices: Vec<ClientNotice>,
}

/// Acquires the instance and waits until it runs.
pub(super) async fn attach(
    request: &ConnectRequest,
    identity: &Identity,
    deps: &ConnectionDeps,
) -> Result<Attached, RefusalReason> {
    let name = &request.instance;
    for _ in 0..REDIRECTS_MAX {
        let acquire = Acquire {
            request: request.clone(),
            identity: identity.clone(),
        };
        let acquired = deps.supervisor.send(acquire).await;
        let acquired = acquired.unwrap_or(Err(AcquireError::ShuttingDown))?;
        let of_parent = of_parent(request, &acquired);
        let of_lifetime = of_lifetime(request, &acquired);
        let notice = notice(request.source.clone(), acquired.clone(), deps.clone());
        // Looked up while the instance starts.
        let notice = AbortOnDropHandle::new(actix_rt::spawn(notice));
        let login = Some(identity.name.as_str().into());
        let attached = acquired.addr.send(Attach { login }).await;
        match attached.unwrap_or(Err(InstanceError::Deleted)) {
            Ok(lease) => {
                let notice = tokio::time::timeout(NOTICE_TIMEOUT, notice).await;
                let notice = notice.ok().and_then(Result::ok).flatten();
                let renewed = lease.beginning.is_some_and(|beginning| beginning.renewed);
                let renewed = renewed.then(|| ClientNotice::renewed(&acquired.record));
                let notice = match lease.beginning {
                    Some(beginning) if acquired.created.is_some() => {
                        notice.map(|notice| notice.took(beginning))
                    }
                    _ => notice,
                };
                return Ok(Attached {
                    acquired,
                    lease,
                    notices: [notice, of_parent, of_lifetime, renewed]
                        .into_iter()
                        .flatten()
                        .collect(),
                });
            }
            // The Supervisor answers when the actor is rebuilt.
            Err(InstanceError::Deleted | InstanceError::Died) => tokio::task::yield_now().await,
            Err(error) => {
                let instance = name.clone();
                return Err(RefusalReason::Instance { instance, error });
            }
        }
    }
    tracing::error!(instance = %name, attempts = REDIRECTS_MAX, "instance was repeatedly deleted, or its actor ended, while a client waited");
    let instance = name.clone();
    Err(RefusalReason::InstanceKeepsVanishing { instance })
}

/// The notice for a client whose instance exists already, and is no clone of the one that the client names.
fn of_parent(request: &ConnectRequest, acquired: &Acquired) -> Option<ClientNotice> {
    let record = &acquired.record;
    let from = request.from.as_ref()?;
    let differs = acquired.created.is_none() && record.parent.as_ref() != Some(from);
    differs.then(|| ClientNotice::other_parent(record, from))
}

/// The notice for a client whose time to live or class is not that of the instance, which exists already.
fn of_lifetime(request: &ConnectRequest, acquired: &Acquired) -> Option<ClientNotice> {
    let record = &acquired.record;
    let other_ttl = request.ttl.filter(|ttl| record.ttl != Some(*ttl));
    let other_class = request.class.filter(|class| *class != record.class);
    let differs = acquired.created.is_none() && (other_ttl.is_some() || other_class.is_some());
    differs.then(|| ClientNotice::other_lifetime(record, other_ttl, other_class))
}

/// The notice for an instance that a client asked for by a time, where that or the snapshot's is not exact.
fn of_time(
    notice: ClientNotice,
    source: &Source,
    snapshot: &SnapshotId,
    created: Created,
) -> ClientNotice {
    let notice = match source {
        Source::AsOf(_) => {
            notice.of_guessed_time(snapshot, created.taken_at, created.taken_at_origin)
        }
        Source::GitRef(_) | Source::Snapshot(_) => return notice,
    };
    if source.is_date() {
        notice.of_date(source)
    } else {
        notice
    }
}

/// The notice for a client whose instance is new, whose source would now choose another snapshot, or whose
/// source cannot be resolved without the network.
async fn notice(
    source: Option<Source>,
    acquired: Acquired,
    deps: ConnectionDeps,
) -> Option<ClientNotice> {
    let record = &acquired.record;
    if let Some(created) = acquired.created {
        if let Some(parent) = &created.parent {
            return Some(ClientNotice::created_from(&record.name, parent));
        }
        let notice = ClientNotice::created(&record.name, &record.snapshot, created.age);
        return Some(
            match (created.unconfirmed, &record.gitref, &record.commit) {
                (Some(unconfirmed), Some(gitref), Some(commit)) => {
                    notice.unconfirmed(gitref, commit, unconfirmed)
                }
                _ => match source {
                    Some(source) => of_time(notice, &source, &record.snapshot, created),
                    None => notice,
                },
            },
        );
    }
    let source = source?;
    let choice = deps.index.send(Choose {
        project: record.project.clone(),
        source: source.clone(),
        freshness: Freshness::Local,
    });
    match choice.await.ok()? {
        Ok(choice) if choice.snapshot.id == record.snapshot => None,
        Ok(choice) => Some(ClientNotice::other_snapshot(
            &record.name,
            &record.snapshot,
            &source,
            &choice.snapshot.id,
        )),
        Err(_) => Some(ClientNotice::source_ignored(&record.name, &source)),
    }
}
