//! The messages to an instance.

use std::sync::Arc;

use actix::prelude::*;
use multidb_store::{InstanceName, InstanceRecord, Pin};
use tokio::sync::oneshot;

use super::{Event, InstanceActor, InstanceError, Lease, State};
use crate::instance::lifecycle::Command;
use crate::instance::record_writer::WriterEvent;

/// A client wants a session. Answered when Postgres accepts connections, or with the reason why
/// it does not. A client that leaves drops its request; nothing is undone for it.
#[derive(Debug, Default, Message)]
#[rtype(result = "Result<Lease, InstanceError>")]
pub struct Attach {
    /// The user who logs in; none for a command, which needs the instance to run.
    pub login: Option<Arc<str>>,
}

impl Handler<Attach> for InstanceActor {
    type Result = ResponseFuture<Result<Lease, InstanceError>>;

    fn handle(&mut self, Attach { login }: Attach, ctx: &mut Self::Context) -> Self::Result {
        if let Some(why) = self.refusal() {
            return Box::pin(std::future::ready(Err(why)));
        }
        let (reply, answer) = oneshot::channel();
        if self.waiters.is_empty() {
            self.first_login = login;
        }
        self.waiters.push(reply);
        self.apply(Event::ClientWaits, ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(InstanceError::Died)) })
    }
}

/// An administrator's command. Answered when it is carried out.
#[derive(Message)]
#[rtype(result = "Result<(), InstanceError>")]
pub struct Control(pub Command);

impl Handler<Control> for InstanceActor {
    type Result = ResponseFuture<Result<(), InstanceError>>;

    fn handle(&mut self, Control(command): Control, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        if command == Command::Reset {
            // An older failure is not this reset's.
            self.failure = None;
        }
        match command {
            Command::Start | Command::Reset | Command::Recover => self.touch(ctx),
            Command::Stop | Command::Delete | Command::Expire => {}
        }
        if command == Command::Recover && self.unusable.is_some() {
            self.inspect_data(reply, ctx);
        } else {
            self.pending_commands.add(command, reply);
            self.apply(Event::Command(command), ctx);
        }
        Box::pin(async move { answer.await.unwrap_or(Err(InstanceError::Died)) })
    }
}

/// The login that the instance was made for can have no session, and holds this lease: the instance is deleted, unless
/// another client has come meanwhile, or it was pinned. Answered when that is done, with whether it is gone.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct NotWanted(pub Lease);

impl Handler<NotWanted> for InstanceActor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, NotWanted(lease): NotWanted, ctx: &mut Self::Context) -> Self::Result {
        let is_of_this = self.record.uid == lease.uid && self.life.has_one_session();
        if !is_of_this || self.record.pin != Pin::None || !self.pending_commands.is_empty() {
            return Box::pin(std::future::ready(false));
        }
        tracing::info!(
            instance = %self.record.name,
            uid = %self.record.uid,
            "instance is deleted, since the login that it was made for has no session"
        );
        let (reply, answer) = oneshot::channel();
        self.pending_commands.add(Command::Delete, reply);
        self.apply(Event::Command(Command::Delete), ctx);
        Box::pin(async move { matches!(answer.await, Ok(Ok(()))) })
    }
}

/// Another instance waits for a slot: stop if this one is unused.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SlotWanted;

impl Handler<SlotWanted> for InstanceActor {
    type Result = ();

    fn handle(&mut self, _: SlotWanted, ctx: &mut Self::Context) {
        self.apply(Event::SlotWanted, ctx);
    }
}

/// Sets whether retention may delete the instance. Answered when that is durable.
#[derive(Message)]
#[rtype(result = "Result<(), InstanceError>")]
pub struct SetPin(pub Pin);

impl Handler<SetPin> for InstanceActor {
    type Result = ResponseFuture<Result<(), InstanceError>>;

    fn handle(&mut self, SetPin(pin): SetPin, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.note_use();
        self.record.pin = pin;
        self.pins.push_back(reply);
        self.step_writer(WriterEvent::PinSet, ctx);
        self.settle(ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(InstanceError::Died)) })
    }
}

/// Ends the actor of an instance that gets another name. Its data, its run and its sessions stay. Answered with the
/// record, or with the state in which that cannot be done.
#[derive(Message)]
#[rtype(result = "Result<InstanceRecord, &'static str>")]
pub struct Retire;

impl Handler<Retire> for InstanceActor {
    type Result = Result<InstanceRecord, &'static str>;

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) -> Self::Result {
        let state = self.life.state();
        let is_settled = matches!(state, State::Stopped | State::Running { .. });
        let is_awaited = !self.waiters.is_empty() || !self.pins.is_empty();
        if !is_settled {
            return Err(state.name());
        }
        if is_awaited || !self.pending_commands.is_empty() {
            return Err("busy");
        }
        ctx.stop();
        Ok(self.record.clone())
    }
}

/// The parent of the instance has another name. Answered when that is durable.
#[derive(Message)]
#[rtype(result = "Result<(), InstanceError>")]
pub struct ParentRenamed(pub InstanceName);

impl Handler<ParentRenamed> for InstanceActor {
    type Result = ResponseFuture<Result<(), InstanceError>>;

    fn handle(
        &mut self,
        ParentRenamed(name): ParentRenamed,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.record.parent = Some(name);
        // Written and answered as a pin is.
        self.pins.push_back(reply);
        self.step_writer(WriterEvent::PinSet, ctx);
        self.settle(ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(InstanceError::Died)) })
    }
}
