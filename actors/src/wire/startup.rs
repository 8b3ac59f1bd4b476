//! The packets that begin a connection: they have a length, but no tag.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::error::WireError;

/// The most bytes of a startup packet after its length: Postgres' `MAX_STARTUP_PACKET_LENGTH`
/// (`src/include/libpq/pqcomm.h`).
pub const STARTUP_BODY_LENGTH_MAX: u32 = 10_000;
/// The fewest bytes of a cancel key: all there are in protocol 3.0.
pub const CANCEL_KEY_LENGTH_MIN: usize = 4;
/// The most bytes of a cancel key, from protocol 3.2 on.
pub const CANCEL_KEY_LENGTH_MAX: usize = 256;

/// The length field, counted in the length itself.
const LENGTH_BYTES: u32 = 4;
/// A startup packet's length and version.
const STARTUP_LENGTH_MIN: u32 = 8;
/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// The first four bytes of HTTP requests, HTTP/2's preface among them.
const HTTP_STARTS: [&[u8; 4]; 10] = [
    b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"PRI ",
];
/// The prefix of the parameters that ask for protocol extensions.
const EXTENSION_PREFIX: &[u8] = b"_pq_.";

/// A version of the protocol, or a request code in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ProtocolVersion {
    /// The major version; only 3 is supported.
    pub major: u16,
    /// The minor version.
    pub minor: u16,
}

impl ProtocolVersion {
    /// The version of every server since Postgres 7.4.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// The newest that multidb supports: Postgres 18's.
    pub const V3_2: Self = Self { major: 3, minor: 2 };
    /// No version at all.
    pub(super) const NONE: Self = Self { major: 0, minor: 0 };
    /// The code of an SSLRequest.
    pub(super) const SSL_REQUEST: Self = Self::special(5679);
    /// The code of a GSSENCRequest.
    pub(super) const GSSENC_REQUEST: Self = Self::special(5680);
    /// The code of a CancelRequest.
    pub(super) const CANCEL_REQUEST: Self = Self::special(5678);

    const fn special(minor: u16) -> Self {
        Self { major: 1234, minor }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The first packet of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupRequest {
    /// A request for TLS; the answer is one byte.
    Ssl,
    /// A request for GSSAPI encryption; the answer is one byte.
    GssEnc,
    /// A request to cancel another session's query; there is no answer.
    Cancel(CancelRequest),
    /// A request for a session.
    Startup(StartupMessage),
}

/// Names a session by the backend's process id and proves the right to cancel its query.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// The backend's process id from its BackendKeyData.
    pub process_id: i32,
    /// The secret, of 4 to 256 bytes.
    pub key: Vec<u8>,
}

impl fmt::Debug for CancelRequest {
    /// Leaves out the key, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelRequest")
            .field("process_id", &self.process_id)
            .finish_non_exhaustive()
    }
}

/// A client's request for a session: a protocol version, and parameters in their original order.
///
/// Names and values are bytes: the protocol does not require UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupMessage {
    /// The requested version.
    pub version: ProtocolVersion,
    /// All parameters. Of a repeated name Postgres takes the last value.
    parameters: Vec<(Bytes, Bytes)>,
}

/// The content of the proxy's NegotiateProtocolVersion; see "Protocol versions" in the module's
/// documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiation {
    /// The version to use instead of the requested one.
    pub version: ProtocolVersion,
    /// The names of all `_pq_.` parameters, none of which is supported.
    pub unsupported: Vec<Bytes>,
}

/// The proxy's changes to a startup packet on its way to the backend.
#[derive(Debug, Clone, Copy)]
pub struct BackendStartup<'a> {
    /// The role to log in as, in place of the client's user name.
    pub user: &'a [u8],
    /// The database of clients that name none.
    pub default_database: &'a [u8],
    /// The `options` without multidb's; `None` drops the parameter.
    pub options: Option<&'a [u8]>,
}

/// Decodes the next startup packet.
///
/// # Errors
///
/// Each error ends the connection as [`WireError::refusal`] returns.
pub fn decode_startup(buffer: &mut BytesMut) -> Result<Option<StartupRequest>, WireError> {
    if buffer.first() == Some(&TLS_HANDSHAKE) {
        return Err(WireError::DirectTls);
    }
    let Some(start) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    if HTTP_STARTS.contains(&start) {
        return Err(WireError::Http);
    }
    let length = u32::from_be_bytes(*start);
    let length_max = STARTUP_BODY_LENGTH_MAX.saturating_add(LENGTH_BYTES);
    let invalid_length = WireError::StartupLength { length };
    if !(STARTUP_LENGTH_MIN..=length_max).contains(&length) {
        return Err(invalid_length);
    }
    let Ok(whole) = usize::try_from(length) else {
        return Err(invalid_length);
    };
    if buffer.len() < whole {
        return Ok(None);
    }
    let mut packet = buffer.split_to(whole).freeze();
    packet.advance(4);
    let version = ProtocolVersion {
        major: packet.get_u16(),
        minor: packet.get_u16(),
    };
    match version {
        ProtocolVersion::SSL_REQUEST if packet.is_empty() => Ok(Some(StartupRequest::Ssl)),
        ProtocolVersion::GSSENC_REQUEST if packet.is_empty() => Ok(Some(StartupRequest::GssEnc)),
        ProtocolVersion::SSL_REQUEST | ProtocolVersion::GSSENC_REQUEST => Err(invalid_length),
        ProtocolVersion::CANCEL_REQUEST => decode_cancel(packet),
        ProtocolVersion { major: 3, .. } => {
            let parameters = decode_parameters(packet)?;
            Ok(Some(StartupRequest::Startup(StartupMessage {
                version,
                parameters,
            })))
        }
        _ => Err(WireError::UnsupportedProtocol { version }),
    }
}

