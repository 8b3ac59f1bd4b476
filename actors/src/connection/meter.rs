//! What is known of a session from the outside: bytes, times, and what the backend said last.
//!
//! Written by the relay, read by the session's actor and by `multidb connection ls`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::{Tail, TailState};

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
    /// Whether its backend was seen to listen since the client last spoke.
    listening: AtomicBool,
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
            listening: AtomicBool::new(false),
        }
    }
}

impl Meter {
    /// A chunk came from the client.
    pub(super) fn client_sent(&self, bytes: usize) {
        self.from_client_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.listening.store(false, Ordering::Relaxed);
        self.set(SessionState::Active);
    }

    /// Its backend was asked, and listens.
    pub(super) fn note_listening(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    /// Whether it only listens, as far as is known.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
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
