//! Connections by address. No address can hold the whole limit: at the limit, the evicted connection is of the address
//! that has most of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two warnings, so that a flood does not fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Connections, by address and then by the order in which they came.
#[derive(Debug)]
pub struct ByAddress<T> {
    connections: HashMap<Arc<str>, BTreeMap<u64, T>>,
    count: usize,
    next: u64,
    evictions: Evictions,
}

#[derive(Debug, Default)]
struct Evictions {
    warned_at: Option<Instant>,
    /// Since the last warning.
    count: u64,
}

/// A connection that was evicted.
#[derive(Debug, PartialEq, Eq)]
pub struct Evicted<T> {
    /// The connection.
    pub connection: T,
    /// Its address.
    pub address: Arc<str>,
    /// How many were evicted since the last warning, if it is time for one; at most once a minute.
    pub warn_of: Option<u64>,
}

impl<T> Default for ByAddress<T> {
    fn default() -> Self {
        Self {
            connections: HashMap::new(),
            count: 0,
            next: 0,
            evictions: Evictions::default(),
        }
    }
}

impl<T> ByAddress<T> {
    /// The number of connections.
    pub fn count(&self) -> usize {
        self.count
    }

    /// All connections.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.connections.values().flat_map(BTreeMap::values)
    }

    /// Adds a connection, and returns the number by which it is known with its address.
    pub fn add(&mut self, address: &Arc<str>, connection: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.count += 1;
        let of_address = self.connections.entry(address.clone()).or_default();
        of_address.insert(number, connection);
        number
    }

    /// A connection, unless it was removed or evicted.
    pub fn get_mut(&mut self, address: &str, number: u64) -> Option<&mut T> {
        self.connections.get_mut(address)?.get_mut(&number)
    }

    /// Removes a connection, unless it was removed or evicted before.
    pub fn remove(&mut self, address: &str, number: u64) -> Option<T> {
        let of_address = self.connections.get_mut(address)?;
        let removed = of_address.remove(&number)?;
        if of_address.is_empty() {
            self.connections.remove(address);
        }
        self.count -= 1;
        Some(removed)
    }

    /// Removes the oldest connection of the address that has most, among connections of the lowest rank.
    pub fn evict<R: Ord>(&mut self, rank: impl Fn(&T) -> R) -> Option<Evicted<T>> {
        let share = |of_address: &BTreeMap<u64, T>| {
            let oldest = of_address.first_key_value().map(|(number, _)| *number);
            (of_address.len(), Reverse(oldest))
        };
        let addresses = self.connections.iter();
        let (address, of_address) = addresses.max_by_key(|(_, of_address)| share(of_address))?;
        let ranked = of_address.iter();
        let (&number, _) = ranked.min_by_key(|(number, one)| (rank(one), **number))?;
        let address = address.clone();
        Some(Evicted {
            connection: self.remove(&address, number)?,
            address,
            warn_of: self.evictions.note(),
        })
    }
}

impl Evictions {
    fn note(&mut self) -> Option<u64> {
        self.count += 1;
        let now = Instant::now();
        let is_time = self.warned_at.is_none_or(|at| now - at >= WARNING_INTERVAL);
        is_time.then(|| {
            self.warned_at = Some(now);
            std::mem::take(&mut self.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evicted(table: &mut ByAddress<char>, rank: impl Fn(&char) -> bool) -> char {
        table.evict(rank).expect("there are some").connection
    }

    #[tokio::test]
    async fn oldest_of_the_lowest_rank_goes_of_the_address_with_most() {
        let mut table = ByAddress::default();
        assert_eq!(table.evict(|_| 0), None);
        let (few, many) = (Arc::from("192.0.2.1"), Arc::from("192.0.2.2"));
        let first = table.add(&few, 'a');
        for name in ['b', 'c', 'd', 'e'] {
            table.add(&many, name);
        }
        assert_eq!(evicted(&mut table, |_| true), 'b');
        assert_eq!(evicted(&mut table, |name| *name != 'd'), 'd');
        // With one more, the first address has as many, and the oldest of all.
        table.add(&few, 'f');
        assert_eq!(evicted(&mut table, |_| true), 'a');
        assert_eq!(table.remove(&few, first), None);
        assert_eq!(table.get_mut(&few, first), None);
        assert_eq!(table.iter().count(), table.count());
        while table.evict(|_| 0).is_some() {}
        assert_eq!((table.count(), table.connections.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_time_for_a_warning_once_a_minute() {
        let mut table = ByAddress::default();
        let address = Arc::from("192.0.2.1");
        for (wait, expected) in [(0, Some(1)), (59, None), (0, None), (1, Some(3)), (1, None)] {
            tokio::time::advance(Duration::from_secs(wait)).await;
            table.add(&address, ());
            let evicted = table.evict(|()| 0).expect("there is one");
            assert_eq!(evicted.warn_of, expected, "{wait}");
        }
    }
}
