//! The relay: copies a session's bytes both ways, unread, until one side closes.
//!
//! One future polls both directions. Bytes are read into a buffer that all sessions of a thread share, and
//! only the bytes that could not be written at once are kept by the session. They hold back the next
//! read, so a slow reader slows its sender and nothing else.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;

use super::error::TerminationReason;
use crate::client_error::ClientError;
use crate::sessions::SessionStats;
use crate::wire::{Tail, encode_terminate};

/// The size of the buffer that a thread's sessions share, and so the most that one direction of a session
/// holds. It is more than a Unix socket has ready at once, 208 KiB by default.
const BUFFER_BYTES: usize = 256 << 10;

thread_local! {
    /// Used within one poll only. It is filled with zeros once, not before each read.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into());
}

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
    /// [`SessionStats::chunks`] when the decision was made.
    pub chunks: u64,
}

impl RelayControl {
    /// Asks for the end of the session.
    pub fn request(&self, request: EndRequest) {
        self.request.replace(Some(request));
        self.changed.notify_one();
    }

    /// The reason to end for, if there is a request and it is still valid.
    fn granted(&self, stats: &SessionStats, nothing_pending: bool) -> Option<TerminationReason> {
        let EndRequest { reason, chunks } = self.request.take()?;
        (nothing_pending && stats.chunks() == chunks).then_some(reason)
    }
}

/// One direction of the copy.
#[derive(Debug, Default)]
struct Direction {
    /// The bytes that were read and could not be written at once.
    unwritten: BytesMut,
    ended: bool,
}

impl Direction {
    /// Copies until one side blocks; ready when `from` has closed and all is written.
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
            while self.unwritten.has_remaining() {
                let written = ready!(poll_write_some(cx, to, &self.unwritten))?;
                self.unwritten.advance(written);
                if self.unwritten.is_empty() {
                    self.unwritten = BytesMut::new();
                }
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Ready(Ok(()));
            }
            let copied = BUFFER.with_borrow_mut(|buffer| {
                let mut chunk = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut chunk))?;
                let chunk = chunk.filled();
                if chunk.is_empty() {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
                passed(chunk);
                let written = match poll_write_some(cx, to, chunk) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => 0,
                };
                self.unwritten.extend_from_slice(&chunk[written..]);
                Poll::Ready(io::Result::Ok(()))
            });
            if copied.is_pending() {
                // TLS streams buffer what they were given.
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
            }
            ready!(copied)?;
        }
    }
}

/// Writes at least one byte.
fn poll_write_some<T: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    to: &mut T,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let written = ready!(Pin::new(to).poll_write(cx, bytes))?;
    Poll::Ready(if written == 0 {
        Err(io::ErrorKind::WriteZero.into())
    } else {
        Ok(written)
    })
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
    stats: &SessionStats,
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
                    let passed = |chunk: &[u8]| stats.client_sent(chunk.len());
                    if let Poll::Ready(done) = upstream.poll_copy(cx, client, backend, passed) {
                        done?;
                        client_closed = true;
                        return Poll::Ready(Ok(None));
                    }
                }
                let passed = |chunk: &[u8]| {
                    tail.feed(chunk);
                    stats.note_answer(chunk);
                    stats.backend_sent(chunk.len(), &tail);
                };
                if downstream
                    .poll_copy(cx, backend, client, passed)?
                    .is_ready()
                {
                    return Poll::Ready(Ok(Some(None)));
                }
                let pending =
                    upstream.unwritten.has_remaining() || downstream.unwritten.has_remaining();
                if let Some(reason) = control.granted(stats, !pending) {
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
