//! Faults in the bytes of a peer.

use serde::Serialize;

use super::startup::ProtocolVersion;

/// A fault in a peer's bytes. The texts are those of Postgres where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum WireError {
    /// A startup packet shorter or longer than allowed.
    #[error("invalid length of startup packet")]
    StartupLength {
        /// The claimed length, including the length field.
        length: u32,
    },
    /// A startup packet whose parameters do not end where the packet ends.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    StartupTerminator,
    /// A protocol other than 3.x, or an encryption request where none is allowed.
    #[error("unsupported frontend protocol {version}: server supports 3.0 to 3.2")]
    UnsupportedProtocol {
        /// The requested version.
        version: ProtocolVersion,
    },
    /// A cancel request whose key is too short or too long.
    #[error("invalid length {length} of cancel key")]
    CancelKeyLength {
        /// The length of the key in bytes.
        length: usize,
    },
    /// Bytes between an encryption request and its answer (CVE-2021-23214).
    #[error("received unencrypted data after {request} request")]
    EarlyData {
        /// `SSL` or `GSSAPI encryption`.
        request: &'static str,
    },
    /// A TLS handshake without an SSLRequest before it.
    #[error("received a direct TLS handshake, which this port does not accept")]
    DirectTls,
    /// An HTTP request.
    #[error("received an HTTP request on a Postgres port")]
    Http,
    /// A message shorter or longer than allowed for its kind.
    #[error("invalid length {length} of message \"{}\"", char::from(*.tag).escape_default())]
    MessageLength {
        /// The message's tag.
        tag: u8,
        /// The claimed length, without the tag.
        length: u32,
    },
    /// A message whose content does not have the layout of its kind.
    #[error("invalid layout of message \"{}\"", char::from(*.tag).escape_default())]
    MessageLayout {
        /// The message's tag.
        tag: u8,
    },
}

/// How to end a connection that began with faulty bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// With an ErrorResponse: the peer uses Postgres' protocol.
    ErrorResponse,
    /// With an error of protocol 2 ([`encode_old_error`](super::encode_old_error)): the peer uses
    /// that, or an older one.
    OldErrorResponse,
    /// With a TLS alert ([`TLS_REFUSED`](super::TLS_REFUSED)): the peer uses TLS.
    TlsAlert,
    /// Without a message, as Postgres does: the peer would not understand one.
    Close,
}

impl WireError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::StartupLength { .. } => "startup_length",
            Self::StartupTerminator => "startup_terminator",
            Self::UnsupportedProtocol { .. } => "unsupported_protocol",
            Self::CancelKeyLength { .. } => "cancel_key_length",
            Self::EarlyData { .. } => "early_data",
            Self::DirectTls => "direct_tls",
            Self::Http => "http",
            Self::MessageLength { .. } => "message_length",
            Self::MessageLayout { .. } => "message_layout",
        }
    }

    /// How to end the client's connection. Postgres closes without a message on every startup packet
    /// of a wrong length; multidb answers a client whose parameters are too long.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::DirectTls => Refusal::TlsAlert,
            // A cancel request is never answered.
            Self::Http | Self::CancelKeyLength { .. } => Refusal::Close,
            // A length below 8 leaves no room for a version, and a first byte other than 0 exceeds
            // every limit: both are some other protocol.
            Self::StartupLength {
                length: ..8 | 0x0100_0000..,
            } => Refusal::Close,
            // Postgres itself answers 0.0 in the current form.
            Self::UnsupportedProtocol { version }
                if version.major < 3 && *version != ProtocolVersion::NONE =>
            {
                Refusal::OldErrorResponse
            }
            _ => Refusal::ErrorResponse,
        }
    }
}
