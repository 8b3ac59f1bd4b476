//! The relay: copies a session's bytes both ways, unread, until one side closes.
//!
//! One future polls both directions. A direction's buffer follows the traffic, from 1 to 16 to
//! 256 KiB, and only the smallest outlives the bytes that are in it. What cannot be
//! written is not read on, so a slow reader slows its sender and nothing else.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_util::io::poll_read_buf;

use super::error::TerminationReason;
use super::meter::Meter;
use crate::client_error::ClientError;
use crate::wire::{Tail, encode_terminate};

/// The sizes of a direction's buffer. A chunk that fills it makes the next one larger; one that
/// fills less than a quarter makes it smaller.
const BUFFER_BYTES: [usize; 3] = [1 << 10, 16 << 10, 256 << 10];

/// How long the last word may take to a client that does not read.
pub(super) const GOODBYE_PATIENCE: Duration = Duration::from_secs(5);

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client or the backend closed it.
    Closed,
    /// We ended it, by request of its actor.
    Ended,
}

/// How a session's actor reaches its relay. Both live on one thread.
#[derive(Debug, Default)]
pub struct RelayControl {
    request: RefCell<Option<EndRequest>>,
    changed: Notify,
}

/// A request to end the session with an error of multidb, which the client can only read between two
/// messages of the backend: so it is granted only if nothing was said since the decision.
#[derive(Debug)]
pub struct EndRequest {
    /// The reason, which the client is told.
    pub reason: TerminationReason,
    /// [`Meter::chunks`] when the decision was made.
    pub chunks: u64,
}

impl RelayControl {
    /// Asks for the end of the session.
    pub fn request(&self, request: EndRequest) {
        self.request.replace(Some(request));
        self.changed.notify_one();
    }

    /// The reason to end for, if there is a request and it is still valid.
    fn granted(&self, meter: &Meter, nothing_pending: bool) -> Option<TerminationReason> {
        let EndRequest { reason, chunks } = self.request.take()?;
        (nothing_pending && meter.chunks() == chunks).then_some(reason)
    }
}

/// One direction of the copy.
#[derive(Debug, Default)]
struct Direction {
    buffer: BytesMut,
    size: usize,
    ended: bool,
}

impl Direction {
    /// Copies until one side makes it wait; ready when `from` has closed and all is written.
    fn poll_copy<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        mut passed: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            while self.buffer.has_remaining() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.buffer.advance(written);
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Ready(Ok(()));
            }
            let room = BUFFER_BYTES[self.size];
            self.buffer.reserve(room);
            let read = poll_read_buf(Pin::new(&mut *from), cx, &mut self.buffer);
            let Poll::Ready(read) = read else {
                if self.buffer.capacity() > BUFFER_BYTES[0] {
                    self.buffer = BytesMut::new();
                }
                // TLS streams buffer what they were given.
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Pending;
            };
            let read = read?;
            self.ended = read == 0;
            if !self.ended {
                passed(&self.buffer);
                self.resize(read, room);
            }
        }
    }

    fn resize(&mut self, read: usize, room: usize) {
        if read >= room {
            self.size = (self.size + 1).min(BUFFER_BYTES.len() - 1);
        } else if read < room / 4 {
            self.size = self.size.saturating_sub(1);
        }
    }
}

/// Copies both ways until the session ends.
///
/// A client that only closes its sending side, as some do after their last query, still gets its
/// answer: the backend is told and the other direction goes on.
///
/// # Errors
///
/// A socket failed, which mostly means that its peer has gone.
pub async fn relay<C, B>(
    client: &mut C,
    backend: &mut B,
    meter: &Meter,
    mut tail: Tail,
    control: Rc<RelayControl>,
) -> io::Result<End>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut upstream = Direction::default();
    let mut downstream = Direction::default();
    let mut client_closed = false;
    loop {
        let reason = {
            let changed = control.changed.notified();
            tokio::pin!(changed);
            poll_fn(|cx| {
                if !client_closed {
                    let passed = |chunk: &[u8]| meter.client_sent(chunk.len());
                    if let Poll::Ready(done) = upstream.poll_copy(cx, client, backend, passed) {
                        done?;
                        client_closed = true;
                        return Poll::Ready(Ok(None));
                    }
                }
                let passed = |chunk: &[u8]| {
                    tail.feed(chunk);
                    meter.note_answer(chunk);
                    meter.backend_sent(chunk.len(), &tail);
                };
                if downstream
                    .poll_copy(cx, backend, client, passed)?
                    .is_ready()
                {
                    return Poll::Ready(Ok(Some(None)));
                }
                let pending = upstream.buffer.has_remaining() || downstream.buffer.has_remaining();
                if let Some(reason) = control.granted(meter, !pending) {
                    return Poll::Ready(Ok(Some(Some(reason))));
                }
                // Only to be woken by a request.
                if changed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(None));
                }
                Poll::Pending::<io::Result<Option<Option<TerminationReason>>>>
            })
            .await?
        };
        match reason {
            None if client_closed => backend.shutdown().await?,
            None => {}
            Some(None) => {
                // TLS has a last word of its own, without which libpq tells of a broken connection.
                let ended = tokio::time::timeout(GOODBYE_PATIENCE, client.shutdown()).await;
                return ended.unwrap_or(Ok(())).map(|()| End::Closed);
            }
            Some(Some(reason)) => {
                let error = ClientError::from(&reason);
                let goodbye = say_goodbye(client, backend, &error);
                // Without it, a client that does not read would never end.
                return match tokio::time::timeout(GOODBYE_PATIENCE, goodbye).await {
                    Ok(said) => said.map(|()| End::Ended),
                    Err(_) => Ok(End::Ended),
                };
            }
        }
    }
}

/// Tells the client why its session ends, and the backend that it has ended.
async fn say_goodbye<C, B>(client: &mut C, backend: &mut B, error: &ClientError) -> io::Result<()>
where
    C: AsyncWrite + Unpin,
    B: AsyncWrite + Unpin,
{
    let mut terminate = BytesMut::new();
    encode_terminate(&mut terminate);
    backend.write_all(&terminate).await?;
    let mut last_word = BytesMut::new();
    error.encode(&mut last_word);
    client.write_all(&last_word).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests;
