//! Logs in to an instance's Postgres, up to its first ReadyForQuery.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use multidb_store::InstanceName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::{RefusalReason, Socket};
use crate::client_error::LIBRARY_HINT;
use crate::instance::{InstanceError, Lease};
use crate::wire::{BackendMessage, ErrorFields, decode_backend, encode_authentication_ok};

/// The longest login of a backend, in bytes.
const LOGIN_BYTES_MAX: usize = 256 << 10;
/// The delay before the next attempt at a Postgres that is starting up; it doubles each time.
const STARTING_DELAY: Duration = Duration::from_millis(2);
const STARTING_DELAY_MAX: Duration = Duration::from_millis(50);

/// A backend that waits for its first query.
pub(super) struct Backend {
    pub(super) socket: Socket,
    /// The bytes behind the login.
    pub(super) unread: BytesMut,
    /// The messages behind AuthenticationOk, up to ReadyForQuery.
    pub(super) messages: BytesMut,
    /// The process id and the secret.
    pub(super) cancel_key: (i32, Vec<u8>),
    /// Whether it has sent AuthenticationOk.
    authenticated: bool,
}

/// Why a backend gives no session.
#[derive(Debug)]
pub(super) enum BackendError {
    /// The backend refused the login.
    Refused(Refusal),
    /// Postgres did not finish its startup or the login in time.
    Timeout(RefusalReason),
    /// Postgres could not be reached, or closed the connection.
    Lost,
}

/// A login that the backend refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The backend's messages for the client: unchanged, but for a hint where a library cannot be loaded, or where
    /// there is no such database.
    pub(super) messages: Bytes,
    /// The backend's message about a library that is loaded at each login, and cannot be.
    pub(super) library: Option<String>,
    /// The same login would be refused each time.
    pub(super) is_final: bool,
}

/// The result of one attempt.
enum Attempt {
    LoggedIn(Backend),
    StartingUp,
    Refused(Refusal),
}

impl Backend {
    /// Logs in with this startup packet. Tries again while Postgres is starting up.
    pub(super) async fn log_in(
        lease: &Lease,
        startup: &[u8],
        timeout: Duration,
        instance: &InstanceName,
        database_hint: &str,
    ) -> Result<Self, BackendError> {
        let attempts = async {
            let mut delay = STARTING_DELAY;
            loop {
                match Self::attempt(lease, startup, database_hint).await {
                    Ok(Attempt::LoggedIn(backend)) => return Ok(backend),
                    Ok(Attempt::StartingUp) => {
                        tokio::time::sleep(delay).await;
                        delay = (delay * 2).min(STARTING_DELAY_MAX);
                    }
                    Ok(Attempt::Refused(refusal)) => return Err(BackendError::Refused(refusal)),
                    Err(error) => {
                        tracing::info!(%instance, %error, "login to postgres failed");
                        return Err(BackendError::Lost);
                    }
                }
            }
        };
        let began = Instant::now();
        let logged_in = tokio::time::timeout(timeout, attempts).await;
        logged_in.unwrap_or_else(|_| {
            let elapsed_ms = began.elapsed().as_millis() as u64;
            tracing::warn!(%instance, elapsed_ms, "login to postgres timed out");
            Err(BackendError::Timeout(RefusalReason::Instance {
                instance: instance.clone(),
                error: InstanceError::StartTimeout { limit: timeout },
            }))
        })
    }

    /// The backend's messages up to an error, for the client. A missing role or database is reported after
    /// the authentication.
    fn refusal(&self, fields: &ErrorFields, error: &[u8], database_hint: &str) -> Refusal {
        let mut messages = BytesMut::new();
        if self.authenticated {
            encode_authentication_ok(&mut messages);
        }
        messages.extend_from_slice(&self.messages);
        let is_about_a_library = fields.is_about_a_library();
        let hint = match (is_about_a_library, fields.is_about_the_database()) {
            (true, _) => Some(LIBRARY_HINT),
            (false, true) => Some(database_hint),
            (false, false) => None,
        };
        match hint.filter(|_| fields.hint().is_none()) {
            Some(hint) => fields.encode_error_with_hint(&mut messages, hint),
            None => messages.extend_from_slice(error),
        }
        Refusal {
            messages: messages.freeze(),
            library: is_about_a_library.then(|| fields.message().into_owned()),
            is_final: fields.is_final(),
        }
    }

    async fn attempt(lease: &Lease, startup: &[u8], database_hint: &str) -> io::Result<Attempt> {
        let mut backend = Self {
            socket: Socket::connect(&lease.server.endpoint).await?,
            unread: BytesMut::with_capacity(1024),
            messages: BytesMut::new(),
            cancel_key: (0, Vec::new()),
            authenticated: false,
        };
        backend.socket.write_all(startup).await?;
        let mut bytes_left = LOGIN_BYTES_MAX;
        loop {
            let frame = match decode_backend(&mut backend.unread) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    if backend.socket.read_buf(&mut backend.unread).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            // Also of the messages that are not passed on.
            bytes_left = bytes_left
                .checked_sub(frame.raw.len())
                .ok_or_else(|| io::Error::other("the login to postgres is too long"))?;
            match frame.message {
                BackendMessage::AuthenticationOk => {
                    backend.authenticated = true;
                    continue;
                }
                BackendMessage::NegotiateProtocolVersion { .. } => continue,
                BackendMessage::AuthenticationRequest { kind } => {
                    let error = format!("postgres requests authentication of kind {kind}");
                    return Err(io::Error::other(error));
                }
                BackendMessage::ErrorResponse(fields) => {
                    if fields.is_starting_up() {
                        return Ok(Attempt::StartingUp);
                    }
                    let refusal = backend.refusal(&fields, &frame.raw, database_hint);
                    return Ok(Attempt::Refused(refusal));
                }
                BackendMessage::BackendKeyData {
                    process_id,
                    ref key,
                } => backend.cancel_key = (process_id, key.to_vec()),
                BackendMessage::NoticeResponse(_)
                | BackendMessage::ParameterStatus { .. }
                | BackendMessage::ReadyForQuery { .. }
                | BackendMessage::Other { .. } => {}
            }
            backend.messages.extend_from_slice(&frame.raw);
            if matches!(frame.message, BackendMessage::ReadyForQuery { .. }) {
                return Ok(Attempt::LoggedIn(backend));
            }
        }
    }
}
