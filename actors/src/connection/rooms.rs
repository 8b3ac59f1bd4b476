//! How many connections there may be: a room for those that have not authenticated, and one for
//! those that have.
//!
//! Nobody who authenticates is kept out by those who do not. A client enters the first room always,
//! and where that is full one of the address that has most there is put out, the one that has been there
//! longest: a client that goes about its login has it done before so many others have come, and one
//! that only waits has not. From the first room a client passes into the second, if there is a place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::Limits;

/// Clients that were put out and have not yet gone; beyond so many the next one waits at the door,
/// which is the kernel's queue of connections.
pub const LEAVING_MAX: usize = 100;

/// How often the log tells that clients are put out.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Both rooms.
#[derive(Debug)]
pub struct Rooms {
    unauthenticated_max: usize,
    sessions_max: usize,
    first: Mutex<First>,
    /// Those in the second room.
    sessions: AtomicUsize,
    /// All there are, with those that were put out and have not yet gone.
    open: AtomicUsize,
    /// Told when somebody has gone.
    gone: Notify,
}

/// The room of those that have not authenticated.
#[derive(Debug, Default)]
struct First {
    /// By their addresses, and by the order in which they came.
    waiting: HashMap<Arc<str>, BTreeMap<u64, Arc<Notify>>>,
    /// How many wait.
    count: usize,
    next: u64,
    /// When the log last told that somebody was put out, and how many were since.
    warned: Option<Instant>,
    put_out: u64,
}

/// One connection's place in one of the rooms; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    rooms: Arc<Rooms>,
    address: Arc<str>,
    number: u64,
    put_out: Arc<Notify>,
    second: std::cell::Cell<bool>,
}

/// All places for sessions are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Rooms {
    /// Empty rooms of the sizes that the limits give them.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            unauthenticated_max: limits.max_unauthenticated,
            sessions_max: limits.max_connections,
            first: Mutex::default(),
            sessions: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            gone: Notify::new(),
        })
    }

    /// The most connections there can be at once.
    pub fn connections_max(limits: &Limits) -> usize {
        limits.max_connections + limits.max_unauthenticated + LEAVING_MAX
    }

    /// Lets a client of this address into the first room, and puts out another where that is full. Waits
    /// while those put out do not leave as fast as others come.
    pub async fn enter(self: &Arc<Self>, address: &str) -> Place {
        let open_max = self.sessions_max + self.unauthenticated_max + LEAVING_MAX;
        let one_more = |open| (open < open_max).then_some(open + 1);
        let open = &self.open;
        while open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_err()
        {
            // Who goes before this is reached leaves a permit.
            self.gone.notified().await;
        }
        let mut first = self.first();
        if first.count >= self.unauthenticated_max {
            first.put_one_out();
        }
        let number = first.next;
        let address: Arc<str> = address.into();
        let put_out = Arc::new(Notify::new());
        first.next += 1;
        first.count += 1;
        let same = first.waiting.entry(address.clone()).or_default();
        same.insert(number, put_out.clone());
        Place {
            rooms: self.clone(),
            address,
            number,
            put_out,
            second: false.into(),
        }
    }

    fn first(&self) -> MutexGuard<'_, First> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl First {
    /// The oldest of those whose address has most.
    fn put_one_out(&mut self) {
        let share = |waiting: &BTreeMap<u64, _>| {
            let oldest = waiting.first_key_value().map(|(number, _)| *number);
            (waiting.len(), Reverse(oldest))
        };
        let most = self.waiting.iter().max_by_key(|(_, same)| share(same));
        let oldest = most.and_then(|(address, same)| Some((address.clone(), *same.keys().next()?)));
        if let Some((address, number)) = oldest
            && let Some(put_out) = self.remove(&address, number)
        {
            put_out.notify_one();
            self.warn();
        }
    }

    /// Takes one out, if it is still there.
    fn remove(&mut self, address: &str, number: u64) -> Option<Arc<Notify>> {
        let same = self.waiting.get_mut(address)?;
        let removed = same.remove(&number)?;
        if same.is_empty() {
            self.waiting.remove(address);
        }
        self.count -= 1;
        Some(removed)
    }

    /// A flood shall not fill the log too.
    fn warn(&mut self) {
        self.put_out += 1;
        let now = Instant::now();
        if self.warned.is_none_or(|at| now - at >= WARNING_INTERVAL) {
            let clients = std::mem::take(&mut self.put_out);
            tracing::warn!(
                clients,
                "too many connections that do not log in, the oldest are put out"
            );
            self.warned = Some(now);
        }
    }
}

