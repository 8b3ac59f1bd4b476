//! The messages that the proxy itself sends, except errors and notices.

use bytes::{BufMut, BytesMut};

use super::frame::encode_frame;
use super::startup::{CancelRequest, Negotiation, ProtocolVersion};

/// The answer to an SSLRequest that is granted: TLS follows.
pub const ENCRYPTION_ACCEPTED: &[u8] = b"S";

/// The answer to an SSLRequest or GSSENCRequest that is not granted: the client continues without
/// encryption, or disconnects.
pub const ENCRYPTION_REFUSED: &[u8] = b"N";

/// The answer to a TLS handshake without TLS: a fatal `handshake_failure` alert, so that the client
/// reports a refusal instead of an unreadable record.
pub const TLS_REFUSED: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28];

/// Appends AuthenticationOk.
pub fn encode_authentication_ok(out: &mut BytesMut) {
    encode_frame(out, b'R', &[0; 4]);
}

/// Appends an error in the form of protocols 1 and 2: a text that ends with a zero byte, and no
/// length. Postgres still answers such clients in this form.
pub fn encode_old_error(out: &mut BytesMut, severity: &str, message: &str) {
    out.put_u8(b'E');
    let text = [severity, ":  ", message, "\n"];
    for part in text {
        out.extend(part.bytes().filter(|byte| *byte != 0));
    }
    out.put_u8(0);
}

/// Appends AuthenticationSASL, which offers these mechanisms.
pub fn encode_sasl_offer(out: &mut BytesMut, mechanisms: &[&str]) {
    let mut body = BytesMut::new();
    body.put_u32(10);
    for mechanism in mechanisms {
        body.put_slice(mechanism.as_bytes());
        body.put_u8(0);
    }
    body.put_u8(0);
    encode_frame(out, b'R', &body);
}

/// Appends AuthenticationSASLContinue.
pub fn encode_sasl_continue(out: &mut BytesMut, data: &[u8]) {
    encode_frame(out, b'R', &[&11_u32.to_be_bytes(), data].concat());
}

/// Appends AuthenticationSASLFinal.
pub fn encode_sasl_final(out: &mut BytesMut, data: &[u8]) {
    encode_frame(out, b'R', &[&12_u32.to_be_bytes(), data].concat());
}

/// Appends Terminate: a client's orderly end of a session.
pub fn encode_terminate(out: &mut BytesMut) {
    encode_frame(out, b'X', &[]);
}

/// Appends NegotiateProtocolVersion, which comes before any authentication request.
///
/// The documentation calls its first number the newest *minor* version, but servers send, and libpq
/// compares, the whole version with the major one in its upper half.
pub fn encode_negotiate_protocol_version(out: &mut BytesMut, negotiation: &Negotiation) {
    let mut body = BytesMut::new();
    body.put_u16(negotiation.version.major);
    body.put_u16(negotiation.version.minor);
    // A startup packet has 10,000 bytes, so there are fewer parameters than that.
    body.put_u32(u32::try_from(negotiation.unsupported.len()).unwrap_or(u32::MAX));
    for name in &negotiation.unsupported {
        body.put_slice(name);
        body.put_u8(0);
    }
    encode_frame(out, b'v', &body);
}

/// Appends a CancelRequest, to forward one on a connection of its own.
pub fn encode_cancel_request(out: &mut BytesMut, request: &CancelRequest) {
    let length = u32::try_from(request.key.len())
        .unwrap_or(u32::MAX)
        .saturating_add(12);
    out.put_u32(length);
    out.put_u16(ProtocolVersion::CANCEL_REQUEST.major);
    out.put_u16(ProtocolVersion::CANCEL_REQUEST.minor);
    out.put_i32(request.process_id);
    out.put_slice(&request.key);
}
