//! The `max_running` places that running instances hold.
//!
//! An instance takes a place before it starts and gives it back when its Postgres has stopped.
//! Where all are taken, the Supervisor is asked to stop the least recently used instance without
//! sessions, again and again until there is a place, since that instance may just have got a
//! client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often the Supervisor is asked for room while an instance waits for a place.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

/// One place. Dropping it gives it back.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// All places, shared by the instances.
#[derive(Clone)]
pub struct Slots {
    places: Arc<Semaphore>,
    max: usize,
    wanted: Arc<AtomicUsize>,
}

/// Asks the Supervisor to stop an instance that nobody uses.
#[derive(Message)]
#[rtype(result = "()")]
pub struct MakeRoom;

impl Slots {
    /// `max` places, all free.
    pub fn new(max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max)),
            max,
            wanted: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// The number of places.
    pub fn max(&self) -> usize {
        self.max
    }

    /// How many instances wait for a place now.
    pub fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// A place, if one is free at once.
    pub fn try_acquire(&self) -> Option<Slot> {
        self.places.clone().try_acquire_owned().ok().map(Slot)
    }

    /// A place, or `None` where all stay taken for `limit`.
    pub async fn acquire(&self, limit: Duration, room: Recipient<MakeRoom>) -> Option<Slot> {
        if let Some(slot) = self.try_acquire() {
            return Some(slot);
        }
        let _wanted = Wanted::count(&self.wanted);
        let places = self.places.clone();
        let ask = async {
            loop {
                if let Err(error) = room.send(MakeRoom).await {
                    tracing::debug!(%error, "supervisor did not answer a request for room");
                }
                tokio::time::sleep(ASK_INTERVAL).await;
            }
        };
        tokio::select! {
            permit = places.acquire_owned() => permit.ok().map(Slot),
            () = ask => None,
            () = tokio::time::sleep(limit) => None,
        }
    }
}

/// Counts one instance that waits, while it lives.
struct Wanted(Arc<AtomicUsize>);

impl Wanted {
    fn count(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
