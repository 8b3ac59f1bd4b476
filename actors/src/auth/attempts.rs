//! The failed logins of each user at each address. Guessing a password takes many attempts, so after some failures a
//! user has to wait there. An address has a higher limit of its own, since many people may share it: beyond it, a user
//! who has not failed there still has one attempt, so that a client with the right password gets in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The failures of one user at one address within [`WINDOW`] after which it is refused there.
pub const FAILURES_MAX: usize = 20;
/// The failures of all users at one address within [`WINDOW`] after which each has one attempt.
pub const ADDRESS_FAILURES_MAX: usize = 200;
/// How long failures count, from the first of them.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The most users and addresses in memory. Beyond that, expired entries are dropped, then entries with one failure,
/// then all: memory stays bounded under a flood.
const ENTRIES_MAX: usize = 10_000;
/// The longest user name that is kept whole. A client may name an unknown user.
const USER_LENGTH_MAX: usize = 64;

/// The failed attempts. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Attempts(Arc<Mutex<Counters>>);

#[derive(Debug, Default)]
struct Counters {
    /// By address and user.
    users: HashMap<(String, String), Failures>,
    addresses: HashMap<String, Failures>,
}

/// A user, or a whole address, that has to wait.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// The address.
    pub address: String,
    /// The user; none for all users with failures at an address that is over its own limit.
    pub user: Option<String>,
    /// The remaining time.
    pub wait: Duration,
}

/// The failures of one user, or of one address.
#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Instant,
    count: usize,
}

impl Failures {
    fn none() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }

    fn is_expired(&self) -> bool {
        self.since.elapsed() >= WINDOW
    }

    /// The time until fewer than this many count.
    fn wait(&self, most: usize) -> Option<Duration> {
        let refused = self.count >= most && !self.is_expired();
        refused.then(|| WINDOW.saturating_sub(self.since.elapsed()))
    }

    fn add(&mut self) {
        if self.is_expired() {
            *self = Self::none();
        }
        self.count += 1;
    }
}

impl Attempts {
    /// The time that this user still has to wait at this address, if any.
    pub fn wait(&self, address: &str, user: &str) -> Option<Duration> {
        let counters = self.lock();
        let own = counters.users.get(&key(address, user))?;
        let all = counters.addresses.get(address);
        let of_all = all
            .and_then(|all| all.wait(ADDRESS_FAILURES_MAX))
            .filter(|_| !own.is_expired());
        own.wait(FAILURES_MAX).max(of_all)
    }

    /// Notes a failure.
    pub fn failed(&self, address: &str, user: &str) {
        let mut counters = self.lock();
        let own = entry(&mut counters.users, key(address, user));
        own.add();
        let limit_is_new = own.count == FAILURES_MAX;
        entry(&mut counters.addresses, address.to_owned()).add();
        if limit_is_new {
            tracing::warn!(
                address,
                user,
                "too many failed logins, the user has to wait at this address"
            );
        }
    }

