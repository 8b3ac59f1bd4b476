//! The first part of a connection, before anything is known of the client: encryption requests
//! and the startup packet.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Socket;
use super::relay::GOODBYE_PATIENCE;
use super::tls::{Binding, SslNegotiation, Tls};
use crate::client_error::ClientError;
use crate::wire::{
    CancelRequest, ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED, EncryptionRequests, Refusal,
    StartupMessage, StartupRequest, TLS_REFUSED, WireError, decode_startup,
    encode_negotiate_protocol_version,
};

/// What a client wants.
#[derive(Debug)]
pub(super) enum Wish {
    /// A session.
    Session(StartupMessage),
    /// The end of another session's query.
    Cancel(CancelRequest),
    /// Nothing more: it has hung up, or was refused.
    Nothing,
}

/// A client's socket with what was read of it and not yet used.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: Socket,
    pub(super) unread: BytesMut,
    /// What TLS tells of the client, once it speaks TLS.
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

    /// Reads until the client says what it wants, and tells it what we cannot speak.
    ///
    /// The caller bounds the time. The bytes are bounded by the startup packet's limit: a claim
    /// of more is refused before it is waited for.
    pub(super) async fn wish(&mut self, tls: Option<&Tls>) -> io::Result<Wish> {
        let mut encryption = EncryptionRequests::default();
        loop {
            let request = match decode_startup(&mut self.unread) {
                Ok(Some(request)) => request,
                Ok(None) => {
                    if self.socket.read_buf(&mut self.unread).await? == 0 {
                        return Ok(Wish::Nothing);
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
                StartupRequest::Cancel(request) => return Ok(Wish::Cancel(request)),
                StartupRequest::Startup(message) => {
                    if let Some(negotiation) = message.negotiation() {
                        let mut answer = BytesMut::new();
                        encode_negotiate_protocol_version(&mut answer, &negotiation);
                        self.socket.write_all(&answer).await?;
                    }
                    return Ok(Wish::Session(message));
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

    async fn refuse_bytes(&mut self, error: WireError) -> io::Result<Wish> {
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
        Ok(Wish::Nothing)
    }

    /// Tells the client why it gets no session.
    pub(super) async fn refuse(&mut self, error: &ClientError) -> io::Result<()> {
        let mut message = BytesMut::new();
        error.encode(&mut message);
        self.say_last(&message).await
    }

    /// Sends the client the last that it hears of us. One that does not read it is not waited for.
    pub(super) async fn say_last(&mut self, words: &[u8]) -> io::Result<()> {
        let said = async {
            self.socket.write_all(words).await?;
            self.socket.shutdown().await
        };
        let said = tokio::time::timeout(GOODBYE_PATIENCE, said).await;
        said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Resolves when the client has hung up. What it says instead is kept, up to a bound: a
    /// client may send its first query before it is told that it may.
    pub(super) async fn hung_up(&mut self) {
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
