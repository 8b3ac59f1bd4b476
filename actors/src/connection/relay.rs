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
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::TerminationReason;
use crate::client_error::ClientError;
use crate::sessions::{PendingCancels, SessionStats};
use crate::wire::{Tail, TailState, encode_terminate};

/// The size of the buffer that a thread's sessions share, and so the most that one direction of a session
/// holds. It is more than a Unix socket has ready at once, 208 KiB by default.
const BUFFER_BYTES: usize = 256 << 10;

thread_local! {
    /// Used within one poll only. It is filled with zeros once, not before each read.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into());
}

/// The limit for the last messages and the shutdown of a connection, whose client may not read.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client or the backend closed it.
    Closed,
    /// The relay ended it by request of its actor.
    Ended(TerminationReason),
}

/// Connects a session's actor to its relay. Both run on one thread.
#[derive(Debug, Default)]
pub struct RelayControl {
    /// The cancel requests for the session, which hold back the client's next messages.
    pub cancels: Arc<PendingCancels>,
    request: RefCell<Option<EndRequest>>,
    /// The message to the client, sent as soon as its backend waits for it, or ends.
    explanation: RefCell<Option<TerminationReason>>,
    changed: Notify,
}

/// A request to end the session with an error of multidb. The client can read it only between two messages of
/// the backend, so the request is void if any byte has passed since the decision.
#[derive(Debug)]
pub struct EndRequest {
    /// The reason, which the client is told.
    pub reason: TerminationReason,
    /// [`SessionStats::chunks`] when the decision was made.
    pub chunks: u64,
}

impl RelayControl {
    /// Requests the end of the session.
    pub fn request(&self, request: EndRequest) {
        self.request.replace(Some(request));
        self.changed.notify_one();
    }

    /// Ends a session whose server stops in a moment, as soon as its backend's stream is between two messages: where
    /// the stream ends in ReadyForQuery, also while a query runs that has sent nothing yet, since its answer may be
    /// this error. Otherwise the client is told behind the last message of its backend.
    pub fn end_with_server(&self, reason: TerminationReason) {
        self.explanation.replace(Some(reason));
        self.changed.notify_one();
    }

    /// The reason to end the session now. A request is taken, and is void if anything has passed since.
    fn take_valid(
        &self,
        stats: &SessionStats,
        tail: &Tail,
        nothing_pending: bool,
    ) -> Option<TerminationReason> {
        let is_between_messages = nothing_pending && tail.state() != TailState::Unknown;
        if is_between_messages && let Some(reason) = self.explanation.borrow().clone() {
            return Some(reason);
        }
        let EndRequest { reason, chunks } = self.request.take()?;
        (nothing_pending && stats.chunks() == chunks).then_some(reason)
    }
}

/// The side that failed.
#[derive(Debug)]
enum CopyError {
    /// The side that is read.
    Read(io::Error),
    /// The side that is written to.
    Write(io::Error),
}

/// One direction of the copy.
#[derive(Debug, Default)]
struct Direction {
    /// The bytes that were read and could not be written at once.
    unwritten: BytesMut,
    ended: bool,
}

impl Direction {
    /// Copies until one side blocks; ready when `from` has closed and all is written. Says which side failed.
    fn poll_copy<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        mut passed: impl FnMut(&[u8]),
    ) -> Poll<Result<(), CopyError>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        use CopyError::{Read, Write};
        loop {
            while self.unwritten.has_remaining() {
                let written = ready!(poll_write_some(cx, to, &self.unwritten)).map_err(Write)?;
                self.unwritten.advance(written);
                if self.unwritten.is_empty() {
                    self.unwritten = BytesMut::new();
                }
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Write)?;
                return Poll::Ready(Ok(()));
            }
            let copied = BUFFER.with_borrow_mut(|buffer| {
                let mut chunk = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut chunk)).map_err(Read)?;
                let chunk = chunk.filled();
                if chunk.is_empty() {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
                passed(chunk);
                let written = match poll_write_some(cx, to, chunk) {
                    Poll::Ready(written) => written.map_err(Write)?,
                    Poll::Pending => 0,
                };
                self.unwritten.extend_from_slice(&chunk[written..]);
                Poll::Ready(Ok(()))
            });
            if copied.is_pending() {
                // A TLS stream has a buffer of its own.
                ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Write)?;
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

/// Why the copying stopped.
enum Interruption {
    /// The client has closed its sending side.
    ClientClosed,
    /// The backend reads no more. Bytes that it has sent, such as its last error, are still to be copied.
    BackendStoppedReading,
    /// The backend has closed, and the client has all of its bytes.
    BackendClosed,
    /// The actor has requested the end. It is to be looked at again.
    EndRequested,
    /// The request is valid.
    EndGranted(TerminationReason),
}

