//! What can be wrong with bytes from a peer.

use serde::Serialize;

use super::startup::ProtocolVersion;

/// Bytes that are not the protocol. The texts are those of Postgres where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum WireError {
    /// A startup packet shorter or longer than any can be.
    #[error("invalid length of startup packet")]
    StartupLength {
        /// The length that it claims, itself included.
        length: u32,
    },
    /// A startup packet whose parameters do not end where the packet ends.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    StartupTerminator,
    /// A protocol that is not 3.x, or an encryption request where none may stand.
    #[error("unsupported frontend protocol {version}: server supports 3.0 to 3.2")]
    UnsupportedProtocol {
        /// The version that was asked for.
        version: ProtocolVersion,
    },
    /// A cancel request whose key has a length that no key has.
    #[error("invalid length of cancel key: {length} bytes")]
    CancelKeyLength {
        /// The bytes of the key.
        length: usize,
    },
    /// Bytes came with an encryption request, before its answer: CVE-2021-23214.
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
    /// A message shorter or longer than its kind can be.
    #[error("invalid length {length} of message \"{}\"", char::from(*.tag).escape_default())]
    MessageLength {
        /// The message's tag.
        tag: u8,
        /// The length that it claims, without its tag.
        length: u32,
    },
    /// A message whose content does not fill it as its kind should.
    #[error("invalid layout of message \"{}\"", char::from(*.tag).escape_default())]
    MessageLayout {
        /// The message's tag.
        tag: u8,
    },
}

/// How a connection that began with wrong bytes is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// By an ErrorResponse: the peer speaks Postgres' protocol.
    ErrorResponse,
    /// By an error as protocol 2 had them ([`encode_old_error`](super::encode_old_error)): the peer
    /// speaks that, or an older one.
    OldErrorResponse,
    /// By a TLS alert ([`TLS_REFUSED`](super::TLS_REFUSED)): the peer speaks TLS.
    TlsAlert,
    /// Without a word, as Postgres does: the peer would not understand one.
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

    /// How to end a client's connection on it. Postgres closes on every startup packet of a wrong
    /// length without a word; a client whose parameters are too long is better told.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::DirectTls => Refusal::TlsAlert,
            // A cancel request is never answered.
            Self::Http | Self::CancelKeyLength { .. } => Refusal::Close,
            // What has no room for a version, or a first byte other than 0, is no length of a
            // startup packet but some other protocol.
            Self::StartupLength {
                length: ..8 | 0x0100_0000..,
            } => Refusal::Close,
            // To Postgres, 0.0 is what it speaks before it knows the version.
            Self::UnsupportedProtocol { version }
                if version.major < 3 && *version != ProtocolVersion::NONE =>
            {
                Refusal::OldErrorResponse
            }
            _ => Refusal::ErrorResponse,
        }
    }
}
