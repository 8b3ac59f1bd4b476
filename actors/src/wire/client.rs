//! The messages of a client in a session with multidb itself: the simple and the extended query protocol.
//!
//! Specification: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use bytes::{Buf, Bytes, BytesMut};

use super::answer::take_row;
use super::error::WireError;
use super::frame::{Frame, decode_frame};
use super::startup::take_string;

/// The bytes of an object id.
const OID_BYTES: usize = 4;
/// The bytes of a format code.
const FORMAT_BYTES: usize = 2;

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// As text.
    #[default]
    Text,
    /// In the binary form of its type.
    Binary,
}

impl Format {
    /// The code of the form in messages.
    pub fn code(self) -> u16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// The object of a Describe or a Close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A prepared statement.
    Statement(String),
    /// A portal.
    Portal(String),
}

/// A prepared statement to be bound to its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The new portal.
    pub portal: String,
    /// The prepared statement.
    pub statement: String,
    /// The forms of the parameters: none for text, one for all, or one for each.
    pub parameter_formats: Vec<Format>,
    /// The parameters; none for null.
    pub parameters: Vec<Option<Bytes>>,
    /// The forms of the columns, likewise.
    pub result_formats: Vec<Format>,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// Statements of the simple protocol.
    Query(String),
    /// A statement to be prepared.
    Parse {
        /// Its name; empty for the unnamed one.
        name: String,
        /// Its text.
        text: String,
        /// The types of the first parameters; 0 for an unknown one.
        types: Vec<u32>,
    },
    /// A portal to be made.
    Bind(Bind),
    /// A question for parameters and columns.
    Describe(Named),
    /// A portal to be run.
    Execute {
        /// Its name.
        portal: String,
        /// The most rows; all without it.
        rows_max: Option<usize>,
    },
    /// A statement or a portal to be forgotten.
    Close(Named),
    /// The answers so far are to be sent.
    Flush,
    /// The end of a series of messages.
    Sync,
    /// The end of the session.
    Terminate,
    /// A part of a COPY, which a server ignores outside of one.
    Copy,
    /// A call of a function by its object id.
    FunctionCall,
    /// A message that no client sends in a session.
    Other {
        /// Its tag.
        tag: u8,
    },
}

/// Decodes the next message, of at most `body_max` bytes.
///
/// # Errors
///
/// The bytes are not the protocol.
pub fn decode_client(
    buffer: &mut BytesMut,
    body_max: u32,
) -> Result<Option<ClientMessage>, WireError> {
    let Some(Frame { tag, mut body, .. }) = decode_frame(buffer, body_max)? else {
        return Ok(None);
    };
    let message = match tag {
        b'Q' => take_text(&mut body).map(ClientMessage::Query),
        b'P' => take_parse(&mut body),
        b'B' => take_bind(&mut body).map(ClientMessage::Bind),
        b'D' => take_named(&mut body).map(ClientMessage::Describe),
        b'E' => take_execute(&mut body),
        b'C' => take_named(&mut body).map(ClientMessage::Close),
        b'H' => Some(ClientMessage::Flush),
        b'S' => Some(ClientMessage::Sync),
        b'X' => Some(ClientMessage::Terminate),
        b'd' | b'c' | b'f' => return Ok(Some(ClientMessage::Copy)),
        b'F' => return Ok(Some(ClientMessage::FunctionCall)),
        tag => return Ok(Some(ClientMessage::Other { tag })),
    };
    match message {
        Some(message) if body.is_empty() => Ok(Some(message)),
        _ => Err(WireError::MessageLayout { tag }),
    }
}

/// The session's encoding is UTF-8; other bytes are in no valid name, so a statement with them is refused.
fn take_text(body: &mut Bytes) -> Option<String> {
    let text = take_string(body)?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn take_parse(body: &mut Bytes) -> Option<ClientMessage> {
    let (name, text) = (take_text(body)?, take_text(body)?);
    let count = take_count(body, OID_BYTES)?;
    let types: Option<Vec<u32>> = (0..count).map(|_| body.try_get_u32().ok()).collect();
    Some(ClientMessage::Parse {
        name,
        text,
        types: types?,
    })
}

fn take_bind(body: &mut Bytes) -> Option<Bind> {
    Some(Bind {
        portal: take_text(body)?,
        statement: take_text(body)?,
        parameter_formats: take_formats(body)?,
        parameters: take_row(body)?,
        result_formats: take_formats(body)?,
    })
}

fn take_named(body: &mut Bytes) -> Option<Named> {
    let kind = body.try_get_u8().ok()?;
    let name = take_text(body)?;
    match kind {
        b'S' => Some(Named::Statement(name)),
        b'P' => Some(Named::Portal(name)),
        _ => None,
    }
}

fn take_execute(body: &mut Bytes) -> Option<ClientMessage> {
    let portal = take_text(body)?;
    // As in Postgres, zero and less mean all rows.
    let rows_max = usize::try_from(body.try_get_i32().ok()?).ok();
    Some(ClientMessage::Execute {
        portal,
        rows_max: rows_max.filter(|max| *max > 0),
    })
}

/// A count of elements of at least so many bytes, checked against the bytes that are left.
fn take_count(body: &mut Bytes, bytes_min: usize) -> Option<usize> {
    let count = usize::from(body.try_get_u16().ok()?);
    (count.checked_mul(bytes_min)? <= body.len()).then_some(count)
}

fn take_formats(body: &mut Bytes) -> Option<Vec<Format>> {
    let count = take_count(body, FORMAT_BYTES)?;
    let take = |_| match body.try_get_u16().ok()? {
        0 => Some(Format::Text),
        1 => Some(Format::Binary),
        _ => None,
    };
    (0..count).map(take).collect()
}
