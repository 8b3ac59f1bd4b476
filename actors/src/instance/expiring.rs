//! The steps of an instance's expiry. The Supervisor proposes each one; the instance checks its own record, sessions
//! and manifest before it takes it.

use multidb_store::{InstanceUid, Mark};

use super::lifecycle::Command;
use super::record_writer::WriterEvent;
use super::*;
use crate::clone_worker::worker_ended;
use crate::clone_worker::{Copies, ReadManifest};
use crate::supervisor::retention::{
    ExpiryPeriods, ExpiryStep, due_now, may_make_room, more_protective,
};

/// The next step of the expiry, unless the instance is in use, pinned, or not due for it. Answered when the step has
/// begun.
#[derive(Message)]
#[rtype(result = "ExpiryAnswer")]
pub struct Expire(pub ExpiryStep);

/// Whether the instance took the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, MessageResponse)]
pub enum ExpiryAnswer {
    /// It is marked, or is being deleted.
    Begun,
    /// It was used meanwhile, or something protects it.
    Declined,
}

impl Handler<Expire> for InstanceActor {
    type Result = ResponseActFuture<Self, ExpiryAnswer>;

    fn handle(&mut self, Expire(step): Expire, ctx: &mut Self::Context) -> Self::Result {
        if !self.is_due(step) {
            return Box::pin(fut::ready(ExpiryAnswer::Declined));
        }
        match step {
            ExpiryStep::Mark => {
                self.mark(ctx);
                Box::pin(fut::ready(ExpiryAnswer::Begun))
            }
            ExpiryStep::Delete => self.delete_unless_used(
                |actor| actor.is_due(ExpiryStep::Delete),
                "instance expires, nobody used it in its grace",
            ),
        }
    }
}

/// Makes room on a disk that is above its mark: the instance is deleted before its expiry, unless it is in use, pinned
/// or was used lately. A running instance is stopped first, which is [`ExpiryAnswer::Begun`], too.
#[derive(Message)]
#[rtype(result = "ExpiryAnswer")]
pub struct MakeRoom(pub InstanceUid);

impl Handler<MakeRoom> for InstanceActor {
    type Result = ResponseActFuture<Self, ExpiryAnswer>;

    fn handle(&mut self, MakeRoom(uid): MakeRoom, ctx: &mut Self::Context) -> Self::Result {
        if self.record.uid != uid || !self.may_make_room() {
            return Box::pin(fut::ready(ExpiryAnswer::Declined));
        }
        if self.life.can_expire() {
            return self.delete_unless_used(
                |actor| actor.life.can_expire() && actor.may_make_room(),
                "instance is deleted before its expiry, since the disk is above its mark",
            );
        }
        self.apply(Event::SlotWanted, ctx);
        let answer = match self.life.state() {
            State::Stopping { .. } => ExpiryAnswer::Begun,
            _ => ExpiryAnswer::Declined,
        };
        Box::pin(fut::ready(answer))
    }
}

impl InstanceActor {
    /// Whether the step is due now and nothing uses the instance.
    fn is_due(&self, step: ExpiryStep) -> bool {
        let periods = ExpiryPeriods::from(&*self.deps.limits);
        self.life.can_expire()
            && due_now(&self.record, periods, self.deps.clock.now()) == Some(step)
    }

    /// Whether it may go before its expiry.
    fn may_make_room(&self) -> bool {
        may_make_room(&self.record, &self.deps.limits, self.deps.clock.now())
    }

