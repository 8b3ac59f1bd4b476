//! Admission control: bounds the unauthenticated connections and the sessions, each by a limit of its own.
//!
//! Clients that do not authenticate cannot keep out clients that do. A new connection is always admitted; at
//! the limit it evicts the oldest unauthenticated connection of the address that has the most of them. A
//! client that logs in at once is done long before it is the oldest. The limit of sessions is checked
//! when a client has authenticated.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::RefusalReason;
use crate::by_address::ByAddress;
use crate::limits::Limits;
use crate::supervisor::AcquireError;

/// The most evicted connections that have not closed yet. At this limit new connections stay in the
/// kernel's listen backlog.
const EVICTED_MAX: usize = 100;

/// Counts all connections and issues their permits.
#[derive(Debug)]
pub struct AdmissionControl {
    unauthenticated_max: usize,
    sessions_max: usize,
    /// The unauthenticated connections, each with the notification of its refusal.
    unauthenticated: Mutex<ByAddress<Arc<Notify>>>,
    counts: watch::Sender<Counts>,
    shuts_down: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    /// All connections, with the evicted ones that have not closed yet.
    open: usize,
    /// The authenticated connections.
    sessions: usize,
}

/// One connection's permit, returned by dropping it. It is for an unauthenticated connection until its
/// [session begins](Self::begin_session).
#[derive(Debug)]
pub struct Permit {
    control: Arc<AdmissionControl>,
    address: Arc<str>,
    number: u64,
    refused: Arc<Notify>,
    for_session: Cell<bool>,
}

/// There are as many sessions as the limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManySessions;

impl AdmissionControl {
    /// Starts without connections.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            unauthenticated_max: limits.max_unauthenticated,
            sessions_max: limits.max_connections,
            unauthenticated: Mutex::default(),
            counts: watch::Sender::default(),
            shuts_down: AtomicBool::new(false),
        })
    }

    /// The most connections that can be open at once.
    pub fn connections_max(limits: &Limits) -> usize {
        limits.max_connections + limits.max_unauthenticated + EVICTED_MAX
    }

    /// Admits a connection from this address as an unauthenticated one, and evicts another at the limit.
    /// Waits while too many evicted connections are still open.
    pub async fn admit(self: &Arc<Self>, address: &str) -> Permit {
        let open_max = self.sessions_max + self.unauthenticated_max + EVICTED_MAX;
        let one_more = |counts: &mut Counts| {
            let is_free = counts.open < open_max;
            counts.open += usize::from(is_free);
            is_free
        };
        while !self.counts.send_if_modified(one_more) {
            self.until(|counts| counts.open < open_max).await;
        }
        let mut unauthenticated = self.unauthenticated();
        if unauthenticated.count() >= self.unauthenticated_max {
            evict_one(&mut unauthenticated);
        }
        let address: Arc<str> = address.into();
        let refused = Arc::new(Notify::new());
        let number = unauthenticated.add(&address, refused.clone());
        Permit {
            control: self.clone(),
            address,
            number,
            refused,
            for_session: Cell::new(false),
        }
    }

    /// The number of unauthenticated connections now.
    pub fn unauthenticated_now(&self) -> usize {
        self.unauthenticated().count()
    }

    /// Resolves when no connection is a session, or is about to become one.
    pub async fn sessions_ended(&self) {
        self.until(|counts| counts.sessions == 0).await;
    }

    /// Resolves when all connections have closed.
    pub async fn all_closed(&self) {
        self.until(|counts| counts.open == 0).await;
    }

    /// Refuses the unauthenticated connections, as the daemon stops.
    pub fn shut_down(&self) {
        self.shuts_down.store(true, Ordering::SeqCst);
        for refused in self.unauthenticated().iter() {
            refused.notify_one();
        }
    }

    async fn until(&self, is_met: impl Fn(&Counts) -> bool) {
        // The sender is here, so the channel is open.
        let _ = self.counts.subscribe().wait_for(is_met).await;
    }

    fn unauthenticated(&self) -> MutexGuard<'_, ByAddress<Arc<Notify>>> {
        self.unauthenticated
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evicts the oldest connection of the address that has the most.
fn evict_one(unauthenticated: &mut ByAddress<Arc<Notify>>) {
    if let Some(evicted) = unauthenticated.evict(|_| ()) {
        evicted.connection.notify_one();
        if let Some(connections) = evicted.warn_of {
            tracing::warn!(
                connections,
                "too many unauthenticated connections, the oldest are evicted"
            );
        }
    }
}

