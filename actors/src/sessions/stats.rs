//! The statistics of a session: bytes, times, and the state that the backend reported last.
//!
//! Written by the relay, read by the session's actor and by `multidb connection ls`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::{Tail, TailState};

/// CommandComplete of the statements that begin or end listening.
const LISTEN: &[u8] = b"C\0\0\0\x0bLISTEN\0";
const UNLISTEN: &[u8] = b"C\0\0\0\x0dUNLISTEN\0";
const DISCARD_ALL: &[u8] = b"C\0\0\0\x10DISCARD ALL\0";
/// The longest chunk that is searched for the answers above.
const ANSWER_BYTES_MAX: usize = 256;

/// The statistics of one session, shared between its relay and its readers.
#[derive(Debug)]
pub struct SessionStats {
    opened: Instant,
    /// Grows with each chunk, in either direction.
    chunks: AtomicU64,
    /// When the last chunk passed, in milliseconds since `opened`.
    last_chunk_ms: AtomicU64,
    from_client_bytes: AtomicU64,
    from_backend_bytes: AtomicU64,
    /// A [`SessionState`].
    state: AtomicU8,
    /// Whether the client has executed LISTEN, as far as the backend's short answers tell.
    listens: AtomicBool,
    /// Whether the backend reported nothing but listening since the client's last message.
    only_listens: AtomicBool,
}

/// The state of a session, derived from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// The client sent a message that the backend has not answered with ReadyForQuery; or the state is
    /// unknown.
    Active,
    /// The backend waits for its client, outside any transaction.
    Idle,
    /// The backend waits for its client, in a transaction.
    IdleInTransaction,
}

impl SessionState {
    const ALL: [Self; 3] = [Self::Active, Self::Idle, Self::IdleInTransaction];

    /// The name, as `pg_stat_activity` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle in transaction",
        }
    }
}

impl Default for SessionStats {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            chunks: AtomicU64::new(0),
            last_chunk_ms: AtomicU64::new(0),
            from_client_bytes: AtomicU64::new(0),
            from_backend_bytes: AtomicU64::new(0),
            state: AtomicU8::new(SessionState::Active as u8),
            listens: AtomicBool::new(false),
            only_listens: AtomicBool::new(false),
        }
    }
}

impl SessionStats {
    /// Counts a chunk from the client.
    pub(crate) fn client_sent(&self, bytes: usize) {
        self.from_client_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.only_listens.store(false, Ordering::Relaxed);
        self.set(SessionState::Active);
    }

    /// Searches a chunk from the backend for the answers to LISTEN, UNLISTEN and DISCARD ALL, which are
    /// short. A row that contains such bytes only keeps an idle session open for longer.
    pub(crate) fn note_answer(&self, chunk: &[u8]) {
        if chunk.len() > ANSWER_BYTES_MAX {
            return;
        }
        for start in memchr::memchr_iter(b'C', chunk) {
            let rest = chunk.get(start..).unwrap_or_default();
            if rest.starts_with(LISTEN) {
                self.listens.store(true, Ordering::Relaxed);
            } else if rest.starts_with(UNLISTEN) || rest.starts_with(DISCARD_ALL) {
                self.listens.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Records that the backend reported nothing but listening.
    pub(crate) fn note_only_listens(&self) {
        self.only_listens.store(true, Ordering::Relaxed);
    }

    /// Whether the session only waits for notifications, as its backend last reported.
    pub fn only_listens(&self) -> bool {
        self.only_listens.load(Ordering::Relaxed)
    }

    /// Whether the client has executed LISTEN, as far as is known.
    pub fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed) || self.only_listens()
    }

    /// The state's name in tables, which for an idle listener is `listening`.
    pub fn state_name(&self) -> &'static str {
        match self.state() {
            SessionState::Idle if self.listens() => "listening",
            state => state.name(),
        }
    }

    /// Counts a chunk from the backend, whose stream now ends with `tail`.
    pub(crate) fn backend_sent(&self, bytes: usize, tail: &Tail) {
        self.from_backend_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.set(match tail.state() {
            TailState::Idle => SessionState::Idle,
            TailState::InTransaction | TailState::Failed => SessionState::IdleInTransaction,
            TailState::Unknown => SessionState::Active,
        });
    }

    fn set(&self, state: SessionState) {
        let now = self.opened.elapsed().as_millis() as u64;
        self.last_chunk_ms.store(now, Ordering::Relaxed);
        self.state.store(state as u8, Ordering::Relaxed);
        self.chunks.fetch_add(1, Ordering::Release);
    }

    /// The state of the session.
    pub fn state(&self) -> SessionState {
        let state = self.state.load(Ordering::Relaxed);
        let known = SessionState::ALL.get(usize::from(state));
        known.copied().unwrap_or(SessionState::Active)
    }

    /// The number of chunks that passed in both directions. While it is unchanged, nothing has passed.
    pub fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Acquire)
    }

    /// The time since the last chunk.
    pub fn idle_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_chunk_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last)
    }

    /// The time since the session began.
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// The bytes that the client sent.
    pub fn from_client_bytes(&self) -> u64 {
        self.from_client_bytes.load(Ordering::Relaxed)
    }

    /// The bytes that the backend sent.
    pub fn from_backend_bytes(&self) -> u64 {
        self.from_backend_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_answers_begin_and_end_listening() {
        let stats = SessionStats::default();
        for (chunk, listens) in [
            (&b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"[..], false),
            (b"C\0\0\0\x0aBEGIN\0C\0\0\0\x0bLISTEN\0Z\0\0\0\x05T", true),
            (b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I", true),
            (b"C\0\0\0\x0dUNLISTEN\0Z\0\0\0\x05I", false),
            (
                b"1\0\0\0\x042\0\0\0\x04n\0\0\0\x04C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I",
                true,
            ),
            (b"C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05I", false),
            (&[b'C'; ANSWER_BYTES_MAX + 1], false),
        ] {
            stats.note_answer(chunk);
            assert_eq!(stats.listens(), listens, "{chunk:?}");
        }
    }
}
