//! What the Supervisor is asked.

use super::*;
use crate::auth::Identity;
use crate::instance::lifecycle::Command;
use crate::instance::{Control, InstanceError, SetPin};
use crate::slots::MakeRoom;

/// A client asks for an instance, which is created if it does not exist.
#[derive(Message)]
#[rtype(result = "Result<Acquired, AcquireError>")]
pub struct Acquire {
    /// What the client asked for.
    pub request: ConnectRequest,
    /// Who asks.
    pub identity: Identity,
}

/// An instance for a client.
#[derive(Clone)]
pub struct Acquired {
    /// Its actor, to attach to.
    pub addr: Addr<InstanceActor>,
    /// Its project's settings.
    pub settings: ProjectSettings,
    /// Its record at this moment.
    pub record: InstanceRecord,
    /// Whether this request created it.
    pub created: bool,
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

impl Handler<MakeRoom> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: MakeRoom, _: &mut Self::Context) {
        self.make_room();
    }
}

/// All instances, ordered by name.
#[derive(Message)]
#[rtype(result = "Vec<InstanceStatus>")]
pub struct ListInstances;

impl Handler<ListInstances> for Supervisor {
    type Result = MessageResult<ListInstances>;

    fn handle(&mut self, _: ListInstances, _: &mut Self::Context) -> Self::Result {
        let mut all: Vec<_> = self
            .instances
            .values()
            .map(|entry| entry.status.borrow().clone())
            .collect();
        all.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        MessageResult(all)
    }
}

/// One instance, if it exists.
#[derive(Message)]
#[rtype(result = "Option<InstanceStatus>")]
pub struct GetInstance(pub InstanceName);

impl Handler<GetInstance> for Supervisor {
    type Result = MessageResult<GetInstance>;

    fn handle(&mut self, GetInstance(name): GetInstance, _: &mut Self::Context) -> Self::Result {
        let entry = self.instances.get(&name);
        MessageResult(entry.map(|entry| entry.status.borrow().clone()))
    }
}

/// An administrator's command for one instance; `None` when there is none of that name.
#[derive(Message)]
#[rtype(result = "Option<Result<(), InstanceError>>")]
pub struct ControlInstance {
    /// The instance.
    pub name: InstanceName,
    /// What to do.
    pub command: Command,
}

impl Handler<ControlInstance> for Supervisor {
    type Result = ResponseFuture<Option<Result<(), InstanceError>>>;

    fn handle(&mut self, message: ControlInstance, _: &mut Self::Context) -> Self::Result {
        let entry = self.instances.get(&message.name);
        let sent = entry.map(|entry| entry.addr.send(Control(message.command)));
        Box::pin(async move {
            let answer = sent?.await;
            Some(answer.unwrap_or(Err(InstanceError::Died)))
        })
    }
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

    fn handle(&mut self, message: PinInstance, _: &mut Self::Context) -> Self::Result {
        let entry = self.instances.get(&message.name);
        let sent = entry.map(|entry| entry.addr.send(SetPin(message.pin)));
        Box::pin(async move {
            let answer = sent?.await;
            Some(answer.unwrap_or(Err(InstanceError::Died)))
        })
    }
}

/// Takes no more clients and stops all instances. Answered when they have stopped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopAll {
    /// Whether instances are stopped now, or only new clients refused.
    pub instances: StopInstances,
}

/// What [`StopAll`] does with the instances.
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
        let stops: Vec<_> = match message.instances {
            StopInstances::Later => Vec::new(),
            StopInstances::Now => self
                .instances
                .values()
                .map(|entry| entry.addr.send(Control(Command::Stop)))
                .collect(),
        };
        Box::pin(async move {
            for stopped in futures_util::future::join_all(stops).await {
                if let Ok(Err(error)) = stopped {
                    tracing::warn!(
                        error = multidb_store::error_chain(&error),
                        "an instance was not stopped"
                    );
                }
            }
        })
    }
}
