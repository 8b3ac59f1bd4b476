//! The login of an authenticated client: attaches it to its instance and logs in to a backend for it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::attach::{Attached, attach};
use super::backend::{Backend, BackendError};
use super::{ConnectionDeps, RefusalReason, Socket};
use crate::auth::Identity;
use crate::instance::{Lease, NotWanted};
use crate::limits::IdleLimits;
use crate::metrics::LoginTimes;
use crate::request::ConnectRequest;
use crate::sessions::LoginPlace;
use crate::supervisor::Acquired;
use crate::wire::{BackendStartup, StartupMessage, encode_authentication_ok};

/// The limit for repeated attempts at a Postgres that closes the connection during the login.
const LOST_TIMEOUT: Duration = Duration::from_secs(5);
/// The delay before the next of these attempts.
const LOST_DELAY: Duration = Duration::from_millis(20);

/// How long a client that can have no session waits for the deletion of the instance that was made for it.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A session that is ready to be relayed.
pub(super) struct EstablishedSession {
    /// The connection to the backend.
    pub(super) backend: Socket,
    /// The messages to the client that end its login: AuthenticationOk to ReadyForQuery.
    pub(super) greeting: Bytes,
    /// The backend's bytes behind its login.
    pub(super) beyond: Bytes,
    /// The backend's process id and secret.
    pub(super) cancel_key: (i32, Vec<u8>),
    /// Keeps the instance running.
    pub(super) lease: Lease,
    /// The session's properties.
    pub(super) info: SessionInfo,
    /// How long the login took so far.
    pub(super) times: LoginTimes,
}

/// The properties of a session that its login determines.
pub(super) struct SessionInfo {
    pub(super) request: ConnectRequest,
    pub(super) idle: IdleLimits,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) role: String,
    pub(super) application_name: String,
}

/// A client that has authenticated.
pub(super) struct AuthenticatedClient {
    /// The startup packet.
    pub(super) message: StartupMessage,
    /// The parameters for multidb, from the user name and the options.
    pub(super) request: ConnectRequest,
    /// The options for Postgres.
    pub(super) options: Option<Vec<u8>>,
    /// The user.
    pub(super) identity: Identity,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum LoginError {
    /// Refused by multidb.
    Refused(RefusalReason),
    /// Refused by the backend, whose messages the client gets.
    RefusedByBackend(Bytes),
}

impl From<RefusalReason> for LoginError {
    fn from(reason: RefusalReason) -> Self {
        Self::Refused(reason)
    }
}

/// Logs the client in to its instance. If Postgres has just died, its instance notices a moment later, and
/// the next attempt waits for its successor.
pub(super) async fn log_in(
    client: AuthenticatedClient,
    deps: &ConnectionDeps,
) -> Result<EstablishedSession, LoginError> {
    let request = &client.request;
    let deadline = Instant::now() + LOST_TIMEOUT;
    loop {
        let attached = attach(request, &client.identity, deps).await?;
        let settings = &attached.acquired.settings;
        let role = request.role.as_ref().unwrap_or(&settings.role).clone();
        let startup = client
            .message
            .encode_for_backend(&BackendStartup {
                user: role.as_bytes(),
                default_database: settings.database.as_bytes(),
                options: client.options.as_deref(),
            })
            .map_err(RefusalReason::from)?;
        let timeout = deps.limits.start_timeout;
        let hint = database_hint(&attached);
        let began = Instant::now();
        match Backend::log_in(&attached.lease, &startup, timeout, &request.instance, &hint).await {
            Ok(backend) => {
                let times = times(&attached, began.elapsed());
                return Ok(establish(client, role, attached, backend, times, deps));
            }
            Err(BackendError::Refused(refusal)) => {
                if let Some(library) = refusal.library {
                    let place = place(&client.message, &role, &attached);
                    tracing::info!(?place, library, "a library lets nobody in");
                    deps.sessions.login_faults().note(place, library);
                }
                if refusal.is_final {
                    remove_unwanted(attached).await;
                }
                return Err(LoginError::RefusedByBackend(refusal.messages));
            }
            Err(BackendError::Timeout(reason)) => return Err(reason.into()),
            Err(BackendError::Lost) if Instant::now() < deadline => {
                drop(attached);
                tokio::time::sleep(LOST_DELAY).await;
            }
            Err(BackendError::Lost) => {
                let instance = request.instance.clone();
                return Err(RefusalReason::BackendLost { instance }.into());
            }
        }
    }
}

/// The hint for a client that asks for a database that does not exist.
fn database_hint(attached: &Attached) -> String {
    let Acquired {
        record, settings, ..
    } = &attached.acquired;
    format!(
        "The database of project \"{}\" is \"{}\".",
        record.project, settings.database
    )
}

/// Deletes the instance if it was made for this login, which Postgres would always refuse: it would only be left
/// behind.
async fn remove_unwanted(attached: Attached) {
    let Attached {
        acquired, lease, ..
    } = attached;
    if acquired.created.is_none() {
        return;
    }
    let removed = acquired.addr.send(NotWanted(lease));
    let removed = tokio::time::timeout(REMOVAL_TIMEOUT, removed).await;
    if !matches!(removed, Ok(Ok(true))) {
        let instance = &acquired.record.name;
        tracing::info!(%instance, ?removed, "an instance that was made for a login without a session is kept");
    }
}

/// The role and the database of a login.
fn place(message: &StartupMessage, role: &str, attached: &Attached) -> LoginPlace {
    let default = &attached.acquired.settings.database;
    let database = message.database(role.as_bytes());
    LoginPlace {
        uid: attached.acquired.record.uid,
        database: database.map_or_else(
            || default.clone(),
            |database| String::from_utf8_lossy(database).into_owned(),
        ),
        role: role.to_owned(),
    }
}

/// How long the parts of the login took, as far as they are known here.
fn times(attached: &Attached, connect: Duration) -> LoginTimes {
    let created = attached.acquired.created.as_ref();
    let beginning = attached.lease.beginning;
    LoginTimes {
        choose: created.and_then(|created| created.choose),
        fetch: created.and_then(|created| created.fetch),
        clone: beginning.and_then(|beginning| beginning.clone),
        start: beginning.map(|beginning| beginning.start),
        connect,
        ..LoginTimes::default()
    }
}

fn establish(
    client: AuthenticatedClient,
    role: String,
    attached: Attached,
    backend: Backend,
    times: LoginTimes,
    deps: &ConnectionDeps,
) -> EstablishedSession {
    let AuthenticatedClient {
        message,
        request,
        identity,
        options: _,
    } = client;
    let place = place(&message, &role, &attached);
    let settings = attached.acquired.settings;
    let mut greeting = BytesMut::new();
    encode_authentication_ok(&mut greeting);
    for notice in attached.notices {
        notice.encode(&mut greeting);
    }
    greeting.extend_from_slice(&backend.messages);
    deps.sessions.login_faults().forget(&place);
    let database = place.database;
    let application_name = message.get_str("application_name").unwrap_or_default();
    let idle = deps.limits.idle.overridden_by(settings.idle);
    EstablishedSession {
        backend: backend.socket,
        greeting: greeting.freeze(),
        beyond: backend.unread.freeze(),
        cancel_key: backend.cancel_key,
        lease: attached.lease,
        times,
        info: SessionInfo {
            user: identity.name,
            database,
            role,
            application_name: application_name.to_owned(),
            idle: idle.overridden_by(request.idle),
            request,
        },
    }
}
