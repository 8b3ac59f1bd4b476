//! The listeners, bound here or handed over by systemd: accepts connections and gives each socket to a ConnectionActor on one of the arbiters.
//!
//! Each connection needs a permit of the
//! [admission control](multidb_actors::connection::AdmissionControl) first, so that a flood costs
//! neither memory nor the open sessions.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use anyhow::Context as _;
use multidb_actors::auth::address_of;
use multidb_actors::connection::{ConnectionActor, ConnectionDeps, DetachedSocket};
use multidb_actors::sessions::ConnectionId;
use tokio::net::{TcpListener, UnixListener};

use crate::config::ListenAddress;
use crate::fsutil::socket;
use crate::handed_over::{HandedListener, HandedOver};

/// The delay before the next attempt when the process has no file descriptor left for a connection.
const EXHAUSTED_DELAY: Duration = Duration::from_millis(50);
/// The length of the listen backlog, in connections.
const BACKLOG: u32 = 1024;
/// The mode of Postgres' own socket. Authentication decides about access.
const SOCKET_MODE: u32 = 0o777;

/// All listeners, bound.
pub struct Proxy {
    listeners: Vec<Listener>,
    sockets: Vec<UnixSocketFile>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Starts the actors of accepted connections.
pub struct Acceptors {
    arbiters: Vec<ArbiterHandle>,
    deps: ConnectionDeps,
    next: AtomicU64,
}

/// Removes the socket's file when the listener is dropped.
struct UnixSocketFile(PathBuf);

impl Drop for UnixSocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "socket was not removed");
        }
    }
}

impl Acceptors {
    /// Spreads connections over these arbiters.
    pub fn new(arbiters: Vec<ArbiterHandle>, deps: ConnectionDeps) -> Arc<Self> {
        Arc::new(Self {
            arbiters,
            deps,
            next: AtomicU64::new(1),
        })
    }

    async fn accept(&self, peer: Arc<str>, socket: DetachedSocket) {
        let permit = self.deps.admission.admit(&address_of(&peer)).await;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let deps = self.deps.clone();
        let Some(arbiter) = self.arbiters.get(id as usize % self.arbiters.len().max(1)) else {
            return;
        };
        let started = arbiter.spawn_fn(move || {
            ConnectionActor::launch(ConnectionId(id), peer, socket, permit, deps);
        });
        if !started {
            tracing::error!("an arbiter has ended, its connections are refused");
        }
    }
}

impl Proxy {
    /// Binds the addresses that systemd does not hand over. Must be called within the runtime that will serve them.
    ///
    /// # Errors
    ///
    /// An address cannot be bound.
    pub fn bind(addresses: &[ListenAddress], handed_over: &mut HandedOver) -> anyhow::Result<Self> {
        let mut proxy = Self {
            listeners: Vec::new(),
            sockets: Vec::new(),
        };
        for address in addresses {
            let listener = match (handed_over.listener(address), address) {
                (Some(listener), _) => adopt(listener),
                (None, ListenAddress::Tcp(address)) => bind_tcp(*address).map(Listener::Tcp),
                (None, ListenAddress::Unix(path)) => bind_unix(path).map(|listener| {
                    proxy.sockets.push(UnixSocketFile(path.clone()));
                    Listener::Unix(listener)
                }),
            };
            let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
            proxy.listeners.push(listener);
        }
        Ok(proxy)
    }

    /// Accepts until it is dropped.
    pub async fn serve(self, acceptors: Arc<Acceptors>) {
        let Self { listeners, sockets } = self;
        let loops = listeners.into_iter().map(|listener| {
            let acceptors = acceptors.clone();
            async move {
                match listener {
                    Listener::Tcp(listener) => accept_tcp(listener, &acceptors).await,
                    Listener::Unix(listener) => accept_unix(listener, &acceptors).await,
                }
            }
        });
        futures_util::future::join_all(loops).await;
        drop(sockets);
    }
}

async fn accept_tcp(listener: TcpListener, acceptors: &Acceptors) {
    loop {
        let accepted = match listener.accept().await {
            Ok((socket, peer)) => socket.into_std().map(|socket| (socket, peer)),
            Err(error) => Err(error),
        };
        match accepted {
            Ok((socket, peer)) => {
                let socket = DetachedSocket::Tcp(socket);
                acceptors.accept(peer.to_string().into(), socket).await;
            }
            Err(error) => delay_after(&error).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, acceptors: &Acceptors) {
    loop {
        let accepted = match listener.accept().await {
            Ok((socket, _)) => {
                let peer = socket.peer_cred().map_or_else(
                    |_| "unix".to_owned(),
                    |peer| format!("unix:uid={}", peer.uid()),
                );
                socket.into_std().map(|socket| (socket, peer))
            }
            Err(error) => Err(error),
        };
        match accepted {
            Ok((socket, peer)) => {
                let socket = DetachedSocket::Unix(socket);
                acceptors.accept(peer.into(), socket).await;
            }
            Err(error) => delay_after(&error).await,
        }
    }
}

/// Waits after a lack of descriptors, which passes when sessions end. A connection that its client has
/// aborted needs no delay.
async fn delay_after(error: &io::Error) {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    tracing::error!(%error, "a connection was not accepted; if this persists, raise the limit of open files");
    tokio::time::sleep(EXHAUSTED_DELAY).await;
}

fn adopt(listener: HandedListener) -> io::Result<Listener> {
    match listener {
        HandedListener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(Listener::Tcp)
        }
        HandedListener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener).map(Listener::Unix)
        }
    }
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        std::net::SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        std::net::SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = socket::listen(path, SOCKET_MODE)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
