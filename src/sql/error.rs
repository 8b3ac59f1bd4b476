//! Why a server gave no answer that can be used.

use std::io;
use std::time::Duration;

use multidb_actors::wire::{ErrorFields, SqlState, WireError};

/// The most characters of a server's text in messages and logs.
const TEXT_LENGTH_MAX: usize = 500;

/// Why a login or a query failed.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// Nothing listens on its socket, or the file is no socket.
    #[error("no connection to its socket")]
    Unreachable(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server did not finish its answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is not the protocol.
    #[error("the answer is not Postgres' protocol")]
    Wire(#[from] WireError),
    /// The answer has more bytes than any right one.
    #[error("the answer is too long")]
    TooLong,
    /// The answer has more rows than were asked for.
    #[error("the answer has more than {0} rows")]
    TooManyRows(usize),
    /// The answer is not of the form that the query has.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// Postgres reports an error.
    #[error("{0}")]
    Server(ServerMessage),
}

impl SqlError {
    /// Whether Postgres reported this SQLSTATE.
    pub fn has_state(&self, state: SqlState) -> bool {
        matches!(self, Self::Server(message) if message.sqlstate == state.as_str())
    }

    /// Whether the server answered, so that its other databases can be tried.
    pub fn is_of_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

/// An error that a server reports, as far as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerMessage {
    /// The SQLSTATE.
    sqlstate: String,
    /// The message, on one line.
    message: String,
    /// More about it, on one line.
    detail: Option<String>,
}

impl ServerMessage {
    pub(super) fn of(fields: &ErrorFields) -> Self {
        Self {
            sqlstate: one_line(&fields.sqlstate()),
            message: one_line(&fields.message()),
            detail: fields.detail().map(|detail| one_line(&detail)),
        }
    }

    /// An error that is too long to be kept.
    pub(super) fn too_long() -> Self {
        Self {
            sqlstate: String::new(),
            message: "an error with a message that is too long".to_owned(),
            detail: None,
        }
    }

    /// An error by multidb itself about a statement.
    pub fn of_multidb(message: &str) -> Self {
        Self {
            sqlstate: String::new(),
            message: message.to_owned(),
            detail: None,
        }
    }

    /// The SQLSTATE, empty if it is not known.
    pub fn sqlstate(&self) -> &str {
        &self.sqlstate
    }

    /// More about the error.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl std::fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A server's text for a message, a log or a terminal: on one line, without control characters, shortened
/// if it is long.
pub fn one_line(text: &str) -> String {
    let mut characters = text.chars();
    let mut line: String = characters
        .by_ref()
        .take(TEXT_LENGTH_MAX)
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}
