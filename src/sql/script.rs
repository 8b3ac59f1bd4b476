//! Statements of a user's script: bytes in the encoding of the script, answers that are discarded, and rows for
//! `COPY … FROM stdin`.
//!
//! The answer of a server is skipped without being kept, at any length; an error is kept up to a bound.

use std::io::{self, Read};

use bytes::{Buf, BytesMut};
use multidb_actors::wire::{AnswerMessage, decode_answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::ServerMessage;
use super::{Session, SqlError};

/// The longest error that is kept.
const ERROR_BYTES_MAX: usize = 1 << 20;
/// The size of a message of rows, and the room for each read.
const CHUNK_BYTES: usize = 64 << 10;
/// The tag and the length of a message.
const HEADER_BYTES: usize = 5;

/// How a statement ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It is done.
    Done,
    /// It failed, and the session goes on.
    Failed(ServerMessage),
    /// It waits for rows.
    WantsRows,
}

/// Follows the answer to a script's statement.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The bytes of a message that are still to be passed over.
    skipped: usize,
    failure: Option<ServerMessage>,
    /// The session is in a transaction, or in a failed one.
    transaction: Option<u8>,
}

/// Whether the end of an answer is taken off the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TheEnd {
    IsTaken,
    /// After an error it comes while rows are still being sent.
    IsLeft,
}

/// The meaning of a message.
enum Event {
    WantsRows,
    Ready,
}

impl Answer {
    /// Takes complete messages off the buffer, up to the next event. The end of the answer stays there unless it is
    /// waited for.
    fn advance(&mut self, buffer: &mut BytesMut, end: TheEnd) -> Result<Option<Event>, SqlError> {
        loop {
            let skipped = self.skipped.min(buffer.len());
            buffer.advance(skipped);
            self.skipped -= skipped;
            if self.skipped > 0 {
                return Ok(None);
            }
            let Some([tag, length @ ..]) = buffer.first_chunk::<HEADER_BYTES>() else {
                return Ok(None);
            };
            let (tag, length) = (*tag, u32::from_be_bytes(*length));
            let body = usize::try_from(length).ok().and_then(|n| n.checked_sub(4));
            let body = body.ok_or_else(|| unexpected(tag))?;
            match tag {
                b'E' if body <= ERROR_BYTES_MAX => {
                    let Some(message) = decode_answer(buffer, length)? else {
                        return Ok(None);
                    };
                    if let AnswerMessage::Error(fields) = message {
                        self.failure
                            .get_or_insert_with(|| ServerMessage::of(&fields));
                    }
                    continue;
                }
                b'Z' => {
                    let status = buffer.get(HEADER_BYTES).copied();
                    if end == TheEnd::IsLeft || status.is_none() {
                        return Ok(None);
                    }
                    decode_answer(buffer, length)?;
                    self.transaction = status;
                    return Ok(Some(Event::Ready));
                }
                _ => {}
            }
            buffer.advance(HEADER_BYTES);
            self.skipped = body;
            match tag {
                b'E' => {
                    self.failure.get_or_insert_with(ServerMessage::too_long);
                }
                b'G' => return Ok(Some(Event::WantsRows)),
                // Rows and their end, notices, settings, and the output of a COPY TO.
                b'A' | b'C' | b'D' | b'H' | b'I' | b'N' | b'S' | b'T' | b'c' | b'd' => {}
                _ => return Err(unexpected(tag)),
            }
        }
    }

    fn ended(&mut self) -> Ended {
        self.failure.take().map_or(Ended::Done, Ended::Failed)
    }
}

fn unexpected(tag: u8) -> SqlError {
    SqlError::Unexpected(format!("a message with the tag {}", tag.escape_ascii()))
}

impl Session {
    /// Whether the last statement of a script left a transaction open, whole or failed.
    pub fn in_transaction(&self) -> bool {
        !matches!(self.script.transaction, None | Some(b'I'))
    }

