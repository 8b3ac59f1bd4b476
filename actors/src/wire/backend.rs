//! The messages of a backend from its first byte to its first ReadyForQuery.

use bytes::{Buf, Bytes, BytesMut};

use super::error::WireError;
use super::error_response::ErrorFields;
use super::frame::{Frame, decode_frame};
use super::startup::{CANCEL_KEY_LENGTH_MAX, CANCEL_KEY_LENGTH_MIN, ProtocolVersion, take_string};
use super::tag;

/// The most bytes in a message of the login. The longest are errors and notices; libpq accepts
/// at most 30,000 at this stage.
const LOGIN_BODY_LENGTH_MAX: u32 = 65_536;

/// A message with its original bytes, to pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendFrame {
    /// The decoded message.
    pub message: BackendMessage,
    /// All its bytes.
    pub raw: Bytes,
}

/// A message of a backend during a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendMessage {
    /// The login succeeded.
    AuthenticationOk,
    /// A request for a password or the like, which multidb's backends are configured not to send.
    AuthenticationRequest {
        /// The kind of request, such as 10 for SASL.
        kind: u32,
    },
    /// The backend supports only an older version, or lacks extensions.
    NegotiateProtocolVersion {
        /// The newest version that it supports.
        version: ProtocolVersion,
        /// The parameters that it does not support.
        unsupported: Vec<Bytes>,
    },
    /// The login failed.
    ErrorResponse(ErrorFields),
    /// A notice.
    NoticeResponse(ErrorFields),
    /// The value of a reported setting.
    ParameterStatus {
        /// The setting.
        name: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The key that a cancel request must present.
    BackendKeyData {
        /// The backend's process id.
        process_id: i32,
        /// The secret, of 4 to 256 bytes.
        key: Bytes,
    },
    /// The login is over, and the backend waits for its client.
    ReadyForQuery {
        /// The state of its transaction.
        status: TransactionStatus,
    },
    /// A message that no backend sends at this stage today; passed on.
    Other {
        /// Its tag.
        tag: u8,
    },
}

/// The state of a session's transaction, as ReadyForQuery gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Outside any transaction.
    Idle,
    /// In a transaction.
    InTransaction,
    /// In a transaction that failed and waits for its ROLLBACK.
    Failed,
}

impl TransactionStatus {
    /// The status of this byte of a ReadyForQuery.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Decodes the backend's next message of a login.
///
/// # Errors
///
/// The bytes are not the protocol.
pub fn decode_backend(buffer: &mut BytesMut) -> Result<Option<BackendFrame>, WireError> {
    let Some(Frame { tag, body, raw }) = decode_frame(buffer, LOGIN_BODY_LENGTH_MAX)? else {
        return Ok(None);
    };
    let message = decode_body(tag, body).ok_or(WireError::MessageLayout { tag })?;
    Ok(Some(BackendFrame { message, raw }))
}

fn decode_body(tag: u8, mut body: Bytes) -> Option<BackendMessage> {
    let message = match tag {
        tag::AUTHENTICATION => {
            // The rest depends on the kind, and the proxy does not need it.
            return match body.try_get_u32().ok()? {
                0 => body.is_empty().then_some(BackendMessage::AuthenticationOk),
                kind => Some(BackendMessage::AuthenticationRequest { kind }),
            };
        }
        tag::NEGOTIATE_PROTOCOL_VERSION => decode_negotiation(&mut body)?,
        tag::ERROR_RESPONSE => BackendMessage::ErrorResponse(ErrorFields::decode(&mut body)?),
        tag::NOTICE_RESPONSE => BackendMessage::NoticeResponse(ErrorFields::decode(&mut body)?),
        tag::PARAMETER_STATUS => BackendMessage::ParameterStatus {
            name: take_string(&mut body)?,
            value: take_string(&mut body)?,
        },
        tag::BACKEND_KEY_DATA => {
            let process_id = body.try_get_i32().ok()?;
            let key = body.split_to(body.len());
            (CANCEL_KEY_LENGTH_MIN..=CANCEL_KEY_LENGTH_MAX)
                .contains(&key.len())
                .then_some(BackendMessage::BackendKeyData { process_id, key })?
        }
        tag::READY_FOR_QUERY => BackendMessage::ReadyForQuery {
            status: TransactionStatus::from_byte(body.try_get_u8().ok()?)?,
        },
        tag => return Some(BackendMessage::Other { tag }),
    };
    body.is_empty().then_some(message)
}

fn decode_negotiation(body: &mut Bytes) -> Option<BackendMessage> {
    let version = ProtocolVersion {
        major: body.try_get_u16().ok()?,
        minor: body.try_get_u16().ok()?,
    };
    let count = usize::try_from(body.try_get_u32().ok()?).ok()?;
    // Each name takes at least its terminator, so the count cannot exceed the bytes left.
    if count > body.len() {
        return None;
    }
    let unsupported = (0..count)
        .map(|_| take_string(body))
        .collect::<Option<Vec<Bytes>>>()?;
    Some(BackendMessage::NegotiateProtocolVersion {
        version,
        unsupported,
    })
}
