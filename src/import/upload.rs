//! A dump that a client sends while it is imported.
//!
//! The bytes wait in a short queue, so a restore that is slower than the client holds it back. Only the
//! end that the client declares is the end of the dump: without it, the dump is incomplete.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;

/// The pieces that are queued between the client and the import. A face hands them on as they come, in at
/// most some tens of KiB.
const PIECES_MAX: usize = 16;
/// The name of a dump that has none.
const STANDARD_INPUT: &str = "-";

/// A dump that is sent, as an import sees it. Clones share its bytes.
#[derive(Clone)]
pub struct Upload {
    name: PathBuf,
    pub(super) bytes: Option<u64>,
    pub(super) modified_at: Option<Timestamp>,
    /// Until they are read.
    content: Arc<Mutex<Option<UploadReader>>>,
    is_cut_off: Arc<AtomicBool>,
}

/// The sender's side of an [`Upload`].
#[derive(Debug)]
pub struct UploadSender {
    pieces: mpsc::Sender<Piece>,
}

/// The end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// All of the dump was handed over.
    All,
    /// The import needs no more, for it has ended.
    NotNeeded,
    /// The client's part ended before the dump did.
    CutOff,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
}

impl Upload {
    /// A dump to be sent. `name` is its path at the client, or `-` for the standard input; the size and the time are a
    /// file's.
    pub fn new(
        name: PathBuf,
        bytes: Option<u64>,
        modified_at: Option<Timestamp>,
    ) -> (Self, UploadSender) {
        let (upload, sender) = Self::with_queue(name, PIECES_MAX);
        let upload = Self {
            bytes,
            modified_at,
            ..upload
        };
        (upload, sender)
    }

    /// A dump of unknown size, of which so many pieces may wait.
    pub(super) fn with_queue(name: PathBuf, pieces_max: usize) -> (Self, UploadSender) {
        let (sender, pieces) = mpsc::channel(pieces_max);
        let is_cut_off = Arc::new(AtomicBool::new(false));
        let reader = UploadReader {
            pieces,
            piece: Bytes::new(),
            is_complete: false,
            is_cut_off: is_cut_off.clone(),
        };
        let name = match name.as_os_str() == STANDARD_INPUT {
            true => PathBuf::from("standard input"),
            false => name,
        };
        let upload = Self {
            name,
            bytes: None,
            modified_at: None,
            content: Arc::new(Mutex::new(Some(reader))),
            is_cut_off,
        };
        (upload, UploadSender { pieces: sender })
    }

    /// Its name, for people.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Takes the bytes out, to be read once. Reading blocks.
    pub(super) fn read(&self) -> UploadReader {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.take().unwrap_or_else(|| UploadReader {
            pieces: mpsc::channel(1).1,
            piece: Bytes::new(),
            is_complete: false,
            is_cut_off: self.is_cut_off.clone(),
        })
    }

    /// Whether the bytes ended before the client said so.
    pub(super) fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").field(&self.name).finish()
    }
}

impl UploadSender {
    /// Hands over the body of a request, whose errors mean that it is incomplete.
    pub async fn send_all<E>(self, body: impl Stream<Item = Result<Bytes, E>>) -> Sent {
        let mut body = std::pin::pin!(body);
        while let Some(piece) = body.next().await {
            let Ok(piece) = piece else {
                return Sent::CutOff;
            };
            if self.pieces.send(Piece::Bytes(piece)).await.is_err() {
                return Sent::NotNeeded;
            }
        }
        match self.pieces.send(Piece::End).await {
            Ok(()) => Sent::All,
            Err(_) => Sent::NotNeeded,
        }
    }
}

/// Reads a dump as it comes.
pub(super) struct UploadReader {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    is_complete: bool,
    is_cut_off: Arc<AtomicBool>,
}

impl Read for UploadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_complete {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(piece)) => self.piece = piece,
                Some(Piece::End) => self.is_complete = true,
                None => {
                    self.is_cut_off.store(true, Ordering::Release);
                    let problem = "the client disconnected";
                    return Err(io::Error::new(ErrorKind::ConnectionAborted, problem));
                }
            }
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    fn upload() -> (Upload, UploadSender) {
        Upload::new(PathBuf::from("-"), None, None)
    }

    async fn text(upload: &Upload) -> io::Result<String> {
        let mut reader = upload.read();
        let read = tokio::task::spawn_blocking(move || io::read_to_string(&mut reader));
        read.await.unwrap()
    }

    #[tokio::test]
    async fn dump_ends_only_where_the_client_says_so() {
        let pieces = ["SELECT", "", " 1;"].map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
        let (whole, sender) = upload();
        let (sent, read) = tokio::join!(sender.send_all(stream::iter(pieces)), text(&whole));
        assert_eq!((sent, read.unwrap()), (Sent::All, "SELECT 1;".to_owned()));
        assert!(!whole.is_cut_off());

        let pieces = [Ok(Bytes::from("SELECT 1;")), Err("broken")];
        let (cut, sender) = upload();
        let (sent, read) = tokio::join!(sender.send_all(stream::iter(pieces)), text(&cut));
        assert_eq!(sent, Sent::CutOff);
        assert_eq!(read.unwrap_err().to_string(), "the client disconnected");
        assert!(cut.is_cut_off());
    }

    #[tokio::test]
    async fn client_is_held_back_and_let_go_when_the_import_ends() {
        let (upload, sender) = upload();
        let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(b"x")));
        let sending = tokio::spawn(sender.send_all(endless));
        for _ in 0..10 * PIECES_MAX {
            tokio::task::yield_now().await;
        }
        let mut reader = upload.read();
        assert_eq!(reader.pieces.len(), PIECES_MAX);
        let read = tokio::task::spawn_blocking(move || reader.read_exact(&mut [0; 100]));
        read.await.unwrap().unwrap();
        assert_eq!(sending.await.unwrap(), Sent::NotNeeded);
    }
}