    /// Runs a statement: `head`, then `rest` of it, which has `rest_bytes`. It may be several. It has no limit of time: its caller may be
    /// cancelled.
    ///
    /// # Errors
    ///
    /// The session has ended, or the rest of the statement cannot be read.
    pub async fn run(
        &mut self,
        head: &[u8],
        rest: Option<(&mut (dyn Read + Send), u64)>,
    ) -> Result<Ended, SqlError> {
        let rest_bytes = rest.as_ref().map_or(0, |(_, bytes)| *bytes);
        let too_long = |_| SqlError::TooLong;
        let length = usize::try_from(rest_bytes).map_err(too_long)? + head.len() + HEADER_BYTES;
        let length = u32::try_from(length).map_err(too_long)?;
        let mut begin = BytesMut::with_capacity(HEADER_BYTES + head.len());
        begin.extend_from_slice(b"Q");
        begin.extend_from_slice(&length.to_be_bytes());
        begin.extend_from_slice(head);
        if rest_bytes == 0 {
            begin.extend_from_slice(b"\0");
        }
        self.write(&begin).await?;
        if let Some((rest, _)) = rest {
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                match rest.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(read) => self.write(&chunk[..read]).await?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.write(b"\0").await?;
        }
        self.ended().await
    }

    /// Sends some rows to a statement that waits for them.
    ///
    /// # Errors
    ///
    /// The session has ended.
    pub async fn send_rows(&mut self, rows: &[u8]) -> Result<(), SqlError> {
        for chunk in rows.chunks(CHUNK_BYTES) {
            let length = u32::try_from(chunk.len() + 4).unwrap_or(u32::MAX);
            let mut message = BytesMut::with_capacity(chunk.len() + HEADER_BYTES);
            message.extend_from_slice(b"d");
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(chunk);
            self.write(&message).await?;
        }
        Ok(())
    }

    /// Tells the statement that it has all rows, and waits for its end.
    ///
    /// # Errors
    ///
    /// The session has ended.
    pub async fn end_rows(&mut self) -> Result<Ended, SqlError> {
        self.write(b"c\0\0\0\x04").await?;
        self.ended().await
    }

    /// Whether the statement that waits for rows has failed already, so that they need not be sent.
    pub fn rows_failed(&self) -> bool {
        self.script.failure.is_some()
    }

    async fn ended(&mut self) -> Result<Ended, SqlError> {
        loop {
            match self.script.advance(&mut self.unread, TheEnd::IsTaken)? {
                Some(Event::WantsRows) => return Ok(Ended::WantsRows),
                Some(Event::Ready) => return Ok(self.script.ended()),
                None => {}
            }
            self.unread.reserve(CHUNK_BYTES);
            let read = match self.socket.read_buf(&mut self.unread).await {
                Ok(read) => read,
                Err(error) => return Err(self.script.last_error(error.into())),
            };
            if read == 0 {
                // A fatal error is a backend's last message.
                return Err(self.script.last_error(SqlError::Closed));
            }
        }
    }

    /// Writes, and reads meanwhile: a server that cannot send its notices would not read on.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.socket);
        let written = writer.write_all(bytes);
        tokio::pin!(written);
        loop {
            self.unread.reserve(CHUNK_BYTES);
            tokio::select! {
                biased;
                done = &mut written => return match done {
                    Ok(()) => Ok(()),
                    Err(error) => Err(self.script.last_error(error.into())),
                },
                read = reader.read_buf(&mut self.unread) => match read {
                    Ok(0) => return Err(self.script.last_error(SqlError::Closed)),
                    Ok(_) => {}
                    Err(error) => return Err(self.script.last_error(error.into())),
                },
            }
            self.script.advance(&mut self.unread, TheEnd::IsLeft)?;
        }
    }
}

impl Answer {
    /// The last error of the server, if it said one before it went.
    fn last_error(&mut self, error: SqlError) -> SqlError {
        self.failure.take().map_or(error, SqlError::Server)
    }
}
