//! Instances that may not take more of the disk. `multidb` measures and decides which one; the instance stops, tells
//! its clients, and starts no more until it is told that it may.
//!
//! It is stopped by a fast shutdown, like an idle one: committed data is kept, and the checkpoint at its end writes
//! at most the buffers of the server, while an immediate one would leave all its write-ahead log on the disk for a
//! recovery that needs more. Only a shutdown that takes too long becomes an immediate one.

use std::time::Duration;

use actix::prelude::*;
use multidb_store::InstanceUid;
use serde::Serialize;

use super::{Event, InstanceActor, InstanceError, State};

/// So long the sessions that wait for their clients have to be told before the server is stopped.
const NOTICE_PERIOD: Duration = Duration::from_millis(500);

/// Why an instance may not take more of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "limit", rename_all = "snake_case")]
pub enum OverLimit {
    /// It has more bytes of its own than an instance may have.
    #[error(
        "it has {} of its own, and limits.max_instance_bytes is {}",
        crate::text::bytes(*.exclusive_bytes),
        crate::text::bytes(*.limit_bytes)
    )]
    MaxInstanceBytes {
        /// The bytes of its own.
        exclusive_bytes: u64,
        /// `limits.max_instance_bytes`.
        limit_bytes: u64,
    },
    /// The disk has come to its reserve, and this instance was among the ones that grew most.
    #[error(
        "it grew by {} while the disk came down to {} free, and limits.disk_reserve is {}",
        crate::text::bytes(*.grown_bytes),
        crate::text::bytes(*.free_bytes),
        crate::text::bytes(*.reserve_bytes)
    )]
    DiskReserve {
        /// The bytes by which it grew lately.
        grown_bytes: u64,
        /// The free bytes of the disk.
        free_bytes: u64,
        /// `limits.disk_reserve`.
        reserve_bytes: u64,
        /// It may start again once so many bytes are free.
        needed_bytes: u64,
    },
}

impl OverLimit {
    /// What to do; `reset` is the command that gives the instance a fresh clone.
    pub fn hint(&self, reset: &str) -> String {
        match self {
            Self::MaxInstanceBytes { .. } => format!(
                "To keep its data, raise limits.max_instance_bytes and restart multidb. {reset} gives it a fresh clone."
            ),
            Self::DiskReserve { needed_bytes, .. } => format!(
                "It can be started once {} are free on the disk: remove instances or snapshots that are no longer needed. {reset} gives it a fresh clone.",
                crate::text::bytes_at_least(*needed_bytes)
            ),
        }
    }
}

/// Stops an instance that is over a limit, or lets it start again. Answered with whether this clone is the instance's.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct SetOverLimit {
    /// The clone that was measured.
    pub uid: InstanceUid,
    /// The limit; none if it is below all of them.
    pub over: Option<OverLimit>,
}

impl Handler<SetOverLimit> for InstanceActor {
    type Result = bool;

    fn handle(&mut self, message: SetOverLimit, ctx: &mut Self::Context) -> Self::Result {
        let SetOverLimit { uid, over } = message;
        if self.record.uid != uid {
            return false;
        }
        self.over_limit = over;
        match (over, self.life.state()) {
            (Some(_), State::Starting { .. } | State::Running { .. }) => {
                ctx.run_later(NOTICE_PERIOD, |actor, ctx| {
                    // A reset may have come in between.
                    if actor.over_limit.is_some() {
                        actor.apply(Event::OverLimit, ctx);
                    }
                });
            }
            (Some(over), State::Stopped | State::Failed) => {
                self.failure = Some(InstanceError::OverLimit(over));
            }
            (None, _) if matches!(self.failure, Some(InstanceError::OverLimit(_))) => {
                self.failure = None;
            }
            (Some(_) | None, _) => {}
        }
        self.settle(ctx);
        true
    }
}

impl InstanceActor {
    /// Why a client is refused at once. A client that comes while a reset makes fresh data waits for that.
    pub(super) fn refusal(&self) -> Option<InstanceError> {
        let over = self.over_limit?;
        match self.life.state() {
            State::Stopped | State::Failed | State::Starting { .. } | State::Running { .. } => {
                Some(InstanceError::OverLimit(over))
            }
            State::Cloning { .. }
            | State::Stopping { .. }
            | State::Unavailable { .. }
            | State::Deleting { .. }
            | State::Gone => None,
        }
    }
}
