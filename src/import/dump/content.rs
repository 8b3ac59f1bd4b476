//! The bytes of a dump in one file, decompressed and as UTF-8, read on a thread of their own.

use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::compression::decompress;
use super::text::as_utf8;

/// The first bytes of a dump, from which its format and version are detected.
pub(super) const HEAD_BYTES: usize = 64 * 1024;
/// The size of a chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// The chunks that are queued between the reader and the writer.
const CHUNKS_MAX: usize = 8;

/// The chunks of a dump, in order. An error is the last of them.
pub(in crate::import) type Chunks = mpsc::Receiver<io::Result<Vec<u8>>>;

/// The content of a dump.
pub(super) struct Content {
    head: Vec<u8>,
    rest: Box<dyn Read + Send>,
    was_utf16: bool,
}

impl Content {
    /// Detects the compression and the encoding, and reads the head. `bytes_read` then counts the bytes that are read
    /// from the source itself. Blocks.
    pub(super) fn open(
        source: Box<dyn Read + Send>,
        bytes_read: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let counted: Box<dyn Read + Send> = Box::new(Counted {
            source,
            bytes: bytes_read,
        });
        let compressed = BufReader::with_capacity(CHUNK_BYTES, counted);
        let (mut rest, was_utf16) = as_utf8(decompress(compressed)?)?;
        let mut head = Vec::new();
        (&mut rest).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        Ok(Self {
            head,
            rest,
            was_utf16,
        })
    }

    /// The first [`HEAD_BYTES`] of the content.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether it was UTF-16, which is now UTF-8.
    pub(super) fn was_utf16(&self) -> bool {
        self.was_utf16
    }

    /// Reads the content on a thread of its own, which ends with the content or when the receiver
    /// is dropped.
    pub(super) fn read(self) -> Chunks {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let content = Cursor::new(self.head).chain(self.rest);
        tokio::task::spawn_blocking(move || send_chunks(content, &sender));
        receiver
    }
}

/// Counts the bytes that are read from a source.
struct Counted {
    source: Box<dyn Read + Send>,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn send_chunks(mut content: impl Read, sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let result = (&mut content)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk);
        let is_last = chunk.is_empty() || result.is_err();
        let sent = match result {
            Err(error) => sender.blocking_send(Err(error)),
            Ok(0) => Ok(()),
            Ok(_) => sender.blocking_send(Ok(chunk)),
        };
        if is_last || sent.is_err() {
            return;
        }
    }
}
