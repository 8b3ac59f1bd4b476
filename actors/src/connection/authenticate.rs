//! Authentication, between the handshake and the login. Nothing is looked up, cloned or started before it.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::handshake::Client;
use super::{ConnectionDeps, RefusalReason};
use crate::auth::{
    Account, Attempts, AuthenticationError, Exchange, Identity, MockSecret, ScramError, User,
    Users, address_of, password,
};
use crate::metrics::labels::LoginOutcome;
use crate::wire::{
    Frame, SASL_BODY_LENGTH_MAX, decode_frame, decode_sasl_initial, encode_sasl_continue,
    encode_sasl_final, encode_sasl_offer,
};

/// The authentication method of all clients.
#[derive(Debug, Clone)]
pub enum Method {
    /// No authentication.
    Trust,
    /// By a password, which SCRAM does not disclose, or by a certificate.
    Scram {
        /// The current users.
        users: watch::Receiver<Users>,
        /// For users that do not exist.
        secret: MockSecret,
        /// The recent failures.
        attempts: Attempts,
    },
}

impl Method {
    /// Authenticates a client that discloses its password, such as one over HTTP; with [`Method::Trust`], any. The
    /// failures of its address count like the failures of other clients.
    ///
    /// It computes for milliseconds, so call it on a thread that may block.
    ///
    /// # Errors
    ///
    /// The password is wrong, there is no such user, or it has to wait.
    pub fn check_password(
        &self,
        address: &str,
        name: &str,
        password: &str,
    ) -> Result<Identity, AuthenticationError> {
        let Self::Scram {
            users,
            secret,
            attempts,
        } = self
        else {
            return Ok(Identity::trusted(name));
        };
        if let Some(wait) = attempts.wait(address, name) {
            return Err(AuthenticationError::TooManyFailures { wait });
        }
        let user = users.borrow().get(name).cloned();
        let checked = password::check(account(user.as_deref(), name, secret, users), password);
        // Others may have failed meanwhile.
        if let Some(wait) = attempts.wait(address, name) {
            return Err(AuthenticationError::TooManyFailures { wait });
        }
        checked.map_err(|error| {
            attempts.failed(address, name);
            AuthenticationError::of_scram(name, false, error)
        })?;
        Ok(Identity {
            name: name.to_owned(),
            user,
        })
    }
}

/// The account that a client of this name tries to log in to.
fn account(
    user: Option<&User>,
    name: &str,
    secret: &MockSecret,
    users: &watch::Receiver<Users>,
) -> Account {
    match user {
        Some(user) => Account::User(user.verifier.clone()),
        None => Account::Mock(secret.verifier(name, &users.borrow())),
    }
}

/// Why the startup of a connection failed.
pub(super) enum StartupError {
    /// The client is refused.
    Refused(RefusalReason),
    /// The connection failed.
    Io(io::Error),
}

impl From<io::Error> for StartupError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<RefusalReason> for StartupError {
    fn from(reason: RefusalReason) -> Self {
        Self::Refused(reason)
    }
}

impl From<AuthenticationError> for StartupError {
    fn from(error: AuthenticationError) -> Self {
        Self::Refused(error.into())
    }
}

impl LoginOutcome {
    /// How an authentication ended, if the client did not leave before.
    pub(super) fn of(authenticated: &Result<Identity, StartupError>) -> Option<Self> {
        Some(match authenticated {
            Ok(_) => Self::Succeeded,
            Err(StartupError::Refused(RefusalReason::Authentication(
                AuthenticationError::TooManyFailures { .. },
            ))) => Self::Delayed,
            Err(StartupError::Refused(_)) => Self::Failed,
            Err(StartupError::Io(_)) => return None,
        })
    }
}

