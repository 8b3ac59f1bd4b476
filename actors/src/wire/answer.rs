//! The answers to multidb's own simple queries. A superuser of an instance can forge each of them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::WireError;
use super::error_response::ErrorFields;
use super::frame::{decode_frame, encode_frame};
use super::startup::{ProtocolVersion, encode_startup};
use super::tag;

/// The fewest bytes of a value in a row: its length.
const VALUE_LENGTH_MIN: usize = 4;
/// The length of a null.
const NULL: i32 = -1;

/// A message of a backend that answers a simple query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerMessage {
    /// A row: the text of each value, or none for a null.
    Row(Vec<Option<Bytes>>),
    /// The query failed. ReadyForQuery follows, unless the backend ends.
    Error(ErrorFields),
    /// The answer is complete.
    Ready,
    /// A message without meaning for the answer.
    Other {
        /// Its tag.
        tag: u8,
    },
}

/// Decodes the next message of an answer, of at most `body_max` bytes.
///
/// # Errors
///
/// The bytes are not the protocol, or the message belongs to no answer of a query, such as those of a COPY.
pub fn decode_answer(
    buffer: &mut BytesMut,
    body_max: u32,
) -> Result<Option<AnswerMessage>, WireError> {
    let Some(frame) = decode_frame(buffer, body_max)? else {
        return Ok(None);
    };
    let mut body = frame.body;
    let message = match frame.tag {
        tag::DATA_ROW => take_row(&mut body).map(AnswerMessage::Row),
        tag::ERROR_RESPONSE => ErrorFields::decode(&mut body).map(AnswerMessage::Error),
        tag::READY_FOR_QUERY => body.try_get_u8().ok().map(|_| AnswerMessage::Ready),
        tag @ (tag::COMMAND_COMPLETE
        | tag::EMPTY_QUERY_RESPONSE
        | tag::NOTICE_RESPONSE
        | tag::NOTIFICATION_RESPONSE
        | tag::PARAMETER_STATUS
        | tag::ROW_DESCRIPTION) => return Ok(Some(AnswerMessage::Other { tag })),
        _ => None,
    };
    match message {
        Some(message) if body.is_empty() => Ok(Some(message)),
        _ => Err(WireError::MessageLayout { tag: frame.tag }),
    }
}

/// A count, then the length and the bytes of each value.
pub(super) fn take_row(body: &mut Bytes) -> Option<Vec<Option<Bytes>>> {
    let count = usize::from(body.try_get_u16().ok()?);
    if count.checked_mul(VALUE_LENGTH_MIN)? > body.len() {
        return None;
    }
    let mut row = Vec::with_capacity(count);
    for _ in 0..count {
        row.push(match body.try_get_i32().ok()? {
            NULL => None,
            length => {
                let length = usize::try_from(length).ok()?;
                (length <= body.len()).then_some(())?;
                Some(body.split_to(length))
            }
        });
    }
    Some(row)
}

/// Appends a Query.
pub fn encode_query(out: &mut BytesMut, statement: &str) {
    let mut body = BytesMut::with_capacity(statement.len().saturating_add(1));
    body.extend(statement.bytes().filter(|byte| *byte != 0));
    body.put_u8(0);
    encode_frame(out, b'Q', &body);
}

/// A startup packet of protocol 3.0, for a session of multidb's own.
///
/// # Errors
///
/// The parameters are longer than a server accepts.
pub fn encode_own_startup(parameters: &[(&str, &str)]) -> Result<Bytes, WireError> {
    let parameters: Vec<_> = parameters
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    encode_startup(ProtocolVersion::V3_0, &parameters)
}
