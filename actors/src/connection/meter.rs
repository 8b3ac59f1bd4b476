//! What is known of a session from the outside: bytes, times, and what the backend said last.
//!
//! Written by the relay, read by the session's actor and by `multidb connection ls`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::{Tail, TailState};

/// CommandComplete of these statements.
const LISTEN: &[u8] = b"C\0\0\0\x0bLISTEN\0";
const UNLISTEN: &[u8] = b"C\0\0\0\x0dUNLISTEN\0";
const DISCARD_ALL: &[u8] = b"C\0\0\0\x10DISCARD ALL\0";
/// The longest chunk that is searched for them.
const ANSWER_BYTES_MAX: usize = 256;

/// A session's meter.
#[derive(Debug)]
pub struct Meter {
    opened: Instant,
    /// Grows with each chunk, in either direction.
    chunks: AtomicU64,
    /// When the last chunk passed, in milliseconds since `opened`.
    last_chunk_ms: AtomicU64,
    from_client_bytes: AtomicU64,
    from_backend_bytes: AtomicU64,
    /// A [`SessionState`].
    state: AtomicU8,
    /// Whether the client has said LISTEN, as far as the backend's short answers tell.
    listens: AtomicBool,
    /// Whether it was found to do nothing but listen since the client last spoke.
    only_listens: AtomicBool,
}

/// What a session does, as far as its bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// The client said something that the backend has not ended with ReadyForQuery; or it cannot
    /// be told.
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

impl Default for Meter {
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

impl Meter {
    /// A chunk came from the client.
    pub(super) fn client_sent(&self, bytes: usize) {
        self.from_client_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.only_listens.store(false, Ordering::Relaxed);
        self.set(SessionState::Active);
    }

    /// A chunk came from the backend, of which only a short one is looked at: LISTEN and its
    /// opposites are answered by nothing else. That such bytes stand in a row by chance only lets
    /// an idle session stay for longer.
    pub(super) fn note_answer(&self, chunk: &[u8]) {
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

    /// Its backend was asked, and its client waits for notifications alone.
    pub(super) fn note_only_listens(&self) {
        self.only_listens.store(true, Ordering::Relaxed);
    }

    /// Whether it was found to do nothing but listen.
    pub fn only_listens(&self) -> bool {
        self.only_listens.load(Ordering::Relaxed)
    }

    /// Whether the client has said LISTEN, as far as is known.
    pub fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed) || self.only_listens()
    }

    /// What the session does, in a word.
    pub fn state_name(&self) -> &'static str {
        match self.state() {
            SessionState::Idle if self.listens() => "listening",
            state => state.name(),
        }
    }

    /// A chunk came from the backend, and this is the end of what it said so far.
    pub(super) fn backend_sent(&self, bytes: usize, tail: &Tail) {
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

    /// What the session does.
    pub fn state(&self) -> SessionState {
        let state = self.state.load(Ordering::Relaxed);
        let known = SessionState::ALL.get(usize::from(state));
        known.copied().unwrap_or(SessionState::Active)
    }

    /// The number of chunks that passed: unchanged means that nothing was said.
    pub fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Acquire)
    }

    /// For how long nothing was said.
    pub fn quiet_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_chunk_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last)
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
    fn listening_begins_and_ends_by_the_backends_answers() {
        let meter = Meter::default();
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
            meter.note_answer(chunk);
            assert_eq!(meter.listens(), listens, "{chunk:?}");
        }
    }
}
