//! The messages that the Supervisor handles.

use jiff::Timestamp;
use multidb_store::{SnapshotId, TakenAtOrigin};

use super::*;
use crate::auth::Identity;
use crate::instance::lifecycle::Command;
use crate::instance::{Control, InstanceError, SetPin};
use crate::instance_table::{InstanceChanges, InstanceCounts, InstanceFilter};
use crate::ports::Unconfirmed;
use crate::slots::FreeSlot;
use crate::snapshot_index::ForgetSnapshot;

/// The instances that a refusal names.
const INSTANCES_NAMED_MAX: usize = 20;

/// A client asks for an instance, which is created if it does not exist.
#[derive(Message)]
#[rtype(result = "Result<Acquired, AcquireError>")]
pub struct Acquire {
    /// The client's request.
    pub request: ConnectRequest,
    /// The client's identity.
    pub identity: Identity,
}

/// How an instance was created for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// How long the choice of the snapshot took, without the fetch; none where another instance was named.
    pub choose: Option<Duration>,
    /// How long the remote was asked, if it was.
    pub fetch: Option<Duration>,
    /// The instance of which it is a clone.
    pub parent: Option<InstanceName>,
    /// Set where the revision may have moved, since the remote does not answer.
    pub unconfirmed: Option<Unconfirmed>,
    /// When the data of its snapshot was taken.
    pub taken_at: Timestamp,
    /// How long ago that was.
    pub age: Duration,
    /// How that time is known.
    pub taken_at_origin: TakenAtOrigin,
}

/// An instance for a client.
#[derive(Clone)]
pub struct Acquired {
    /// Its actor, to attach to.
    pub addr: Addr<InstanceActor>,
    /// Its project's settings.
    pub settings: ProjectSettings,
    /// Its record at this moment.
    pub record: Arc<InstanceRecord>,
    /// Whether this request created it, and how.
    pub created: Option<Created>,
}

impl Handler<Acquire> for Supervisor {
    type Result = ResponseFuture<Result<Acquired, AcquireError>>;

    fn handle(&mut self, message: Acquire, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter {
            request: message.request,
            identity: message.identity,
            reply,
        };
        self.acquire(waiter, ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(AcquireError::Unanswered)) })
    }
}

impl Handler<FreeSlot> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: FreeSlot, _: &mut Self::Context) {
        self.free_slot();
    }
}

/// The instances that the filter lets through, by name.
#[derive(Debug, Default, Message)]
#[rtype(result = "Vec<InstanceStatus>")]
pub struct ListInstances {
    /// Which of them, and how many.
    pub filter: InstanceFilter,
}

impl Handler<ListInstances> for Supervisor {
    type Result = MessageResult<ListInstances>;

    fn handle(&mut self, message: ListInstances, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.table.list(&message.filter))
    }
}

/// All instances now, and from now on the changed ones.
#[derive(Debug, Message)]
#[rtype(result = "InstanceChanges")]
pub struct FollowInstances;

impl Handler<FollowInstances> for Supervisor {
    type Result = MessageResult<FollowInstances>;

    fn handle(&mut self, _: FollowInstances, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.table.changes())
    }
}

/// The numbers of instances by state and by snapshot.
#[derive(Debug, Message)]
#[rtype(result = "InstanceCounts")]
pub struct CountInstances;

impl Handler<CountInstances> for Supervisor {
    type Result = MessageResult<CountInstances>;

    fn handle(&mut self, _: CountInstances, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.table.counts())
    }
}

/// The number of instances that wait for a slot to start in.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub struct CountWaiting;

impl Handler<CountWaiting> for Supervisor {
    type Result = usize;

    fn handle(&mut self, _: CountWaiting, _: &mut Self::Context) -> usize {
        self.slots.wanted()
    }
}

/// The state of expiry.
#[derive(Debug, Message)]
#[rtype(result = "ExpiryStatus")]
pub struct GetExpiryStatus;

impl Handler<GetExpiryStatus> for Supervisor {
    type Result = MessageResult<GetExpiryStatus>;

    fn handle(&mut self, _: GetExpiryStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.expiry_status())
    }
}

/// One instance, if it exists.
#[derive(Message)]
#[rtype(result = "Option<InstanceStatus>")]
pub struct GetInstance(pub InstanceName);

impl Handler<GetInstance> for Supervisor {
    type Result = MessageResult<GetInstance>;

    fn handle(&mut self, GetInstance(name): GetInstance, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.table.get(&name))
    }
}

/// An administrator's command for one instance; `None` when there is none of that name.
#[derive(Message)]
#[rtype(result = "Option<Result<(), InstanceError>>")]
pub struct ControlInstance {
    /// The instance.
    pub name: InstanceName,
    /// The command.
    pub command: Command,
}

impl Handler<ControlInstance> for Supervisor {
    type Result = ResponseFuture<Option<Result<(), InstanceError>>>;

