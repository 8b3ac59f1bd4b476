//! Between the handshake and the login: who the client is. Nothing is looked up, cloned or started before.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::handshake::Client;
use super::{ConnectionDeps, RefusalReason};
use crate::auth::address_of;
use crate::auth::{
    Account, Attempts, AuthenticationError, Exchange, Identity, MockSecret, ScramError, Users,
};
use crate::request::ConnectRequest;
use crate::wire::{
    Frame, SASL_BODY_LENGTH_MAX, decode_frame, decode_sasl_initial, encode_sasl_continue,
    encode_sasl_final, encode_sasl_offer,
};

/// How clients prove who they are.
#[derive(Debug, Clone)]
pub enum Method {
    /// They are believed.
    Trust,
    /// By a password, which SCRAM does not tell us; or by a certificate.
    Scram {
        /// The users, as they are now.
        users: tokio::sync::watch::Receiver<Users>,
        /// For those that do not exist.
        secret: MockSecret,
        /// The failures so far.
        attempts: Attempts,
    },
}

/// Why a client is not authenticated.
pub(super) enum Failure {
    /// It is told this.
    Refused(RefusalReason),
    /// It is gone.
    Broken(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<RefusalReason> for Failure {
    fn from(reason: RefusalReason) -> Self {
        Self::Refused(reason)
    }
}

impl From<AuthenticationError> for Failure {
    fn from(error: AuthenticationError) -> Self {
        Self::Refused(error.into())
    }
}

/// Who is asking. The caller bounds the time; an exchange of SCRAM allocates a few KiB.
pub(super) async fn authenticate(
    client: &mut Client,
    peer: &str,
    request: &ConnectRequest,
    deps: &ConnectionDeps,
) -> Result<Identity, Failure> {
    let binding = client.binding.take().unwrap_or_default();
    let said = request.user.as_deref();
    if let (Some(name), Some(said)) = (&binding.certificate_name, said)
        && name != said
    {
        let (certificate, user) = (name.clone(), said.to_owned());
        return Err(AuthenticationError::CertificateMismatch { certificate, user }.into());
    }
    let name = binding.certificate_name.as_deref().or(said);
    let name = name.unwrap_or(&deps.default_user).to_owned();
    let Method::Scram {
        users,
        secret,
        attempts,
    } = &deps.method
    else {
        return Ok(Identity::trusted(name));
    };
    let user = users.borrow().get(&name).cloned();
    if binding.certificate_name.is_some() {
        let user = user.ok_or_else(|| AuthenticationError::UnknownCertificate {
            certificate: name.clone(),
        })?;
        return Ok(Identity {
            name,
            user: Some(user),
        });
    }
    let address = address_of(peer);
    let may_try = || match attempts.wait(&address) {
        Some(wait) => Err(Failure::from(AuthenticationError::TooManyFailures { wait })),
        None => Ok(()),
    };
    may_try()?;
    let account = match &user {
        Some(user) => Account::User(user.verifier.clone()),
        None => Account::Mock(secret.verifier(&name, &users.borrow())),
    };
    let exchange = Exchange::new(account, binding.end_point);
    match prove(client, exchange, may_try).await? {
        Ok(()) => Ok(Identity { name, user }),
        Err(error) => {
            attempts.failed(&address);
            tracing::debug!(user = name, %error, "authentication failed");
            Err(AuthenticationError::of_scram(&name, error).into())
        }
    }
}

/// Lets the client prove its password. Whether it may try is asked again before its proof is looked at: a
/// thousand exchanges that were begun at once are as many attempts as if they had come one by one.
async fn prove(
    client: &mut Client,
    exchange: Exchange,
    may_try: impl Fn() -> Result<(), Failure>,
) -> Result<Result<(), ScramError>, Failure> {
    let mut out = BytesMut::new();
    encode_sasl_offer(&mut out, &exchange.mechanisms());
    client.socket.write_all(&out.split()).await?;
    let frame = client.response().await?;
    let Some(initial) = decode_sasl_initial(frame.body) else {
        return Ok(Err(ScramError::Malformed("no initial response")));
    };
    let challenged = match exchange.begin(&initial.mechanism, &initial.data) {
        Ok(challenged) => challenged,
        Err(error) => return Ok(Err(error)),
    };
    encode_sasl_continue(&mut out, challenged.challenge().as_bytes());
    client.socket.write_all(&out.split()).await?;
    let frame = client.response().await?;
    may_try()?;
    match challenged.finish(&frame.body) {
        Ok(last) => {
            encode_sasl_final(&mut out, last.as_bytes());
            client.socket.write_all(&out.split()).await?;
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(error)),
    }
}

impl Client {
    /// The client's next words in the exchange.
    async fn response(&mut self) -> Result<Frame, Failure> {
        loop {
            let decoded = decode_frame(&mut self.unread, SASL_BODY_LENGTH_MAX);
            if let Some(frame) = decoded.map_err(RefusalReason::from)? {
                return match frame.tag {
                    b'p' => Ok(frame),
                    // libpq hangs up like this when it has no password.
                    b'X' => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    tag => Err(RefusalReason::UnexpectedMessage { tag }.into()),
                };
            }
            if self.socket.read_buf(&mut self.unread).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}
