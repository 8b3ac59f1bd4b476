//! The open connections, of which no address can hold all: at the limit a new one has the oldest closed of the address
//! that has most of them, and an unauthenticated one before an authenticated one.
//!
//! It does for HTTP the work of [`AdmissionControl`](multidb_actors::connection::AdmissionControl) on the wire, where a
//! connection authenticates once; here each request does. actix-web accepts by itself, so a connection is known from
//! the end of its TLS handshake, which has a limit of its own, and is closed from outside, by its socket.

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::{Extensions, ServiceRequest};
use actix_web::rt::net::TcpStream;
use multidb_actors::auth::address_of;
use multidb_actors::by_address::ByAddress;
use rustix::net::Shutdown;

/// The most connections that are open at the same time, but for connections that are being closed, or are in their TLS
/// handshake.
const OPEN_MAX: usize = 768;

/// The open connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<ByAddress<Open>>>);

#[derive(Debug)]
struct Open {
    /// A duplicate, by which the connection is closed.
    socket: OwnedFd,
    /// Whether a user has authenticated on it.
    authenticated: bool,
}

/// One connection, which is open until this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    all: Connections,
    address: Arc<str>,
    number: u64,
}

impl Connections {
    /// Notes a connection as it begins, also in the data that its requests share.
    pub(super) fn begin(&self, io: &dyn Any, known: &mut Extensions) {
        let tls = io.downcast_ref::<TlsStream<TcpStream>>();
        let stream = tls.map(|stream| stream.get_ref().0);
        let Some(stream) = stream.or_else(|| io.downcast_ref()) else {
            tracing::error!("a connection over neither TCP nor TLS");
            return;
        };
        let peer = stream.peer_addr().map(|peer| peer.to_string());
        match stream.as_fd().try_clone_to_owned() {
            Ok(socket) => {
                known.insert(self.add(&address_of(&peer.unwrap_or_default()), socket));
            }
            // Without a descriptor it could not be closed later.
            Err(_) => close(stream),
        }
    }

    fn add(&self, address: &str, socket: OwnedFd) -> Connection {
        let mut table = self.lock();
        if table.count() >= OPEN_MAX {
            close_one(&mut table);
        }
        let address: Arc<str> = address.into();
        let open = Open {
            socket,
            authenticated: false,
        };
        let number = table.add(&address, open);
        Connection {
            all: self.clone(),
            address,
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, ByAddress<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close_one(table: &mut ByAddress<Open>) {
    if let Some(evicted) = table.evict(|open| open.authenticated) {
        close(&evicted.connection.socket);
        if let Some(connections) = evicted.warn_of {
            tracing::warn!(
                connections,
                address = &*evicted.address,
                "too many connections to the API and the web page, the oldest of the address with most are closed"
            );
        }
    }
}

fn close(socket: impl AsFd) {
    // The error of a socket that is closed already does not matter.
    let _closed = rustix::net::shutdown(socket, Shutdown::Both);
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().remove(&self.address, self.number);
    }
}

/// Notes that a user has authenticated on the connection of this request.
pub(crate) fn authenticated(request: &ServiceRequest) {
    if let Some(connection) = request.request().conn_data::<Connection>() {
        let mut table = connection.all.lock();
        if let Some(open) = table.get_mut(&connection.address, connection.number) {
            open.authenticated = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn open(connections: &Connections, address: &str) -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (connections.add(address, ours.into()), theirs)
    }

    fn is_closed((_, theirs): &(Connection, UnixStream)) -> bool {
        matches!((&mut &*theirs).read(&mut [0]), Ok(0))
    }

    #[tokio::test]
    async fn new_connection_closes_the_oldest_of_the_address_with_most() {
        let connections = Connections::default();
        let other = open(&connections, "192.0.2.2");
        let mut flood: Vec<_> = (1..OPEN_MAX)
            .map(|_| open(&connections, "192.0.2.1"))
            .collect();
        assert!(!flood.iter().any(is_closed));
        let number = flood[0].0.number;
        let mut table = connections.lock();
        let first = table.get_mut("192.0.2.1", number).unwrap();
        first.authenticated = true;
        drop(table);
        let third = open(&connections, "192.0.2.3");
        assert!(is_closed(&flood[1]));
        assert!(!is_closed(&flood[0]) && !is_closed(&other) && !is_closed(&third));
        // A connection that ends by itself makes room, and a closed one is not counted again.
        drop(flood.swap_remove(1));
        drop(flood.pop());
        assert_eq!(connections.lock().count(), OPEN_MAX - 1);
        drop((flood, other, third));
        assert_eq!(connections.lock().count(), 0);
    }

    #[tokio::test]
    async fn authenticated_connections_of_one_address_do_not_hold_everything_either() {
        let connections = Connections::default();
        let all: Vec<_> = (0..OPEN_MAX)
            .map(|_| open(&connections, "192.0.2.1"))
            .collect();
        for (connection, _) in &all {
            let mut table = connections.lock();
            let open = table.get_mut("192.0.2.1", connection.number);
            open.unwrap().authenticated = true;
        }
        let other = open(&connections, "192.0.2.2");
        assert!(is_closed(&all[0]) && !is_closed(&all[1]) && !is_closed(&other));
    }
}