/// Authenticates the client. The caller bounds the time; a SCRAM exchange allocates a few KiB.
pub(super) async fn authenticate(
    client: &mut Client,
    peer: &str,
    requested: Option<&str>,
    deps: &ConnectionDeps,
) -> Result<Identity, StartupError> {
    let binding = client.binding.take().unwrap_or_default();
    let address = address_of(peer);
    // A certificate is nothing to guess, so that a valid one never waits.
    let refuse = |user: &str, error: AuthenticationError| {
        let Method::Scram { attempts, .. } = &deps.method else {
            return error;
        };
        if let Some(wait) = attempts.wait(&address, user) {
            return AuthenticationError::TooManyFailures { wait };
        }
        attempts.failed(&address, user);
        error
    };
    if let (Some(name), Some(requested)) = (&binding.certificate_name, requested)
        && name != requested
    {
        let (certificate, user) = (name.clone(), requested.to_owned());
        let error = AuthenticationError::CertificateMismatch { certificate, user };
        return Err(refuse(name, error).into());
    }
    let name = binding.certificate_name.as_deref().or(requested);
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
        let user = user.ok_or_else(|| {
            let certificate = name.clone();
            refuse(
                &name,
                AuthenticationError::UnknownCertificate { certificate },
            )
        })?;
        return Ok(Identity {
            name,
            user: Some(user),
        });
    }
    let may_try = || match attempts.wait(&address, &name) {
        Some(wait) => Err(StartupError::from(AuthenticationError::TooManyFailures {
            wait,
        })),
        None => Ok(()),
    };
    may_try()?;
    let account = account(user.as_deref(), &name, secret, users);
    let exchange = Exchange::new(account, binding.end_point);
    match prove(client, exchange, may_try).await {
        Ok(()) => Ok(Identity { name, user }),
        Err(ProofError::Startup(error)) => Err(error),
        Err(ProofError::Scram(error)) => {
            attempts.failed(&address, &name);
            tracing::debug!(user = name, %error, "authentication failed");
            Err(AuthenticationError::of_scram(&name, requested.is_none(), error).into())
        }
    }
}

/// Why a client has not proved its password.
enum ProofError {
    Startup(StartupError),
    Scram(ScramError),
}

impl From<StartupError> for ProofError {
    fn from(error: StartupError) -> Self {
        Self::Startup(error)
    }
}

impl From<io::Error> for ProofError {
    fn from(error: io::Error) -> Self {
        Self::Startup(error.into())
    }
}

/// Performs the SCRAM exchange. The limit of failures is checked again before the proof is verified, so that
/// exchanges begun at the same time count like sequential ones.
async fn prove(
    client: &mut Client,
    exchange: Exchange,
    may_try: impl Fn() -> Result<(), StartupError>,
) -> Result<(), ProofError> {
    let mut out = BytesMut::new();
    encode_sasl_offer(&mut out, &exchange.mechanisms());
    client.socket.write_all(&out.split()).await?;
    let frame = client.response().await?;
    let Some(initial) = decode_sasl_initial(frame.body) else {
        let error = ScramError::Malformed("no initial response");
        return Err(ProofError::Scram(error));
    };
    let challenged = exchange
        .begin(&initial.mechanism, &initial.data)
        .map_err(ProofError::Scram)?;
    encode_sasl_continue(&mut out, challenged.challenge().as_bytes());
    client.socket.write_all(&out.split()).await?;
    let frame = client.response().await?;
    may_try()?;
    let last = challenged.finish(&frame.body).map_err(ProofError::Scram)?;
    encode_sasl_final(&mut out, last.as_bytes());
    client.socket.write_all(&out.split()).await?;
    Ok(())
}

impl Client {
    /// Reads the client's next message of the exchange.
    async fn response(&mut self) -> Result<Frame, StartupError> {
        loop {
            let decoded = decode_frame(&mut self.unread, SASL_BODY_LENGTH_MAX);
            if let Some(frame) = decoded.map_err(RefusalReason::from)? {
                return match frame.tag {
                    b'p' => Ok(frame),
                    // Terminate: libpq disconnects like this when it has no password.
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
