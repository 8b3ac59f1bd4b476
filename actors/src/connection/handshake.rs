//! The handshake: encryption requests and the startup packet.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Socket;
use super::relay::CLOSE_TIMEOUT;
use super::tls::{Binding, SslNegotiation, Tls};
use crate::client_error::ClientError;
use crate::wire::{
    CancelRequest, ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED, EncryptionRequests, Refusal,
    StartupMessage, StartupRequest, TLS_REFUSED, WireError, decode_startup,
    encode_negotiate_protocol_version,
};

/// The purpose of a connection.
#[derive(Debug)]
pub(super) enum StartupIntent {
    /// A session.
    Session(StartupMessage),
    /// To cancel the query of another session.
    Cancel(CancelRequest),
    /// None: the client has disconnected, or was refused.
    Closed,
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: Socket,
    /// The bytes that were read and not yet decoded.
    pub(super) unread: BytesMut,
    /// Set by the TLS handshake.
    pub(super) binding: Option<Binding>,
}

impl Client {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            unread: BytesMut::new(),
            binding: None,
        }
    }

    /// Reads up to the startup packet, and negotiates TLS and the protocol version.
    ///
    /// The caller bounds the time. The limit of the startup packet bounds the bytes: a longer one is refused
    /// by its length alone.
    pub(super) async fn startup_intent(&mut self, tls: Option<&Tls>) -> io::Result<StartupIntent> {
        let mut encryption = EncryptionRequests::default();
        loop {
            let request = match decode_startup(&mut self.unread) {
                Ok(Some(request)) => request,
                Ok(None) => {
                    if self.socket.read_buf(&mut self.unread).await? == 0 {
                        return Ok(StartupIntent::Closed);
                    }
                    continue;
                }
                Err(WireError::DirectTls) if encryption.none_yet() && self.supports_tls(tls) => {
                    encryption.begun_directly();
                    self.start_tls(tls, SslNegotiation::Direct).await?;
                    continue;
                }
                Err(error) => return self.refuse_bytes(error).await,
            };
            if let Err(error) = encryption.admit(&request, &self.unread) {
                return self.refuse_bytes(error).await;
            }
            match request {
                StartupRequest::Ssl if self.supports_tls(tls) => {
                    self.socket.write_all(ENCRYPTION_ACCEPTED).await?;
                    self.start_tls(tls, SslNegotiation::Request).await?;
                }
                StartupRequest::Ssl | StartupRequest::GssEnc => {
                    self.socket.write_all(ENCRYPTION_REFUSED).await?;
                }
                StartupRequest::Cancel(request) => return Ok(StartupIntent::Cancel(request)),
                StartupRequest::Startup(message) => {
                    if let Some(negotiation) = message.negotiation() {
                        let mut answer = BytesMut::new();
                        encode_negotiate_protocol_version(&mut answer, &negotiation);
                        self.socket.write_all(&answer).await?;
                    }
                    return Ok(StartupIntent::Session(message));
                }
            }
        }
    }

    fn supports_tls(&self, tls: Option<&Tls>) -> bool {
        tls.is_some() && self.socket.supports_tls()
    }

    async fn start_tls(
        &mut self,
        tls: Option<&Tls>,
        negotiation: SslNegotiation,
    ) -> io::Result<()> {
        if let Some(tls) = tls {
            let server = tls.server.borrow().clone();
            let read_ahead = std::mem::take(&mut self.unread);
            let binding = self
                .socket
                .start_tls(read_ahead, &server, negotiation)
                .await?;
            self.binding = Some(binding);
        }
        Ok(())
    }

    async fn refuse_bytes(&mut self, error: WireError) -> io::Result<StartupIntent> {
        tracing::debug!(
            error = multidb_store::error_chain(&error),
            "malformed login"
        );
        match error.refusal() {
            Refusal::Close => {}
            Refusal::TlsAlert => self.socket.write_all(TLS_REFUSED).await?,
            Refusal::ErrorResponse => self.refuse(&ClientError::from(&error)).await?,
            Refusal::OldErrorResponse => {
                let mut message = BytesMut::new();
                ClientError::from(&error).encode_old(&mut message);
                self.socket.write_all(&message).await?;
            }
        }
        Ok(StartupIntent::Closed)
    }

    /// Sends the client an error and closes the connection.
    pub(super) async fn refuse(&mut self, error: &ClientError) -> io::Result<()> {
        let mut message = BytesMut::new();
        error.encode(&mut message);
        self.send_last(&message).await
    }

    /// Sends the client its last messages and closes the connection. [`CLOSE_TIMEOUT`] bounds the time, since
    /// the client may not read.
    pub(super) async fn send_last(&mut self, messages: &[u8]) -> io::Result<()> {
        let sent = async {
            self.socket.write_all(messages).await?;
            self.socket.shutdown().await
        };
        let sent = tokio::time::timeout(CLOSE_TIMEOUT, sent).await;
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Resolves when the client has disconnected. Bytes that it sends are kept, up to a limit: a client may
    /// send its first query before the login is complete.
    pub(super) async fn disconnected(&mut self) {
        const AHEAD_BYTES_MAX: usize = 64 << 10;
        loop {
            if self.unread.len() >= AHEAD_BYTES_MAX {
                return std::future::pending().await;
            }
            match self.socket.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
