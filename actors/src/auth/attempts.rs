//! The failed logins of each address. Guessing a password takes many attempts, so after some failures
//! an address has to wait.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The failures of one address within [`WINDOW`] after which it is refused.
pub const FAILURES_MAX: usize = 20;
/// How long failures count, from the first of them.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The most addresses in memory. Beyond that, expired ones are dropped, then all: memory stays bounded
/// under a flood of addresses.
const ADDRESSES_MAX: usize = 10_000;

/// The failed attempts. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Attempts(Arc<Mutex<HashMap<String, Failures>>>);

/// The failures of one address.
#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Instant,
    count: usize,
}

impl Failures {
    fn is_expired(&self) -> bool {
        self.since.elapsed() >= WINDOW
    }
}

impl Attempts {
    /// The time that this address still has to wait, if any.
    pub fn wait(&self, address: &str) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.get(address)?;
        let refused = failures.count >= FAILURES_MAX && !failures.is_expired();
        refused.then(|| WINDOW.saturating_sub(failures.since.elapsed()))
    }

    /// Notes a failure.
    pub fn failed(&self, address: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES_MAX && !all.contains_key(address) {
            all.retain(|_, failures| !failures.is_expired());
            if all.len() >= ADDRESSES_MAX {
                all.clear();
            }
        }
        let fresh = Failures {
            since: Instant::now(),
            count: 0,
        };
        let failures = all.entry(address.to_owned()).or_insert(fresh);
        if failures.is_expired() {
            *failures = fresh;
        }
        failures.count += 1;
    }
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
    async fn address_waits_after_too_many_failures_and_others_do_not() {
        let attempts = Attempts::default();
        for _ in 0..FAILURES_MAX {
            assert_eq!(attempts.wait("192.0.2.1"), None);
            attempts.failed("192.0.2.1");
        }
        assert_eq!(attempts.wait("192.0.2.1"), Some(WINDOW));
        assert_eq!(attempts.wait("192.0.2.2"), None);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(attempts.wait("192.0.2.1"), Some(Duration::from_secs(40)));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(attempts.wait("192.0.2.1"), None);
        attempts.failed("192.0.2.1");
        assert_eq!(attempts.wait("192.0.2.1"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_addresses_takes_bounded_memory() {
        let attempts = Attempts::default();
        for number in 0..2 * ADDRESSES_MAX {
            attempts.failed(&number.to_string());
            assert!(attempts.0.lock().unwrap().len() <= ADDRESSES_MAX);
        }
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