impl Place {
    /// Resolves when the client is put out: never once it has been [admitted](Self::admit).
    pub async fn put_out(&self) {
        self.put_out.notified().await;
    }

    /// Takes an authenticated client into the second room.
    ///
    /// # Errors
    ///
    /// It is full.
    pub fn admit(&self) -> Result<(), Full> {
        let max = self.rooms.sessions_max;
        let one_more = |sessions| (sessions < max).then_some(sessions + 1);
        let sessions = &self.rooms.sessions;
        let counted = sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.map_err(|_| Full)?;
        self.second.set(true);
        self.rooms.first().remove(&self.address, self.number);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.second.get() {
            self.rooms.sessions.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.rooms.first().remove(&self.address, self.number);
        }
        self.rooms.open.fetch_sub(1, Ordering::Relaxed);
        self.rooms.gone.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn rooms(unauthenticated: usize, sessions: usize) -> Arc<Rooms> {
        Rooms::new(&Limits {
            max_unauthenticated: unauthenticated,
            max_connections: sessions,
            ..crate::testing::limits()
        })
    }

    /// Enters where nobody has to wait.
    fn enter(rooms: &Arc<Rooms>) -> Place {
        rooms
            .enter("192.0.2.1")
            .now_or_never()
            .expect("there is room")
    }

    fn is_put_out(place: &Place) -> bool {
        place.put_out().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_of_those_that_do_not_log_in_makes_room() {
        let rooms = rooms(2, 5);
        let [first, second, third] = [(); 3].map(|()| enter(&rooms));
        assert!(is_put_out(&first) && !is_put_out(&second) && !is_put_out(&third));
        drop(second);
        let fourth = enter(&rooms);
        assert!(!is_put_out(&third) && !is_put_out(&fourth));
    }

    #[test]
    fn an_address_that_has_most_makes_room_for_the_others() {
        let rooms = rooms(3, 5);
        let other = rooms.enter("192.0.2.2").now_or_never().unwrap();
        let flood = [(); 9].map(|()| enter(&rooms));
        assert!(!is_put_out(&other));
        assert_eq!(flood.iter().filter(|place| is_put_out(place)).count(), 7);
        drop(flood);
        assert_eq!(rooms.first().count, 1);
    }

    #[test]
    fn who_is_admitted_is_put_out_by_nobody_and_leaves_a_place() {
        let rooms = rooms(1, 1);
        let session = enter(&rooms);
        assert_eq!(session.admit(), Ok(()));
        let second = enter(&rooms);
        assert_eq!(second.admit(), Err(Full));
        let third = enter(&rooms);
        assert!(!is_put_out(&session) && is_put_out(&second));
        drop(session);
        assert_eq!(third.admit(), Ok(()));
    }

    #[test]
    fn the_next_one_waits_while_those_put_out_do_not_leave() {
        let rooms = rooms(1, 1);
        let mut places: Vec<Place> = (0..2 + LEAVING_MAX).map(|_| enter(&rooms)).collect();
        let mut next = std::pin::pin!(rooms.enter("192.0.2.1"));
        assert!(next.as_mut().now_or_never().is_none());
        places.pop();
        assert!(next.now_or_never().is_some());
        drop(places);
        assert_eq!(rooms.open.load(Ordering::Relaxed), 0);
        let first = rooms.first();
        assert!(first.waiting.is_empty() && first.count == 0);
    }
}
