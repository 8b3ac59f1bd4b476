//! A stream socket that is registered for writing only while a write would block.
//!
//! tokio registers its own streams for reading and writing at once. A Unix socket reports that it is
//! writable each time its peer has read, so a session over one woke its thread once more for each message.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected stream socket, registered with the reactor of its thread.
#[derive(Debug)]
pub struct Stream {
    /// `None` once a registration has failed, which closed the socket.
    registered: Option<AsyncFd<Socket>>,
    /// Whether the registration is for writing, too.
    write_blocked: bool,
    /// The task that waits for input. A new registration does not know it.
    reader: Option<Waker>,
}

impl Stream {
    /// Registers a connected socket.
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            registered: Some(register(socket, Interest::READABLE)?),
            write_blocked: false,
            reader: None,
        })
    }

    fn registered(&self) -> io::Result<&AsyncFd<Socket>> {
        self.registered.as_ref().ok_or_else(unregistered)
    }

    /// Registers the socket anew, which needs no second descriptor. The kernel reports the state of a
    /// newly registered socket, so no event is lost.
    fn set_write_blocked(&mut self, write_blocked: bool) -> io::Result<()> {
        let interest = if write_blocked {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        let socket = self.registered.take().ok_or_else(unregistered)?;
        self.registered = Some(register(socket.into_inner(), interest)?);
        self.write_blocked = write_blocked;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    /// Sends `length` bytes or fewer. Fewer mean that the socket's buffer is full.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        send: impl Fn(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let registered = self.registered()?;
            let ready = if self.write_blocked {
                Some(ready!(registered.poll_write_ready(cx))?)
            } else {
                None
            };
            let sent = send(registered.get_ref());
            let full = match &sent {
                Ok(sent) => *sent < length,
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            };
            match ready {
                Some(mut ready) if full => ready.clear_ready(),
                None if !full => {}
                Some(_) | None => self.set_write_blocked(full)?,
            }
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "the successor is unsafe, for types that may close their descriptor; a Socket keeps it open"
)]
fn register(socket: Socket, interest: Interest) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, interest)
}

fn unregistered() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the socket could not be registered with the reactor",
    )
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let registered = this.registered.as_ref().ok_or_else(unregistered)?;
        loop {
            let Poll::Ready(ready) = registered.poll_read_ready(cx) else {
                match &mut this.reader {
                    Some(reader) => reader.clone_from(cx.waker()),
                    None => this.reader = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            };
            let mut ready = ready?;
            let unfilled = buf.initialize_unfilled();
            match registered.get_ref().read(unfilled) {
                Ok(length) => {
                    // A short read has emptied the socket, and more bytes are a new event: the next read
                    // would only be told that there are none.
                    if 0 < length && length < unfilled.len() {
                        ready.clear_ready();
                    }
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_send(cx, buf.len(), |mut socket| socket.write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.get_mut()
            .poll_send(cx, length, |mut socket| socket.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A socket has no buffer on this side of the kernel.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.registered()?.get_ref().shutdown(Shutdown::Write);
        Poll::Ready(match ended {
            // The peer has closed the connection already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            ended => ended,
        })
    }
}

#[cfg(test)]
mod tests;
