//! The only map from our errors to what a client sees.
//!
//! Messages follow Postgres' style: lower case, one line, no full stop; DETAIL and HINT are
//! sentences. All of them begin with `multidb: `, so that nobody looks for their cause in
//! Postgres. No path, container id or secret is in them: causes of that kind go to the log, and
//! [`ClientError::with_connection`] says where to find them there.
//!
//! | module | errors of |
//! | --- | --- |
//! | `login` | the handshake: bytes, user name, options, limits of the daemon |
//! | `auth` | who a client is, and what it may do |
//! | `choice` | choosing a snapshot: projects, snapshots, revisions |
//! | `service` | the instance: its clone, its start, its end |
//! | `session` | sessions that multidb ends |

mod auth;
mod choice;
mod login;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use bytes::BytesMut;

use crate::wire::{
    Report, SqlState, encode_error_response, encode_notice_response, encode_old_error,
};

pub use choice::NearestMiss;
pub use session::{AdminAction, ClientNotice};

/// What all of multidb's messages begin with.
const PREFIX: &str = "multidb: ";

/// An error as a client sees it. Displays as psql prints it, without the severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    /// Whether the connection ends.
    pub severity: Severity,
    /// The SQLSTATE.
    pub sqlstate: SqlState,
    /// What happened, without the prefix.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

/// How bad an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The connection ends. All errors of a login are.
    Fatal,
    /// The connection goes on.
    Error,
}

impl Severity {
    /// Postgres' word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
        }
    }
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
    /// A fatal error with nothing but a message.
    fn fatal(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fatal,
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

    /// A fault of multidb itself, whose cause is in the log.
    pub fn internal() -> Self {
        Self::fatal(crate::wire::sqlstate::INTERNAL_ERROR, "internal error")
    }

    /// Adds the connection's id to an error whose cause only the log tells: one of class 58 or XX
    /// that has no detail.
    #[must_use]
    pub fn with_connection(mut self, connection: u64) -> Self {
        if matches!(self.sqlstate.class(), "58" | "XX") {
            self.detail.get_or_insert_with(|| {
                format!("The log of multidb has more, under connection {connection}.")
            });
        }
        self
    }

    /// Appends the ErrorResponse.
    pub fn encode(&self, out: &mut BytesMut) {
        let report = Report {
            severity: self.severity.as_str(),
            sqlstate: self.sqlstate,
            message: &format!("{PREFIX}{}", self.message),
            detail: self.detail.as_deref(),
            hint: self.hint.as_deref(),
        };
        encode_error_response(out, &report);
    }

    /// Appends the error as clients of a protocol before 3 read it.
    pub fn encode_old(&self, out: &mut BytesMut) {
        let message = format!("{PREFIX}{}", self.message);
        encode_old_error(out, self.severity.as_str(), &message);
    }
}

impl ClientNotice {
    /// Appends the NoticeResponse, which a client takes only after AuthenticationOk.
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
