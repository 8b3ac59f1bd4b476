//! One end of a session: a TCP socket, a Unix socket, or TLS over TCP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::stream::Stream;
use super::tls::{self, Binding, Secured, SslNegotiation, TlsServer};
use crate::endpoint::connect_unix;
use crate::ports::Endpoint;

/// The silence of a peer before the first keepalive probe.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// The time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The number of unanswered probes after which the connection is closed.
const KEEPALIVE_RETRIES: u32 = 6;

/// A connected stream socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(Stream),
    /// Over a Unix socket.
    Unix(Stream),
    /// TLS over TCP; boxed, since it is large.
    Tls(Box<Secured>),
    /// During the TLS handshake, and after one that failed: neither readable nor writable.
    Handshaking,
}

/// A socket that is not yet registered with a reactor, so that it can be moved to another thread.
#[derive(Debug)]
pub enum DetachedSocket {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl DetachedSocket {
    /// Registers the socket with this thread's reactor and sets its options.
    pub fn attach(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(socket) => Ok(Socket::Tcp(tcp_stream(socket)?)),
            Self::Unix(socket) => Ok(Socket::Unix(Stream::new(socket.into())?)),
        }
    }
}

/// Registers a socket over TCP. Without a delay, since whole messages are written.
fn tcp_stream(socket: std::net::TcpStream) -> io::Result<Stream> {
    let socket = socket2::Socket::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    Stream::new(socket)
}

impl Socket {
    /// Connects to a Postgres.
    pub async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Unix(path) => {
                let socket = connect_unix(path).await?.into_std()?;
                Ok(Self::Unix(Stream::new(socket.into())?))
            }
            Endpoint::Tcp(address) => {
                let socket = TcpStream::connect(address).await?.into_std()?;
                Ok(Self::Tcp(tcp_stream(socket)?))
            }
        }
    }
}

impl Socket {
    /// Whether TLS is possible. Not on a Unix socket, whose bytes never leave the machine: Postgres refuses
    /// it there, too.
    pub(super) fn supports_tls(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// The TLS version in use.
    pub(super) fn tls_version(&self) -> Option<&'static str> {
        match self {
            Self::Tls(secured) => tls::version(secured),
            Self::Tcp(_) | Self::Unix(_) | Self::Handshaking => None,
        }
    }

    /// Performs the TLS handshake, of which `read_ahead` was read already. If it fails or is cancelled,
    /// nothing more can be sent to the client.
    pub(super) async fn start_tls(
        &mut self,
        read_ahead: BytesMut,
        server: &TlsServer,
        negotiation: SslNegotiation,
    ) -> io::Result<Binding> {
        let plain = match std::mem::replace(self, Self::Handshaking) {
            Self::Tcp(socket) => socket,
            other => {
                *self = other;
                return Err(not_connected());
            }
        };
        let (secured, binding) = tls::accept(plain, read_ahead, server, negotiation).await?;
        *self = Self::Tls(Box::new(secured));
        Ok(binding)
    }
}

fn not_connected() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the TLS handshake is not complete",
    )
}

/// Takes a connection that was closed without a `close_notify` for closed, as Postgres does. Most programs
/// close it like this when they are killed.
fn allow_missing_close_notify(read: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
    match read {
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Poll::Ready(Ok(()))
        }
        other => other,
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) | Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => allow_missing_close_notify(Pin::new(socket).poll_read(cx, buf)),
            Self::Handshaking => Poll::Ready(Err(not_connected())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) | Self::Unix(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Handshaking => Poll::Ready(Err(not_connected())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
            // Written to the kernel at once.
            Self::Tcp(_) | Self::Unix(_) | Self::Handshaking => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) | Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Handshaking => Poll::Ready(Err(not_connected())),
        }
    }
}
