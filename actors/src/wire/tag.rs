//! The tags of a backend's messages.
//!
//! Specification: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

pub(super) const AUTHENTICATION: u8 = b'R';
pub(super) const BACKEND_KEY_DATA: u8 = b'K';
pub(super) const COMMAND_COMPLETE: u8 = b'C';
pub(super) const DATA_ROW: u8 = b'D';
pub(super) const EMPTY_QUERY_RESPONSE: u8 = b'I';
pub(super) const ERROR_RESPONSE: u8 = b'E';
pub(super) const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
pub(super) const NOTICE_RESPONSE: u8 = b'N';
pub(super) const NOTIFICATION_RESPONSE: u8 = b'A';
pub(super) const PARAMETER_STATUS: u8 = b'S';
pub(super) const READY_FOR_QUERY: u8 = b'Z';
pub(super) const ROW_DESCRIPTION: u8 = b'T';
