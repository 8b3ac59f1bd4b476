//! The end of a backend's stream, which shows whether the backend waits for its client.

use super::backend::TransactionStatus;

/// A ReadyForQuery: its tag and its length of 5, without the status byte.
const READY_FOR_QUERY: u64 = 0x5A00_0000_0500;
/// The length of a ReadyForQuery in bytes.
const LENGTH: usize = 6;
/// The mask of all bytes of a ReadyForQuery except its status.
const FIXED: u64 = 0xFFFF_FFFF_FF00;
/// The mask of all bytes of a ReadyForQuery.
const WHOLE: u64 = 0xFFFF_FFFF_FFFF;

/// The last six bytes of a backend's stream.
///
/// However it is chunked, the stream of a waiting backend ends in ReadyForQuery, so nothing needs to
/// be parsed. The reverse is not certain: a row that has just been sent may end in the same six
/// bytes. Therefore the server is asked before a session is terminated as idle.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tail {
    /// The bytes as one number, the newest lowest; zero before there are any.
    bytes: u64,
}

/// The state of a backend by the end of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailState {
    /// It waits for its client, outside any transaction.
    Idle,
    /// It waits for its client, in a transaction.
    InTransaction,
    /// It waits for its client, in a failed transaction.
    Failed,
    /// It works, or copies, or has sent nothing yet.
    Unknown,
}

impl Tail {
    /// Notes a chunk of the stream; costs the same for any length.
    pub fn feed(&mut self, chunk: &[u8]) {
        let last = chunk.len().saturating_sub(LENGTH);
        for byte in chunk.get(last..).unwrap_or_default() {
            self.bytes = ((self.bytes << 8) | u64::from(*byte)) & WHOLE;
        }
    }

    /// The state by the stream's end now.
    pub fn state(&self) -> TailState {
        if self.bytes & FIXED != READY_FOR_QUERY {
            return TailState::Unknown;
        }
        let [.., status] = self.bytes.to_be_bytes();
        match TransactionStatus::from_byte(status) {
            Some(TransactionStatus::Idle) => TailState::Idle,
            Some(TransactionStatus::InTransaction) => TailState::InTransaction,
            Some(TransactionStatus::Failed) => TailState::Failed,
            None => TailState::Unknown,
        }
    }
}