    /// The users and addresses that have to wait, in the order of the addresses.
    pub fn waiting(&self) -> Vec<Waiting> {
        let counters = self.lock();
        let users = counters.users.iter().filter_map(|((address, user), own)| {
            Some(Waiting {
                address: address.clone(),
                user: Some(user.clone()),
                wait: own.wait(FAILURES_MAX)?,
            })
        });
        let addresses = counters.addresses.iter().filter_map(|(address, all)| {
            Some(Waiting {
                address: address.clone(),
                user: None,
                wait: all.wait(ADDRESS_FAILURES_MAX)?,
            })
        });
        let mut waiting: Vec<Waiting> = users.chain(addresses).collect();
        waiting.sort();
        waiting
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(address: &str, user: &str) -> (String, String) {
    (
        address.to_owned(),
        user.chars().take(USER_LENGTH_MAX).collect(),
    )
}

/// The failures under this key, in a map whose size is bounded.
fn entry<K: std::hash::Hash + Eq>(all: &mut HashMap<K, Failures>, key: K) -> &mut Failures {
    if all.len() >= ENTRIES_MAX && !all.contains_key(&key) {
        all.retain(|_, failures| !failures.is_expired());
        if all.len() >= ENTRIES_MAX {
            all.retain(|_, failures| failures.count > 1);
        }
        if all.len() >= ENTRIES_MAX {
            all.clear();
        }
    }
    all.entry(key).or_insert_with(Failures::none)
}

/// The key under which a peer's failures and connections are counted: its address without the port. Of
/// an IPv6 address it is the network of 64 bits, the least that a site gets (RFC 6177).
pub fn address_of(peer: &str) -> String {
    let Ok(address) = peer.parse::<SocketAddr>() else {
        return peer.to_owned();
    };
    match address.ip().to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn user_waits_after_too_many_failures_and_others_do_not() {
        let attempts = Attempts::default();
        for _ in 0..FAILURES_MAX {
            assert_eq!(attempts.wait("192.0.2.1", "alice"), None);
            attempts.failed("192.0.2.1", "alice");
        }
        assert_eq!(attempts.wait("192.0.2.1", "alice"), Some(WINDOW));
        assert_eq!(attempts.wait("192.0.2.1", "bob"), None);
        assert_eq!(attempts.wait("192.0.2.2", "alice"), None);
        tokio::time::advance(Duration::from_secs(20)).await;
        let rest = Duration::from_secs(40);
        assert_eq!(attempts.wait("192.0.2.1", "alice"), Some(rest));
        let waiting = Waiting {
            address: "192.0.2.1".to_owned(),
            user: Some("alice".to_owned()),
            wait: rest,
        };
        assert_eq!(attempts.waiting(), [waiting]);
        tokio::time::advance(rest).await;
        assert_eq!(attempts.wait("192.0.2.1", "alice"), None);
        assert_eq!(attempts.waiting(), []);
        attempts.failed("192.0.2.1", "alice");
        assert_eq!(attempts.wait("192.0.2.1", "alice"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_user_has_one_attempt_at_an_address_over_its_own_limit() {
        let attempts = Attempts::default();
        for number in 0..ADDRESS_FAILURES_MAX {
            attempts.failed("192.0.2.1", &format!("user{}", number % 50));
        }
        assert_eq!(attempts.wait("192.0.2.1", "user7"), Some(WINDOW));
        assert_eq!(attempts.wait("192.0.2.1", "alice"), None);
        assert_eq!(attempts.wait("192.0.2.2", "user7"), None);
        attempts.failed("192.0.2.1", "alice");
        assert_eq!(attempts.wait("192.0.2.1", "alice"), Some(WINDOW));
        let waiting = attempts.waiting();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].user, None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(attempts.wait("192.0.2.1", "alice"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_addresses_and_users_takes_bounded_memory() {
        let attempts = Attempts::default();
        for _ in 0..FAILURES_MAX {
            attempts.failed("192.0.2.1", "alice");
        }
        for number in 0..2 * ENTRIES_MAX {
            attempts.failed(&number.to_string(), "alice");
            attempts.failed("192.0.2.1", &number.to_string());
            let counters = attempts.lock();
            assert!(counters.users.len() <= ENTRIES_MAX);
            assert!(counters.addresses.len() <= ENTRIES_MAX);
        }
        // Failures of unknown names do not evict a failure of a known one.
        assert_eq!(attempts.wait("192.0.2.1", "alice"), Some(WINDOW));
    }

    #[test]
    fn peer_is_counted_by_its_address_without_the_port() {
        assert_eq!(address_of("192.0.2.1:5432"), "192.0.2.1");
        assert_eq!(address_of("[2001:db8::1]:5432"), "2001:db8::/64");
        assert_eq!(address_of("[2001:db8::ffff:0:0:2]:1"), "2001:db8::/64");
        assert_eq!(address_of("[::ffff:192.0.2.1]:5432"), "192.0.2.1");
        assert_eq!(address_of("unix:uid=1000"), "unix:uid=1000");
    }
}
