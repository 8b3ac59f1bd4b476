//! One end of a session: a TCP or a Unix socket, or TLS over TCP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::stream::Stream;
use super::tls::{self, Beginning, Binding, Secured, TlsServer};
use crate::endpoint::connect_unix;
use crate::ports::Endpoint;

/// A peer that says nothing for this long is asked whether it is there,
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// then again after this long,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// and given up after so many questions.
const KEEPALIVE_RETRIES: u32 = 6;

/// A connected stream socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(Stream),
    /// Over a Unix socket.
    Unix(Stream),
    /// Over TCP in TLS; boxed, for it is large.
    Tls(Box<Secured>),
    /// Between the two: nothing can be read or written before TLS has begun, nor if it does not.
    Securing,
}

/// A socket that no arbiter has registered yet, to be moved to one.
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
    /// Whether this socket's bytes can be put into TLS. Those of a Unix socket leave the machine by no
    /// way, so Postgres refuses it there.
    pub(super) fn can_be_secured(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// The version of TLS that is in use.
    pub(super) fn tls_version(&self) -> Option<&'static str> {
        match self {
            Self::Tls(secured) => tls::version(secured),
            Self::Tcp(_) | Self::Unix(_) | Self::Securing => None,
        }
    }

    /// Goes over to TLS, after `read_ahead` of it was read. If that fails, or is given up, nothing more
    /// can be said to the client.
    pub(super) async fn secure(
        &mut self,
        read_ahead: BytesMut,
        server: &TlsServer,
        beginning: Beginning,
    ) -> io::Result<Binding> {
        let plain = match std::mem::replace(self, Self::Securing) {
            Self::Tcp(socket) => socket,
            other => {
                *self = other;
                return Err(not_connected());
            }
        };
        let (secured, binding) = tls::accept(plain, read_ahead, server, beginning).await?;
        *self = Self::Tls(Box::new(secured));
        Ok(binding)
    }
}

fn not_connected() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "TLS has not begun")
}

/// A client that closes its connection without a word in TLS has closed it: so do most programs when
/// they are killed, and Postgres minds no more.
fn closed_without_notice(read: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
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
            Self::Tls(socket) => closed_without_notice(Pin::new(socket).poll_read(cx, buf)),
            Self::Securing => Poll::Ready(Err(not_connected())),
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
            Self::Securing => Poll::Ready(Err(not_connected())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
            // Sockets have no buffer of their own.
            Self::Tcp(_) | Self::Unix(_) | Self::Securing => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) | Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Securing => Poll::Ready(Err(not_connected())),
        }
    }
}
