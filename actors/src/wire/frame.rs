//! Messages with a tag and a length: all except startup packets.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::WireError;

/// The length field, which counts itself but not the tag.
const LENGTH_BYTES: u32 = 4;

/// One whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The message's kind.
    pub tag: u8,
    /// Its content, after the length.
    pub body: Bytes,
    /// The whole message including tag and length, to pass on unchanged.
    pub raw: Bytes,
}

/// Decodes the next message, whose body has at most `body_max` bytes.
///
/// # Errors
///
/// The message is longer than that, or shorter than its length field.
pub fn decode_frame(buffer: &mut BytesMut, body_max: u32) -> Result<Option<Frame>, WireError> {
    let Some([tag, length @ ..]) = buffer.first_chunk::<5>() else {
        return Ok(None);
    };
    let tag = *tag;
    let length = u32::from_be_bytes(*length);
    let invalid_length = WireError::MessageLength { tag, length };
    if !(LENGTH_BYTES..=body_max.saturating_add(LENGTH_BYTES)).contains(&length) {
        return Err(invalid_length);
    }
    let Some(whole) = usize::try_from(length).ok().and_then(|n| n.checked_add(1)) else {
        return Err(invalid_length);
    };
    if buffer.len() < whole {
        return Ok(None);
    }
    let raw = buffer.split_to(whole).freeze();
    let mut body = raw.clone();
    body.advance(5);
    Ok(Some(Frame { tag, body, raw }))
}

/// Appends a message with this tag and body.
///
/// The proxy's own bodies are a few KiB at most, so the length always fits.
pub(super) fn encode_frame(out: &mut BytesMut, tag: u8, body: &[u8]) {
    let length = u32::try_from(body.len())
        .unwrap_or(u32::MAX)
        .saturating_add(LENGTH_BYTES);
    out.put_u8(tag);
    out.put_u32(length);
    out.put_slice(body);
}
