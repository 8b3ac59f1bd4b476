//! Deletions that make room on a disk that is above its mark. `multidb` decides which instance goes next; the instance
//! itself decides whether it does.

use multidb_store::InstanceUid;

use super::*;
use crate::instance::{ExpiryAnswer, MakeRoom, OverLimit, SetOverLimit};

/// Deletes an instance before its expiry, or stops it first, unless it is in use, pinned or was used lately. Answered
/// when that has begun. While the clocks disagree, nothing goes.
#[derive(Debug, Message)]
#[rtype(result = "ExpiryAnswer")]
pub struct DeleteForRoom {
    /// The instance.
    pub name: InstanceName,
    /// Its clone, which a reset has replaced if it is another one by now.
    pub uid: InstanceUid,
}

impl Handler<DeleteForRoom> for Supervisor {
    type Result = ResponseActFuture<Self, ExpiryAnswer>;

    fn handle(&mut self, message: DeleteForRoom, ctx: &mut Self::Context) -> Self::Result {
        let DeleteForRoom { name, uid } = message;
        let declined = || Box::pin(fut::ready(ExpiryAnswer::Declined));
        if self.draining || self.expiry_status().paused_for.is_some() {
            return declined();
        }
        let Some(status) = self.table.get(&name) else {
            return declined();
        };
        let answer = self.actor_of(&status.record, ctx).send(MakeRoom(uid));
        Box::pin(answer.into_actor(self).map(move |answer, _, _| {
            answer.unwrap_or_else(|error| {
                tracing::debug!(instance = %name, %error, "an instance did not make room");
                ExpiryAnswer::Declined
            })
        }))
    }
}

/// Stops an instance that may not take more of the disk, or lets it start again. Answered with whether the clone is
/// still the instance's.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct LimitInstance {
    /// The instance.
    pub name: InstanceName,
    /// Its clone, which was measured.
    pub uid: InstanceUid,
    /// The limit; none if it is below all of them.
    pub over: Option<OverLimit>,
}

impl Handler<LimitInstance> for Supervisor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, message: LimitInstance, ctx: &mut Self::Context) -> Self::Result {
        let LimitInstance { name, uid, over } = message;
        let status = self.table.get(&name);
        let limited = status.map(|status| {
            let actor = self.actor_of(&status.record, ctx);
            actor.send(SetOverLimit { uid, over })
        });
        // Without an actor, it is being rebuilt or is gone; the next measurement tells.
        Box::pin(async move {
            match limited {
                Some(limited) => limited.await.unwrap_or(false),
                None => false,
            }
        })
    }
}