fn decode_cancel(mut body: Bytes) -> Result<Option<StartupRequest>, WireError> {
    let no_key = WireError::CancelKeyLength { length: 0 };
    let process_id = body.try_get_i32().map_err(|_| no_key)?;
    let length = body.len();
    if !(CANCEL_KEY_LENGTH_MIN..=CANCEL_KEY_LENGTH_MAX).contains(&length) {
        return Err(WireError::CancelKeyLength { length });
    }
    Ok(Some(StartupRequest::Cancel(CancelRequest {
        process_id,
        key: body.to_vec(),
    })))
}

/// Names and values, each ended by a zero byte, and a zero byte at the very end.
fn decode_parameters(mut body: Bytes) -> Result<Vec<(Bytes, Bytes)>, WireError> {
    let mut parameters = Vec::new();
    loop {
        let name = take_string(&mut body).ok_or(WireError::StartupTerminator)?;
        if name.is_empty() {
            break;
        }
        let value = take_string(&mut body).ok_or(WireError::StartupTerminator)?;
        parameters.push((name, value));
    }
    if body.is_empty() {
        Ok(parameters)
    } else {
        Err(WireError::StartupTerminator)
    }
}

/// Takes the bytes up to a zero byte, and the zero byte.
pub(super) fn take_string(body: &mut Bytes) -> Option<Bytes> {
    let length = body.iter().position(|byte| *byte == 0)?;
    let text = body.split_to(length);
    body.advance(1);
    Some(text)
}

impl StartupMessage {
    /// All parameters in their original order.
    pub fn parameters(&self) -> &[(Bytes, Bytes)] {
        &self.parameters
    }

    /// A parameter's value: the last one of a repeated name.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.parameters
            .iter()
            .rfind(|(n, _)| n.as_ref() == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// A parameter's value, if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// The user name. An empty one counts as none, as in Postgres.
    pub fn user(&self) -> Option<&Bytes> {
        self.get("user").filter(|user| !user.is_empty())
    }

    /// The database, if the client chose one.
    ///
    /// Without a database, libpq and others send the user name in its place. An overloaded user name
    /// is never meant as a database, so it counts as none if `user` replaces another name.
    pub fn database(&self, user: &[u8]) -> Option<&Bytes> {
        let is_filled_in =
            |database: &Bytes| self.user().is_some_and(|u| u == database && u != user);
        self.get("database")
            .filter(|database| !database.is_empty() && !is_filled_in(database))
    }

    /// The negotiation that the client must be sent before its authentication, if any.
    pub fn negotiation(&self) -> Option<Negotiation> {
        let unsupported: Vec<Bytes> = self
            .parameters
            .iter()
            .filter(|(name, _)| name.starts_with(EXTENSION_PREFIX))
            .map(|(name, _)| name.clone())
            .collect();
        if self.version <= ProtocolVersion::V3_2 && unsupported.is_empty() {
            return None;
        }
        Some(Negotiation {
            version: self.version.min(ProtocolVersion::V3_2),
            unsupported,
        })
    }

    /// The startup packet for the backend: the client's with another user, with a database if there
    /// is none, without multidb's options, and without the `_pq_.` parameters and minor versions
    /// that the client was told are not supported (see "Protocol versions" in the module's
    /// documentation).
    ///
    /// # Errors
    ///
    /// The packet is longer than the backend accepts.
    pub fn encode_for_backend(&self, startup: &BackendStartup<'_>) -> Result<Bytes, WireError> {
        let database = self
            .database(startup.user)
            .map_or(startup.default_database, |database| database.as_ref());
        let mut pairs: Vec<(&[u8], &[u8])> = vec![(b"user", startup.user), (b"database", database)];
        pairs.extend(startup.options.map(|options| (&b"options"[..], options)));
        let is_replaced = |name: &[u8]| {
            matches!(name, b"user" | b"database" | b"options") || name.starts_with(EXTENSION_PREFIX)
        };
        let kept = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()));
        pairs.extend(kept.filter(|(name, _)| !is_replaced(name)));
        encode_startup(self.version.min(ProtocolVersion::V3_2), &pairs)
    }
}

/// Encodes a startup packet.
pub(super) fn encode_startup(
    version: ProtocolVersion,
    parameters: &[(&[u8], &[u8])],
) -> Result<Bytes, WireError> {
    let mut body = BytesMut::new();
    body.put_u16(version.major);
    body.put_u16(version.minor);
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        // A zero byte would end the text early and turn the rest of it into parameters.
        body.extend(text.iter().filter(|byte| **byte != 0));
        body.put_u8(0);
    }
    body.put_u8(0);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let whole = length.saturating_add(LENGTH_BYTES);
    if length > STARTUP_BODY_LENGTH_MAX {
        return Err(WireError::StartupLength { length: whole });
    }
    let mut packet = BytesMut::with_capacity(body.len().saturating_add(4));
    packet.put_u32(whole);
    packet.unsplit(body);
    Ok(packet.freeze())
}
