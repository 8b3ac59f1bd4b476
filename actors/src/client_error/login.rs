//! Errors of a login.

use super::ClientError;
use crate::connection::RefusalReason;
use crate::request::{KEYS, RequestError};
use crate::text::{self, quoted};
use crate::wire::{WireError, sqlstate};

/// The workaround where Postgres refuses each login for want of a library: options precede the settings of databases
/// and roles.
pub const LIBRARY_HINT: &str = "If session_preload_libraries or local_preload_libraries of the database or the role has it, connect as a superuser with the options \"-c session_preload_libraries= -c local_preload_libraries=\" and reset the setting by ALTER DATABASE or ALTER ROLE.";

impl From<&RefusalReason> for ClientError {
    fn from(reason: &RefusalReason) -> Self {
        let message = reason.to_string();
        match reason {
            RefusalReason::TlsRequired => {
                Self::new(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
                    .hint("Connect with sslmode=require, or better with verify-full.")
            }
            // Postgres' message.
            RefusalReason::LoginTimeout { limit } => Self::new(
                sqlstate::QUERY_CANCELED,
                "canceling authentication due to timeout",
            )
            .detail(format!(
                "A client must authenticate within {} (limits.login_timeout).",
                text::duration(*limit)
            )),
            RefusalReason::Evicted => Self::new(sqlstate::TOO_MANY_CONNECTIONS, message)
                .detail("More clients than limits.max_unauthenticated allows were logging in, and this connection was the oldest.")
                .hint("Try again; if that does not help, the port may be flooded."),
            RefusalReason::TooManyConnections { max } => {
                Self::new(sqlstate::TOO_MANY_CONNECTIONS, message).detail(format!(
                    "All {max} connections that limits.max_connections allows are in use."
                ))
            }
            RefusalReason::UnexpectedMessage { .. } => {
                Self::new(sqlstate::PROTOCOL_VIOLATION, message)
            }
            RefusalReason::InstanceKeepsVanishing { .. } => Self::internal(),
            RefusalReason::BackendLost { instance } => {
                Self::new(sqlstate::CONNECTION_FAILURE, message).hint(format!(
                    "Try again; \"multidb instance logs {instance}\" shows the log of Postgres."
                ))
            }
            RefusalReason::Instance { instance, error } => Self::of_instance(instance, error),
            RefusalReason::Wire(error) => error.into(),
            RefusalReason::Request(error) => error.into(),
            RefusalReason::Authentication(error) => error.into(),
            RefusalReason::Acquire(error) => error.into(),
        }
    }
}

impl From<&WireError> for ClientError {
    fn from(error: &WireError) -> Self {
        let message = error.to_string();
        match error {
            WireError::UnsupportedProtocol { .. } | WireError::DirectTls => {
                Self::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
            }
            // Postgres' detail.
            WireError::EarlyData { .. } => Self::new(sqlstate::PROTOCOL_VIOLATION, message).detail(
                "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
            ),
            WireError::StartupLength { .. } => Self::new(sqlstate::PROTOCOL_VIOLATION, message)
                .detail("The parameters of a startup packet take at most 10000 bytes."),
            WireError::StartupTerminator
            | WireError::CancelKeyLength { .. }
            | WireError::Http
            | WireError::MessageLength { .. }
            | WireError::MessageLayout { .. } => Self::new(sqlstate::PROTOCOL_VIOLATION, message),
        }
    }
}

impl From<&RequestError> for ClientError {
    fn from(error: &RequestError) -> Self {
        let invalid = Self::new(sqlstate::INVALID_PARAMETER_VALUE, error.to_string());
        let valid_keys = || format!("Valid keys: {}.", KEYS.join(", "));
        match error {
            RequestError::PlainUserName { .. }
            | RequestError::NoInstance
            | RequestError::NotAPair { .. } => invalid.hint(
                "Name the instance in the user name, as in \"instance:NAME,gitref:REVISION\", or in the options, as in \"-c multidb.instance=NAME\".",
            ),
            RequestError::PlainUserNameAtConsole { user } => {
                // Only a short name of letters can be written as it is.
                let name = if user.len() <= 63 && user.chars().all(char::is_alphanumeric) && !user.is_empty() {
                    user
                } else {
                    "NAME"
                };
                invalid.hint(format!(
                    "Database \"multidb\" is the console: connect as \"user:{name}\". For an instance's database of that name, name the instance too."
                ))
            }
            RequestError::UnescapedUrl { .. } => invalid
                .detail("In a connection URL, a colon ends the user name and begins the password.")
                .hint("In a URL, write \"instance=NAME,gitref=REVISION\", or each colon as %3A."),
            RequestError::OptionWithoutValue { .. } => {
                invalid.hint("Write it as \"-c multidb.KEY=VALUE\".")
            }
            RequestError::UnknownKey { .. } => invalid.detail(valid_keys()),
            RequestError::RepeatedKey { .. } => invalid
                .detail(valid_keys())
                .hint("Give each key once; a comma in a value is %2C."),
            RequestError::Conflict {
                user_name, options, ..
            } => invalid.detail(format!(
                "The user name has {}, the options have {}.",
                quoted(user_name),
                quoted(options)
            )),
            RequestError::SeveralSources { .. } => {
                invalid.hint("Give one of gitref, snapshot and asof.")
            }
            RequestError::UserNameEncoding
            | RequestError::OptionsEncoding
            | RequestError::InvalidValue { .. } => invalid,
        }
    }
}