/// Copies both ways until the session ends.
///
/// A client that only closes its sending side, as some do after their last query, still gets its
/// answer: the backend's side is closed likewise, and the other direction continues.
///
/// While a cancel request for the session is on its way, nothing more of its client's reaches the backend.
///
/// A backend that reads no more, as after `pg_terminate_backend`, may have sent its last error, which its
/// client still gets.
///
/// # Errors
///
/// The client's socket failed, mostly since it has disconnected.
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
    let mut is_upstream_open = true;
    // Set once the backend reads no more: its end is near, or it hangs.
    let mut last_bytes_until: Option<Instant> = None;
    loop {
        let interruption = {
            let changed = control.changed.notified();
            tokio::pin!(changed);
            let interrupted = poll_fn(|cx| {
                if is_upstream_open && control.cancels.poll_none(cx).is_ready() {
                    let passed = |chunk: &[u8]| stats.client_sent(chunk.len());
                    let copied = upstream.poll_copy(cx, client, backend, passed);
                    if let Poll::Ready(copied) = copied {
                        return Poll::Ready(upstream_ended(copied));
                    }
                }
                let passed = |chunk: &[u8]| {
                    tail.feed(chunk);
                    stats.note_answer(chunk);
                    stats.backend_sent(chunk.len(), &tail);
                };
                if let Poll::Ready(copied) = downstream.poll_copy(cx, backend, client, passed) {
                    return Poll::Ready(downstream_ended(copied));
                }
                let pending =
                    upstream.unwritten.has_remaining() || downstream.unwritten.has_remaining();
                if let Some(reason) = control.take_valid(stats, &tail, !pending) {
                    return Poll::Ready(Ok(Interruption::EndGranted(reason)));
                }
                changed
                    .as_mut()
                    .poll(cx)
                    .map(|()| Ok(Interruption::EndRequested))
            });
            match last_bytes_until {
                None => interrupted.await?,
                Some(deadline) => tokio::time::timeout_at(deadline, interrupted)
                    .await
                    .unwrap_or(Ok(Interruption::BackendClosed))?,
            }
        };
        match interruption {
            Interruption::ClientClosed => {
                is_upstream_open = false;
                if backend.shutdown().await.is_err() {
                    last_bytes_until = Some(Instant::now() + CLOSE_TIMEOUT);
                }
            }
            Interruption::BackendStoppedReading => {
                is_upstream_open = false;
                upstream = Direction::default();
                last_bytes_until = Some(Instant::now() + CLOSE_TIMEOUT);
            }
            Interruption::EndRequested => {}
            Interruption::BackendClosed => {
                explain(client, &control).await?;
                // Sends `close_notify` in TLS, without which libpq reports a broken connection.
                let closed = tokio::time::timeout(CLOSE_TIMEOUT, client.shutdown()).await;
                return closed.unwrap_or(Ok(())).map(|()| End::Closed);
            }
            Interruption::EndGranted(reason) => {
                let error = ClientError::from(&reason);
                let ended = end_session(client, backend, &error);
                let ended = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
                return ended.unwrap_or(Ok(())).map(|()| End::Ended(reason));
            }
        }
    }
}

fn upstream_ended(copied: Result<(), CopyError>) -> io::Result<Interruption> {
    match copied {
        Ok(()) => Ok(Interruption::ClientClosed),
        Err(CopyError::Read(error)) => Err(error),
        Err(CopyError::Write(_)) => Ok(Interruption::BackendStoppedReading),
    }
}

fn downstream_ended(copied: Result<(), CopyError>) -> io::Result<Interruption> {
    match copied {
        // A backend that ends with bytes unread resets its socket, after its last byte.
        Ok(()) | Err(CopyError::Read(_)) => Ok(Interruption::BackendClosed),
        Err(CopyError::Write(error)) => Err(error),
    }
}

/// Tells the client why its backend has ended the session, if there is more to it than the backend says.
async fn explain<C: AsyncWrite + Unpin>(client: &mut C, control: &RelayControl) -> io::Result<()> {
    let Some(reason) = control.explanation.take() else {
        return Ok(());
    };
    let mut message = BytesMut::new();
    ClientError::from(&reason).encode(&mut message);
    let told = tokio::time::timeout(CLOSE_TIMEOUT, client.write_all(&message));
    told.await.unwrap_or(Ok(()))
}

/// Sends Terminate to the backend and the error to the client.
async fn end_session<C, B>(client: &mut C, backend: &mut B, error: &ClientError) -> io::Result<()>
where
    C: AsyncWrite + Unpin,
    B: AsyncWrite + Unpin,
{
    let mut terminate = BytesMut::new();
    encode_terminate(&mut terminate);
    backend.write_all(&terminate).await?;
    let mut message = BytesMut::new();
    error.encode(&mut message);
    client.write_all(&message).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests;
