//! Errors of the handshake, before anything is looked up.

use std::time::Duration;

use super::{ClientError, text};
use crate::request::RequestError;
use crate::wire::{WireError, sqlstate};

impl From<RequestError> for ClientError {
    fn from(error: RequestError) -> Self {
        Self {
            detail: error.detail(),
            hint: error.hint().map(str::to_owned),
            ..Self::fatal(sqlstate::INVALID_PARAMETER_VALUE, error.to_string())
        }
    }
}

impl From<WireError> for ClientError {
    fn from(error: WireError) -> Self {
        Self {
            detail: error.detail().map(str::to_owned),
            ..Self::fatal(error.sqlstate(), error.to_string())
        }
    }
}

impl ClientError {
    /// A client sent a message that has no place in a login.
    pub fn unexpected_message(tag: u8) -> Self {
        let tag = char::from(tag).escape_default();
        Self::fatal(
            sqlstate::PROTOCOL_VIOLATION,
            format!("unexpected message \"{tag}\" during the login"),
        )
    }

    /// The login took longer than it may.
    pub fn login_timeout(limit: Duration) -> Self {
        Self::fatal(
            sqlstate::QUERY_CANCELED,
            "canceling authentication due to timeout",
        )
        .detail(format!(
            "A client must finish its login within {}.",
            text::duration(limit)
        ))
    }

    /// So many clients came and did not log in that this one, the oldest of them, made room.
    pub fn put_out() -> Self {
        let message = "too many connections that have not logged in";
        Self::fatal(sqlstate::TOO_MANY_CONNECTIONS, message)
            .detail("There are more than limits.max_unauthenticated allows, and this one is the oldest.")
            .hint("Try again; if that does not help, somebody may be flooding the port.")
    }

    /// The daemon has as many sessions as it may.
    pub fn too_many_connections(max: usize) -> Self {
        Self::fatal(sqlstate::TOO_MANY_CONNECTIONS, "too many connections").detail(format!(
            "All {max} connections that limits.max_connections allows are in use."
        ))
    }
}