impl Permit {
    /// Resolves when the connection is refused: it is evicted, or the daemon stops. That never happens once its
    /// [session has begun](Self::begin_session).
    pub async fn refused(&self) -> RefusalReason {
        self.refused.notified().await;
        if self.control.shuts_down.load(Ordering::SeqCst) {
            return AcquireError::ShuttingDown.into();
        }
        RefusalReason::Evicted
    }

    /// Counts an authenticated connection as a session.
    ///
    /// # Errors
    ///
    /// There are as many sessions as the limit allows.
    pub fn begin_session(&self) -> Result<(), TooManySessions> {
        let max = self.control.sessions_max;
        let one_more = |counts: &mut Counts| {
            let is_free = counts.sessions < max;
            counts.sessions += usize::from(is_free);
            is_free
        };
        if !self.control.counts.send_if_modified(one_more) {
            return Err(TooManySessions);
        }
        self.for_session.set(true);
        self.control
            .unauthenticated()
            .remove(&self.address, self.number);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let was_session = self.for_session.get();
        if !was_session {
            self.control
                .unauthenticated()
                .remove(&self.address, self.number);
        }
        self.control.counts.send_modify(|counts| {
            counts.open -= 1;
            counts.sessions -= usize::from(was_session);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn control(unauthenticated: usize, sessions: usize) -> Arc<AdmissionControl> {
        AdmissionControl::new(&Limits {
            max_unauthenticated: unauthenticated,
            max_connections: sessions,
            ..crate::testing::limits()
        })
    }

    fn admit(control: &Arc<AdmissionControl>) -> Permit {
        control
            .admit("192.0.2.1")
            .now_or_never()
            .expect("nothing to wait for")
    }

    fn is_evicted(permit: &Permit) -> bool {
        matches!(
            permit.refused().now_or_never(),
            Some(RefusalReason::Evicted)
        )
    }

    #[test]
    fn evicts_oldest_unauthenticated_connection() {
        let control = control(2, 5);
        let [first, second, third] = [(); 3].map(|()| admit(&control));
        assert!(is_evicted(&first) && !is_evicted(&second) && !is_evicted(&third));
        drop(second);
        let fourth = admit(&control);
        assert!(!is_evicted(&third) && !is_evicted(&fourth));
    }

    #[test]
    fn evicts_from_the_address_with_most_connections() {
        let control = control(3, 5);
        let other = control.admit("192.0.2.2").now_or_never().unwrap();
        let flood = [(); 9].map(|()| admit(&control));
        assert!(!is_evicted(&other));
        let evicted = flood.iter().filter(|permit| is_evicted(permit));
        assert_eq!(evicted.count(), 7);
        drop(flood);
        assert_eq!(control.unauthenticated_now(), 1);
    }

    #[test]
    fn session_is_never_evicted_and_returns_its_permit() {
        let control = control(1, 1);
        let session = admit(&control);
        assert_eq!(session.begin_session(), Ok(()));
        let second = admit(&control);
        assert_eq!(second.begin_session(), Err(TooManySessions));
        let third = admit(&control);
        assert!(!is_evicted(&session) && is_evicted(&second));
        drop(session);
        assert_eq!(third.begin_session(), Ok(()));
    }

    #[test]
    fn admission_waits_while_evicted_connections_stay_open() {
        let control = control(1, 1);
        let mut permits: Vec<Permit> = (0..2 + EVICTED_MAX).map(|_| admit(&control)).collect();
        let mut next = std::pin::pin!(control.admit("192.0.2.1"));
        assert!(next.as_mut().now_or_never().is_none());
        permits.pop();
        assert!(next.now_or_never().is_some());
        drop(permits);
        control.all_closed().now_or_never().unwrap();
        assert_eq!(control.unauthenticated_now(), 0);
    }

    #[test]
    fn shutdown_refuses_connections_that_have_no_session_and_waits_for_all() {
        let control = control(2, 1);
        let [session, unauthenticated] = [(); 2].map(|()| admit(&control));
        session.begin_session().unwrap();
        control.shut_down();
        assert!(session.refused().now_or_never().is_none());
        let reason = unauthenticated.refused().now_or_never();
        let shutting_down = RefusalReason::from(AcquireError::ShuttingDown);
        assert_eq!(reason.unwrap().code(), shutting_down.code());
        assert!(control.sessions_ended().now_or_never().is_none());
        drop(session);
        control.sessions_ended().now_or_never().unwrap();
        assert!(control.all_closed().now_or_never().is_none());
        drop(unauthenticated);
        control.all_closed().now_or_never().unwrap();
    }
}
