//! Which addresses have failed to log in too often: guessing a password takes many attempts, so after
//! some failures an address has to wait.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The failures of one address within [`WINDOW`] after which it is refused.
pub const FAILURES_MAX: usize = 20;
/// For how long a failure counts.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The addresses that are remembered. Beyond that those whose window is over are forgotten, then any:
/// the memory of a daemon is worth more than that of a flood.
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
    fn is_over(&self) -> bool {
        self.since.elapsed() >= WINDOW
    }
}

impl Attempts {
    /// For how long this address still has to wait, if it has to.
    pub fn wait(&self, address: &str) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.get(address)?;
        let refused = failures.count >= FAILURES_MAX && !failures.is_over();
        refused.then(|| WINDOW.saturating_sub(failures.since.elapsed()))
    }

    /// Notes a failure.
    pub fn failed(&self, address: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES_MAX && !all.contains_key(address) {
            all.retain(|_, failures| !failures.is_over());
            if all.len() >= ADDRESSES_MAX {
                all.clear();
            }
        }
        let fresh = Failures {
            since: Instant::now(),
            count: 0,
        };
        let failures = all.entry(address.to_owned()).or_insert(fresh);
        if failures.is_over() {
            *failures = fresh;
        }
        failures.count += 1;
    }
}

/// Whose failures and connections are counted together: the address of a peer without its port; of an address
/// of IPv6 the network of 64 bits, which is the least that a host gets for itself (RFC 6177).
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
    async fn an_address_waits_after_too_many_failures_and_others_do_not() {
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
    async fn a_flood_of_addresses_takes_bounded_memory() {
        let attempts = Attempts::default();
        for number in 0..2 * ADDRESSES_MAX {
            attempts.failed(&number.to_string());
            assert!(attempts.0.lock().unwrap().len() <= ADDRESSES_MAX);
        }
    }

    #[test]
    fn a_peer_is_known_by_its_address_alone() {
        assert_eq!(address_of("192.0.2.1:5432"), "192.0.2.1");
        assert_eq!(address_of("[2001:db8::1]:5432"), "2001:db8::/64");
        assert_eq!(address_of("[2001:db8::ffff:0:0:2]:1"), "2001:db8::/64");
        assert_eq!(address_of("[::ffff:192.0.2.1]:5432"), "192.0.2.1");
        assert_eq!(address_of("unix:uid=1000"), "unix:uid=1000");
    }
}
