//! The one map from domain errors to the form that a Postgres client reads.
//!
//! Each domain error has a `From<&Error> for ClientError` here, which chooses the SQLSTATE and
//! writes message, DETAIL and HINT; no other module does. A new variant of a domain error does not
//! compile before it has its message here.
//!
//! Messages follow Postgres' style: lower case, one line, no full stop; DETAIL and HINT are
//! sentences. All messages begin with `multidb: `, so that a reader does not look for the cause in
//! Postgres. Paths, container ids and secrets go to the log, never to a client;
//! [`ClientError::with_connection`] points to them there.
//!
//! | module | errors of |
//! | --- | --- |
//! | `login` | the login: bytes, user name, options, limits of the daemon |
//! | `auth` | authentication, and a user's rights |
//! | `choice` | instances, projects, snapshots and revisions that cannot be had |
//! | `service` | an instance: its clone, start and stop |
//! | `console` | statements of the console |
//! | `session` | sessions that multidb terminates |
//! | `notice` | NOTICEs to sessions that begin |

mod auth;
mod choice;
mod console;
mod login;
mod notice;
mod over_limit;
mod service;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::BytesMut;

use crate::wire::{
    Report, SqlState, encode_error_response, encode_notice_response, encode_old_error,
};

pub use login::LIBRARY_HINT;
pub use notice::ClientNotice;

/// The beginning of each message.
const PREFIX: &str = "multidb: ";

/// An error in the form that a client reads. Displays as psql prints it, without the severity.
///
/// Errors are `FATAL`, since a client gets one instead of a session, or at a session's end; except errors of a
/// statement of the console, after which its session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    sqlstate: SqlState,
    /// The message, without the prefix.
    pub message: String,
    /// The DETAIL.
    pub detail: Option<String>,
    /// The HINT.
    pub hint: Option<String>,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "\nDETAIL:  {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nHINT:  {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ClientError {}

impl ClientError {
    /// The severity of all other errors.
    const SEVERITY: &str = "FATAL";

    /// An error with nothing but a message.
    fn new(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A defect of multidb, whose cause is in the log.
    fn internal() -> Self {
        Self::new(crate::wire::sqlstate::INTERNAL_ERROR, "internal error")
    }

    /// The SQLSTATE as text, for the log.
    pub fn sqlstate(&self) -> &'static str {
        self.sqlstate.as_str()
    }

    /// Adds the connection's id to an error without a DETAIL whose cause is only in the log: one of
    /// class 58 or XX.
    #[must_use]
    pub fn with_connection(mut self, connection: u64) -> Self {
        if matches!(self.sqlstate.class(), "58" | "XX") {
            self.detail
                .get_or_insert_with(|| format!("See multidb's log for connection {connection}."));
        }
        self
    }

    /// Appends the ErrorResponse that ends a connection.
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_with(Self::SEVERITY, out);
    }

    /// Appends the ErrorResponse of a statement.
    pub fn encode_for_statement(&self, out: &mut BytesMut) {
        self.encode_with("ERROR", out);
    }

    fn encode_with(&self, severity: &str, out: &mut BytesMut) {
        let report = Report {
            severity,
            sqlstate: self.sqlstate,
            message: &format!("{PREFIX}{}", self.message),
            detail: self.detail.as_deref(),
            hint: self.hint.as_deref(),
        };
        encode_error_response(out, &report);
    }

    /// Appends the error in the form of the protocols before 3.
    pub fn encode_old(&self, out: &mut BytesMut) {
        let message = format!("{PREFIX}{}", self.message);
        encode_old_error(out, Self::SEVERITY, &message);
    }
}

impl ClientNotice {
    /// Appends the NoticeResponse, which a client accepts only after AuthenticationOk.
    pub fn encode(&self, out: &mut BytesMut) {
        let report = Report {
            severity: "NOTICE",
            sqlstate: crate::wire::sqlstate::SUCCESSFUL_COMPLETION,
            message: &format!("{PREFIX}{}", self.message),
            detail: self.detail.as_deref(),
            hint: self.hint.as_deref(),
        };
        encode_notice_response(out, &report);
    }
}