    /// Consults the manifest, and then deletes the instance if that is still right.
    fn delete_unless_used(
        &self,
        is_right: fn(&Self) -> bool,
        why: &'static str,
    ) -> ResponseActFuture<Self, ExpiryAnswer> {
        let uid = self.record.uid;
        let read = self.deps.worker.send(ReadManifest(uid)).into_actor(self);
        Box::pin(read.map(move |manifest, actor, ctx| {
            let manifest = manifest.unwrap_or_else(|_| Err(worker_ended()));
            if let Err(error) = actor.consult(manifest, ctx) {
                actor.keep(&error, ctx);
                return ExpiryAnswer::Declined;
            }
            // A client may have come while the manifest was read.
            if actor.record.uid != uid || !is_right(actor) {
                return ExpiryAnswer::Declined;
            }
            tracing::info!(
                instance = %actor.record.name,
                uid = %uid,
                last_used_at = %actor.record.last_used_at,
                "{why}"
            );
            actor.apply(Event::Command(Command::Expire), ctx);
            ExpiryAnswer::Begun
        }))
    }

    fn mark(&mut self, ctx: &mut Context<Self>) {
        self.set_mark();
        tracing::warn!(
            instance = %self.record.name,
            uid = %self.record.uid,
            last_used_at = %self.record.last_used_at,
            deleted_after = crate::text::duration(self.deps.limits.expiry_grace),
            "instance is expired, and is deleted unless somebody uses or pins it"
        );
        self.step_writer(WriterEvent::Changed(Copies::Database), ctx);
        self.settle(ctx);
    }

    fn set_mark(&mut self) {
        let now = self.deps.clock.now();
        self.record.marked = Some(Mark {
            at: now.wall,
            observed: now.observed,
        });
        self.mark_may_be_stored = true;
    }

    /// Takes over a later use or pin of the manifest. The database may have been restored from before a pin was
    /// acknowledged, and counts the changes since then by itself, so a pin in the manifest protects with any sequence
    /// numbers: each change of a pin is written to both.
    fn consult(
        &mut self,
        manifest: Result<Option<InstanceRecord>, CloneError>,
        ctx: &mut Context<Self>,
    ) -> Result<(), String> {
        let manifest = match manifest {
            Ok(Some(manifest)) if manifest.uid == self.record.uid => manifest,
            // Without a directory there is nothing to lose.
            Ok(None) => return Ok(()),
            Ok(Some(_)) => return Err("its manifest is of another clone".to_owned()),
            Err(error) => return Err(multidb_store::error_chain(&error)),
        };
        let pin = more_protective(self.record.pin, manifest.pin);
        let last_used = self.record.last_used_observed;
        let last_used = last_used.max(manifest.last_used_observed);
        if (pin, last_used) == (self.record.pin, self.record.last_used_observed) {
            return Ok(());
        }
        tracing::warn!(
            instance = %self.record.name,
            uid = %self.record.uid,
            "the manifest knows of a later use or pin than the record, the instance does not expire"
        );
        let record = &mut self.record;
        (record.pin, record.last_used_observed, record.marked) = (pin, last_used, None);
        record.last_used_at = record.last_used_at.max(manifest.last_used_at);
        self.step_writer(WriterEvent::Changed(Copies::DatabaseAndManifest), ctx);
        self.settle(ctx);
        Ok(())
    }

    /// Keeps the instance, since it may be protected. If its grace is over, it begins again.
    fn keep(&mut self, error: &str, ctx: &mut Context<Self>) {
        tracing::error!(
            instance = %self.record.name,
            uid = %self.record.uid,
            error,
            "expired instance is kept, since its manifest cannot be consulted"
        );
        if self.is_due(ExpiryStep::Delete) {
            self.set_mark();
            self.step_writer(WriterEvent::Changed(Copies::Database), ctx);
            self.settle(ctx);
        }
    }

    /// Takes the mark away for a start, and returns the answer to wait for: a client must not be served by an instance
    /// that a crash of the daemon would leave marked. Written to both copies, as a pin is, so that an older one of the
    /// database does not bring the mark back.
    pub(super) fn unmark(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> Option<oneshot::Receiver<Result<(), InstanceError>>> {
        if !self.mark_may_be_stored {
            return None;
        }
        self.note_use();
        let (reply, answer) = oneshot::channel();
        self.pins.push_back(reply);
        self.step_writer(WriterEvent::PinSet, ctx);
        Some(answer)
    }
}
