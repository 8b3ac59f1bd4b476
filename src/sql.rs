//! multidb's own sessions with a Postgres: simple queries, and answers of text.
//!
//! Nothing is believed of the other side: a superuser of an instance may have replaced a catalog view, an
//! operator or the whole program, and may have changed the settings of roles and databases. So a session
//! sets for itself every value that such settings could change, every await has a limit, every answer a
//! bound, and a value of another form is an error. General drivers look up types at the server and read
//! messages of any length.

mod error;
mod login;
mod row;
mod script;

use std::time::Duration;

use bytes::BytesMut;
use multidb_actors::connection::Socket;
use multidb_actors::wire::{
    AnswerMessage, BackendMessage, decode_answer, decode_backend, encode_own_startup, encode_query,
    encode_terminate,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

pub use self::error::{ServerMessage, SqlError, one_line};
pub use self::login::{Login, Privileges, SearchPath};
pub use self::row::Row;
pub use self::script::Ended;

/// The most bytes of a login.
const LOGIN_BYTES_MAX: usize = 256 << 10;
/// The room for each read.
const READ_BYTES: usize = 4 << 10;
/// The limit for telling a server of the end of a session.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// The bounds of an answer.
#[derive(Debug, Clone, Copy)]
pub struct AnswerLimits {
    /// The time until it is complete; `None` where its caller may be cancelled instead.
    pub time: Option<Duration>,
    /// The most rows.
    pub rows: usize,
    /// The most bytes, messages without meaning included.
    pub bytes: usize,
}

impl AnswerLimits {
    /// Of a statement that returns no rows.
    pub fn of_command(time: Option<Duration>) -> Self {
        Self {
            time,
            rows: 0,
            bytes: 1 << 20,
        }
    }
}

/// A session that waits for its next query. Dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    socket: Socket,
    unread: BytesMut,
    /// Of a script's statements.
    script: script::Answer,
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    ///
    /// Nothing listens, the server refuses the login, or it does not follow the protocol in time.
    pub async fn connect(login: &Login<'_>, limit: Duration) -> Result<Self, SqlError> {
        let log_in = async {
            let socket = Socket::connect(login.endpoint).await;
            let mut session = Self {
                socket: socket.map_err(SqlError::Unreachable)?,
                unread: BytesMut::new(),
                script: script::Answer::default(),
            };
            session.log_in(login).await?;
            Ok(session)
        };
        let done = tokio::time::timeout(limit, log_in).await;
        done.unwrap_or(Err(SqlError::Timeout(limit)))
    }

    async fn log_in(&mut self, login: &Login<'_>) -> Result<(), SqlError> {
        let parameters = login.parameters();
        let parameters: Vec<(&str, &str)> = parameters
            .iter()
            .map(|(name, value)| (*name, value.as_ref()))
            .collect();
        let startup = encode_own_startup(&parameters)?;
        self.socket.write_all(&startup).await?;
        let mut bytes_left = LOGIN_BYTES_MAX;
        loop {
            let Some(frame) = decode_backend(&mut self.unread)? else {
                self.read().await?;
                continue;
            };
            bytes_left = bytes_left
                .checked_sub(frame.raw.len())
                .ok_or(SqlError::TooLong)?;
            match frame.message {
                BackendMessage::ReadyForQuery { .. } => return Ok(()),
                BackendMessage::ErrorResponse(fields) => {
                    return Err(SqlError::Server(ServerMessage::of(&fields)));
                }
                BackendMessage::AuthenticationRequest { .. } => {
                    return Err(SqlError::Unexpected("a request for a password".to_owned()));
                }
                BackendMessage::AuthenticationOk
                | BackendMessage::NegotiateProtocolVersion { .. }
                | BackendMessage::NoticeResponse(_)
                | BackendMessage::ParameterStatus { .. }
                | BackendMessage::BackendKeyData { .. }
                | BackendMessage::Other { .. } => {}
            }
        }
    }

    /// Runs a query and returns its rows. The session is of no more use after an error other than one of
    /// Postgres.
    ///
    /// # Errors
    ///
    /// Postgres reports one, or the answer exceeds its limits or does not follow the protocol.
    pub async fn query(
        &mut self,
        statement: &str,
        limits: AnswerLimits,
    ) -> Result<Vec<Row>, SqlError> {
        let answer = self.answer(statement, limits);
        match limits.time {
            None => answer.await,
            Some(time) => timeout_at(Instant::now() + time, answer)
                .await
                .unwrap_or(Err(SqlError::Timeout(time))),
        }
    }

    async fn answer(
        &mut self,
        statement: &str,
        limits: AnswerLimits,
    ) -> Result<Vec<Row>, SqlError> {
        let mut query = BytesMut::new();
        encode_query(&mut query, statement);
        self.socket.write_all(&query).await?;
        let mut rows = Vec::new();
        let mut failure = None;
        let mut bytes_left = limits.bytes;
        loop {
            let length_max = u32::try_from(bytes_left).unwrap_or(u32::MAX);
            let before = self.unread.len();
            let Some(message) = decode_answer(&mut self.unread, length_max)? else {
                if let Err(error) = self.read().await {
                    // A fatal error is a backend's last message.
                    return Err(failure.map_or(error, SqlError::Server));
                }
                continue;
            };
            bytes_left = bytes_left
                .checked_sub(before.saturating_sub(self.unread.len()))
                .ok_or(SqlError::TooLong)?;
            match message {
                AnswerMessage::Row(_) if rows.len() >= limits.rows => {
                    return Err(SqlError::TooManyRows(limits.rows));
                }
                AnswerMessage::Row(values) => rows.push(Row::new(values)),
                AnswerMessage::Error(fields) => {
                    failure.get_or_insert_with(|| ServerMessage::of(&fields));
                }
                AnswerMessage::Ready => {
                    return failure.map_or(Ok(rows), |failure| Err(SqlError::Server(failure)));
                }
                AnswerMessage::Other { .. } => {}
            }
        }
    }

    /// Runs a statement that returns no rows.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(
        &mut self,
        statement: &str,
        limit: Option<Duration>,
    ) -> Result<(), SqlError> {
        let limits = AnswerLimits::of_command(limit);
        self.query(statement, limits).await.map(drop)
    }

    /// Ends the session in the orderly way.
    pub async fn close(mut self) {
        let mut terminate = BytesMut::new();
        encode_terminate(&mut terminate);
        let sent = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.write_all(&terminate)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!("a server was not told of the end of a session");
        }
    }

    async fn read(&mut self) -> Result<(), SqlError> {
        self.unread.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.unread).await? {
            0 => Err(SqlError::Closed),
            _ => Ok(()),
        }
    }
}

/// A quoted literal of SQL. A session sets `standard_conforming_strings`, so a backslash is an ordinary
/// character.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A quoted identifier of SQL.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