    fn handle(&mut self, message: ControlInstance, ctx: &mut Self::Context) -> Self::Result {
        if let Some(rebuilt) = self.rebuilt_for_command(&message.name, ctx) {
            return send_after(rebuilt, message, ctx.address());
        }
        let status = self.table.get(&message.name);
        let actor = status.map(|status| self.actor_of(&status.record, ctx));
        let sent = actor.map(|actor| actor.send(Control(message.command)));
        Box::pin(async move {
            let answer = sent?.await;
            Some(answer.unwrap_or(Err(InstanceError::Died)))
        })
    }
}

/// Sends a message to the Supervisor once an instance has its actor again.
fn send_after<M>(
    rebuilt: oneshot::Receiver<()>,
    message: M,
    supervisor: Addr<Supervisor>,
) -> ResponseFuture<Option<Result<(), InstanceError>>>
where
    M: Message<Result = Option<Result<(), InstanceError>>> + Send + 'static,
    Supervisor: Handler<M>,
{
    Box::pin(async move {
        // It is woken by the drop of the sender, too.
        let _there = rebuilt.await;
        let answer = supervisor.send(message).await;
        answer.unwrap_or(Some(Err(InstanceError::Died)))
    })
}

/// Pins or unpins one instance; `None` when there is none of that name.
#[derive(Message)]
#[rtype(result = "Option<Result<(), InstanceError>>")]
pub struct PinInstance {
    /// The instance.
    pub name: InstanceName,
    /// Whether retention may delete it from now on.
    pub pin: Pin,
}

impl Handler<PinInstance> for Supervisor {
    type Result = ResponseFuture<Option<Result<(), InstanceError>>>;

    fn handle(&mut self, message: PinInstance, ctx: &mut Self::Context) -> Self::Result {
        if let Some(rebuilt) = self.rebuilt_for_command(&message.name, ctx) {
            return send_after(rebuilt, message, ctx.address());
        }
        let status = self.table.get(&message.name);
        let actor = status.map(|status| self.actor_of(&status.record, ctx));
        let sent = actor.map(|actor| actor.send(SetPin(message.pin)));
        Box::pin(async move {
            let answer = sent?.await;
            Some(answer.unwrap_or(Err(InstanceError::Died)))
        })
    }
}

/// Makes a snapshot unavailable to new instances, after which the sender deletes its files. A snapshot that
/// instances were made from is removed only by force: they keep their data, but cannot be reset.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), RemoveSnapshotError>")]
pub struct RemoveSnapshot {
    /// The snapshot.
    pub id: SnapshotId,
    /// Whether a snapshot in use is removed, too.
    pub force: bool,
}

impl Handler<RemoveSnapshot> for Supervisor {
    type Result = ResponseActFuture<Self, Result<(), RemoveSnapshotError>>;

    fn handle(&mut self, message: RemoveSnapshot, _: &mut Self::Context) -> Self::Result {
        let RemoveSnapshot { id, force } = message;
        let instances_total = self.table.count_of(&id);
        if instances_total > 0 && !force {
            let instances = self.table.names_of(&id, INSTANCES_NAMED_MAX);
            let error = RemoveSnapshotError::SnapshotInUse {
                snapshot: id,
                instances,
                instances_total,
            };
            return Box::pin(fut::ready(Err(error)));
        }
        self.removals.begin(id.clone());
        let forgotten = self.deps.index.send(ForgetSnapshot(id.clone()));
        let forgotten = forgotten.into_actor(self);
        Box::pin(forgotten.map(move |known, actor, _| {
            actor.removals.confirm(id.clone());
            if actor.choosing.is_empty() {
                actor.removals.forget_confirmed();
            }
            match known {
                Ok(true) => Ok(()),
                Ok(false) => Err(RemoveSnapshotError::NoSuchSnapshot { snapshot: id }),
                Err(_) => Err(RemoveSnapshotError::IndexUnavailable),
            }
        }))
    }
}

/// Takes no more clients and stops all instances. Answered when they have stopped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopAll {
    /// Whether instances are stopped now, or only new clients refused.
    pub instances: StopInstances,
}

/// Whether [`StopAll`] stops the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopInstances {
    /// They go on running for their sessions.
    Later,
    /// They are stopped, and their sessions end.
    Now,
}

impl Handler<StopAll> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: StopAll, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        self.deps.history.daemon_stops();
        let stops: Vec<_> = match message.instances {
            StopInstances::Later => Vec::new(),
            // An instance without an actor is stopped.
            StopInstances::Now => self
                .actors
                .values()
                .map(|entry| entry.addr.send(Control(Command::Stop)))
                .collect(),
        };
        Box::pin(async move {
            for stopped in futures_util::future::join_all(stops).await {
                match stopped {
                    // A deleted instance has no server either.
                    Ok(Ok(_) | Err(InstanceError::Deleted)) | Err(_) => {}
                    Ok(Err(error)) => tracing::warn!(
                        error = multidb_store::error_chain(&error),
                        "an instance was not stopped"
                    ),
                }
            }
        })
    }
}
