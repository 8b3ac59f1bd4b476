//! One run of Postgres: its slot, and the leases of the sessions on it.
//!
//! A run outlives the instance's actor. An actor that is rebuilt after a panic takes over the same run, so the sessions
//! stay counted and the slot stays taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multidb_store::{InstanceRecord, InstanceUid};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::instance::lifecycle::{CloneReason, Job};
use crate::ports::{Endpoint, SuperuserAccess};
use crate::slots::Slot;

/// One run of Postgres.
#[derive(Debug, Clone)]
pub struct RunLeases(Arc<Mutex<Run>>);

#[derive(Debug)]
struct Run {
    /// Held until Postgres has stopped.
    slot: Option<Slot>,
    /// The open sessions.
    sessions: usize,
    /// The actor that counts the ends of sessions, and the number of the run in it.
    actor: Option<(Job, UnboundedSender<Job>)>,
}

impl RunLeases {
    /// A run in this slot, without sessions.
    pub fn new(slot: Slot) -> Self {
        Self(Arc::new(Mutex::new(Run {
            slot: Some(slot),
            sessions: 0,
            actor: None,
        })))
    }

    /// The number of its open sessions.
    pub fn sessions(&self) -> usize {
        self.run().sessions
    }

    /// Reports the ends of sessions to this channel from now on, under this number. Returns the number of sessions
    /// whose ends it will report.
    pub(super) fn report_to(&self, job: Job) -> (usize, UnboundedReceiver<Job>) {
        let (sender, ends) = mpsc::unbounded_channel();
        let mut run = self.run();
        run.actor = Some((job, sender));
        (run.sessions, ends)
    }

    /// A lease for one session.
    pub(super) fn lease(&self, endpoint: Endpoint, record: &InstanceRecord) -> Lease {
        self.run().sessions += 1;
        Lease {
            server: SuperuserAccess::new(endpoint, record),
            uid: record.uid,
            beginning: None,
            _end: LeaseEnd(self.clone()),
        }
    }

    /// Releases the slot, since Postgres has stopped.
    pub(super) fn end(&self) {
        let slot = self.run().slot.take();
        drop(slot);
    }

    /// Each change is one assignment, so a panic leaves the run consistent.
    fn run(&self) -> MutexGuard<'_, Run> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// How long its clone took, if it is the first run on it.
    pub clone: Option<Duration>,
    /// How long Postgres took to start.
    pub start: Duration,
    /// Whether the clone took the place of data that ended uncleanly.
    pub renewed: bool,
}

impl Beginning {
    /// The beginning of a run on a clone that was made since the last one, if any.
    pub(super) fn new(cloned: Option<(CloneReason, Duration)>, start: Duration) -> Self {
        Self {
            clone: cloned.map(|(_, elapsed)| elapsed),
            start,
            renewed: matches!(cloned, Some((CloneReason::Renew, _))),
        }
    }
}

/// A session's hold on a running instance. Dropping it tells the instance that the session ended.
#[derive(Debug)]
pub struct Lease {
    /// Where Postgres accepts connections, and how multidb asks it about the session.
    pub server: SuperuserAccess,
    /// The clone that it runs on.
    pub uid: InstanceUid,
    /// How the run began, if the client waited for that.
    pub beginning: Option<Beginning>,
    _end: LeaseEnd,
}

/// Tells the instance, once, when it is dropped.
#[derive(Debug)]
struct LeaseEnd(RunLeases);

impl Drop for LeaseEnd {
    fn drop(&mut self) {
        let mut run = self.0.run();
        run.sessions = run.sessions.saturating_sub(1);
        if let Some((job, actor)) = &run.actor {
            // The channel is closed while the instance's actor is rebuilt, which takes over the number.
            let _closed = actor.send(*job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;
    use crate::testing;

    #[test]
    fn sessions_stay_counted_while_no_actor_listens() {
        let slots = Slots::new(1);
        let run = RunLeases::new(slots.try_acquire().unwrap());
        let record = testing::record("i", 1, multidb_store::Phase::Ready);
        let lease = || run.lease(Endpoint::Unix("/run/postgres".into()), &record);
        let (sessions, ends) = run.report_to(Job::default());
        assert_eq!(sessions, 0);
        let (first, second) = (lease(), lease());
        drop(ends);
        drop(first);
        let (sessions, mut ends) = run.report_to(Job::default());
        assert_eq!(sessions, 1);
        drop(second);
        assert_eq!(ends.try_recv(), Ok(Job::default()));
        assert!(slots.try_acquire().is_none());
        run.end();
        assert!(slots.try_acquire().is_some());
    }
}
