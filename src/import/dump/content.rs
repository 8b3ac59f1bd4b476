//! The bytes of a dump in one file, without compression, read on a thread of their own.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc;

/// The first bytes of a dump, from which its format and version are detected.
pub(super) const HEAD_BYTES: usize = 64 * 1024;
/// The size of a chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// The chunks that are queued between the reader and the writer.
const CHUNKS_MAX: usize = 8;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The chunks of a dump, in order. An error is the last of them.
pub(in crate::import) type Chunks = mpsc::Receiver<io::Result<Vec<u8>>>;

/// The content of a dump.
pub(super) struct Content {
    head: Vec<u8>,
    rest: Box<dyn Read + Send>,
}

impl Content {
    /// Detects the compression and reads the head. `bytes_read` then counts the bytes that are read
    /// from the file itself. Blocks.
    pub(super) fn open(file: File, bytes_read: Arc<AtomicU64>) -> io::Result<Self> {
        let mut counted = Counted {
            file,
            bytes: bytes_read,
        };
        let mut magic = Vec::new();
        (&mut counted).take(4).read_to_end(&mut magic)?;
        let is_gzip = magic.starts_with(GZIP_MAGIC);
        let is_zstd = magic.starts_with(ZSTD_MAGIC);
        let compressed = Cursor::new(magic).chain(counted);
        let mut rest: Box<dyn Read + Send> = if is_gzip {
            let buffered = io::BufReader::with_capacity(CHUNK_BYTES, compressed);
            Box::new(MultiGzDecoder::new(buffered))
        } else if is_zstd {
            Box::new(zstd::stream::read::Decoder::new(compressed)?)
        } else {
            Box::new(compressed)
        };
        let mut head = Vec::new();
        (&mut rest).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        Ok(Self { head, rest })
    }

    /// The first [`HEAD_BYTES`] of the content.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
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

/// Counts the bytes that are read from a file.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
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
