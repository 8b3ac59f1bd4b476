//! Listening sockets that systemd hands over, as in sd_listen_fds(3): its unit `multidb.socket` holds them, so that clients
//! wait in the listen backlog while no daemon runs.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::config::ListenAddress;

/// The sockets that no listener has taken.
#[derive(Debug, Default)]
pub struct HandedOver(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    address: ListenAddress,
    listener: HandedListener,
}

/// A listening socket of systemd. Its address, and a Unix socket's file, stay when it is closed here.
#[derive(Debug)]
pub(crate) enum HandedListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl HandedOver {
    /// Takes the sockets that the process was started with; none at the second call. Programs that are started
    /// afterwards do not inherit them.
    ///
    /// # Errors
    ///
    /// One of them does not listen, or systemd's environment variables are malformed.
    pub fn take() -> anyhow::Result<Self> {
        static IS_TAKEN: AtomicBool = AtomicBool::new(false);
        if IS_TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let descriptors = sd_notify::listen_fds().context("cannot take the sockets of systemd")?;
        // SAFETY: systemd opened them for this process alone, and they are taken once.
        let owned = descriptors.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        // All become owned before one is refused.
        Self::of(owned.collect())
    }

    fn of(descriptors: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let sockets = descriptors.into_iter().map(Socket::new);
        Ok(Self(sockets.collect::<Result<_, _>>()?))
    }

    /// The socket with this address.
    pub(crate) fn listener(&mut self, address: &ListenAddress) -> Option<HandedListener> {
        let index = self
            .0
            .iter()
            .position(|socket| socket.address == *address)?;
        tracing::info!(%address, "systemd hands over this listener");
        Some(self.0.swap_remove(index).listener)
    }

    /// The socket with this address of TCP.
    pub(crate) fn tcp_listener(&mut self, address: SocketAddr) -> Option<TcpListener> {
        match self.listener(&ListenAddress::Tcp(address))? {
            HandedListener::Tcp(listener) => Some(listener),
            HandedListener::Unix(_) => None,
        }
    }

    /// Refuses a socket that no listener has taken: `listen` decides which clients may connect without a
    /// password, and clients of this socket would wait for ever.
    pub(crate) fn refuse_others(&self) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        bail!(
            "systemd hands over {self}, which no `listen` names\n\
             hint: `listen` in the configuration, or `listen` of `[http]`, and ListenStream= in multidb.socket have to name \
             the same addresses; \
             `systemctl edit --full multidb.socket` changes the latter"
        )
    }
}

impl fmt::Display for HandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.0.iter().map(|socket| socket.address.to_string());
        f.write_str(&addresses.collect::<Vec<_>>().join(", "))
    }
}

impl Socket {
    fn new(descriptor: OwnedFd) -> anyhow::Result<Self> {
        let is_stream =
            sockopt::socket_type(&descriptor).is_ok_and(|kind| kind == SocketType::STREAM);
        if !is_stream || !sockopt::socket_acceptconn(&descriptor).unwrap_or(false) {
            bail!(
                "systemd hands over something that is no listening stream socket\n\
                 hint: in multidb.socket write ListenStream=, without Accept=yes"
            );
        }
        if sockopt::socket_domain(&descriptor)? == AddressFamily::UNIX {
            let listener = UnixListener::from(descriptor);
            let address = listener.local_addr()?;
            let path = address
                .as_pathname()
                .context("systemd hands over a Unix socket without a path")?;
            return Ok(Self {
                address: ListenAddress::Unix(path.to_owned()),
                listener: HandedListener::Unix(listener),
            });
        }
        let listener = TcpListener::from(descriptor);
        let address = listener
            .local_addr()
            .context("systemd hands over a socket that is neither TCP's nor a Unix socket")?;
        Ok(Self {
            address: ListenAddress::Tcp(address),
            listener: HandedListener::Tcp(listener),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn sockets_are_taken_by_their_addresses_and_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(tcp.local_addr().unwrap());
        let unix = UnixListener::bind(&path).unwrap();
        let mut handed = HandedOver::of(vec![tcp.into(), unix.into()]).unwrap();
        let taken = handed.listener(&ListenAddress::Unix(path));
        assert!(matches!(taken, Some(HandedListener::Unix(_))), "{taken:?}");
        let error = handed.refuse_others().unwrap_err().to_string();
        assert!(
            error.contains(&format!("{address}, which no `listen`")),
            "{error}"
        );
        let taken = handed.listener(&address);
        assert!(matches!(taken, Some(HandedListener::Tcp(_))), "{taken:?}");
        assert!(handed.listener(&address).is_none());
        handed.refuse_others().unwrap();
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = tempfile::tempfile().unwrap();
        for descriptor in [connected.into(), datagrams.into(), file.into()] {
            let error = HandedOver::of(vec![descriptor]).unwrap_err().to_string();
            assert!(error.contains("no listening stream socket"), "{error}");
        }
    }
}
