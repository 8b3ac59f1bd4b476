//! The second part of a connection: from the startup packet to the backend's first ReadyForQuery.
//!
//! Its client has proved who it is; only now is anything looked up, cloned or started.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{ConnectionDeps, RefusalReason, Socket};
use crate::auth::Identity;
use crate::client_error::ClientNotice;
use crate::instance::{Attach, InstanceError, Lease};
use crate::limits::{IdleLimits, IdleTimeouts};
use crate::ports::Freshness;
use crate::request::{ConnectRequest, Source};
use crate::snapshot_index::Choose;
use crate::supervisor::{Acquire, AcquireError, Acquired};
use crate::wire::{
    BackendMessage, BackendStartup, StartupMessage, decode_backend, encode_authentication_ok,
};

/// The most bytes that a backend's whole login may take.
const LOGIN_BYTES_MAX: usize = 256 << 10;
/// How long to wait before a backend that is still starting is asked again.
const STARTING_PAUSE: Duration = Duration::from_millis(2);
/// For how long a Postgres that breaks off logins is tried again, and how often.
const LOST_PATIENCE: Duration = Duration::from_secs(5);
const LOST_PAUSE: Duration = Duration::from_millis(20);
/// How often an instance that was deleted under the client's hands is asked for anew.
const REDIRECTS_MAX: usize = 8;
/// How long a notice about another snapshot may keep a session waiting that is otherwise ready.
const NOTICE_PATIENCE: Duration = Duration::from_millis(20);

/// A session that is ready to be relayed.
pub(super) struct Established {
    /// The connection to the backend.
    pub(super) backend: Socket,
    /// What the client is to be sent first: AuthenticationOk to ReadyForQuery.
    pub(super) greeting: Bytes,
    /// What the backend said beyond its login.
    pub(super) beyond: Bytes,
    /// The backend's process id and secret.
    pub(super) cancel_key: (i32, Vec<u8>),
    /// The hold on the instance.
    pub(super) lease: Lease,
    /// What was asked for, for the table of sessions.
    pub(super) facts: Facts,
}

/// What is known of a session from its login.
pub(super) struct Facts {
    pub(super) request: ConnectRequest,
    pub(super) idle: IdleLimits,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) role: String,
    pub(super) application_name: String,
}

/// A client that has proved who it is, and what it wants.
pub(super) struct Known {
    /// Its startup packet.
    pub(super) message: StartupMessage,
    /// What its user name and options ask of multidb.
    pub(super) request: ConnectRequest,
    /// The options that are for Postgres.
    pub(super) options: Option<Vec<u8>>,
    /// Who it is.
    pub(super) identity: Identity,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum LoginError {
    /// The client is told this.
    Refused(RefusalReason),
    /// The backend refused, and the client gets its words as they are.
    Backend(Bytes),
    /// The backend could not be reached, or broke off.
    Lost,
}

impl From<RefusalReason> for LoginError {
    fn from(reason: RefusalReason) -> Self {
        Self::Refused(reason)
    }
}

/// Gets the client a session on the instance that it names.
pub(super) async fn login(known: Known, deps: &ConnectionDeps) -> Result<Established, LoginError> {
    let reached = reach(&known, deps).await?;
    let Known {
        message,
        request,
        identity,
        ..
    } = known;
    let Reached {
        backend,
        lease,
        notice,
        role,
        database,
        project_idle,
    } = reached;
    let mut greeting = BytesMut::new();
    encode_authentication_ok(&mut greeting);
    if let Some(notice) = notice {
        notice.encode(&mut greeting);
    }
    greeting.extend_from_slice(&backend.messages);
    Ok(Established {
        backend: backend.socket,
        greeting: greeting.freeze(),
        beyond: backend.unread.freeze(),
        cancel_key: backend.cancel_key,
        lease,
        facts: Facts {
            user: identity.name,
            database,
            role,
            application_name: message
                .get_str("application_name")
                .unwrap_or_default()
                .to_owned(),
            idle: deps
                .limits
                .idle
                .overridden_by(project_idle)
                .overridden_by(request.idle),
            request,
        },
    })
}

/// A backend that lets the client in, and how it was reached.
struct Reached {
    backend: Backend,
    lease: Lease,
    notice: Option<ClientNotice>,
    role: String,
    database: String,
    project_idle: IdleTimeouts,
}

/// Attaches to the instance and logs in to its Postgres. One that has just died is known to its
/// instance a moment later, and the next attempt waits for its successor.
async fn reach(known: &Known, deps: &ConnectionDeps) -> Result<Reached, LoginError> {
    let Known {
        message,
        request,
        options,
        identity,
    } = known;
    let deadline = Instant::now() + LOST_PATIENCE;
    loop {
        let (acquired, lease, notice) = attach(request, identity, deps).await?;
        let role = request.role.clone();
        let role = role.unwrap_or_else(|| acquired.settings.role.clone());
        let startup = message
            .encode_for_backend(&BackendStartup {
                user: role.as_bytes(),
                default_database: acquired.settings.database.as_bytes(),
                options: options.as_deref(),
            })
            .map_err(RefusalReason::from)?;
        match Backend::login(&lease, &startup, deps.limits.start_timeout, request).await {
            Ok(backend) => {
                let database = message.database(role.as_bytes());
                let database = database.map_or(acquired.settings.database, |database| {
                    String::from_utf8_lossy(database).into_owned()
                });
                return Ok(Reached {
                    project_idle: acquired.settings.idle,
                    backend,
                    lease,
                    notice,
                    role,
                    database,
                });
            }
            Err(LoginError::Lost) if Instant::now() < deadline => {
                drop(lease);
                tokio::time::sleep(LOST_PAUSE).await;
            }
            Err(LoginError::Lost) => {
                let instance = request.instance.clone();
                return Err(RefusalReason::BackendLost { instance }.into());
            }
            Err(error) => return Err(error),
        }
    }
}

/// A lease on the instance, which is created or started for it, and a remark for the client.
async fn attach(
    request: &ConnectRequest,
    identity: &Identity,
    deps: &ConnectionDeps,
) -> Result<(Acquired, Lease, Option<ClientNotice>), RefusalReason> {
    let name = &request.instance;
    for _ in 0..REDIRECTS_MAX {
        let acquire = Acquire {
            request: request.clone(),
            identity: identity.clone(),
        };
        let acquired = deps.supervisor.send(acquire).await;
        let acquired = acquired.unwrap_or(Err(AcquireError::ShuttingDown))?;
        let notice = notice(request.source.clone(), acquired.clone(), deps.clone());
        // Looked up while the instance starts.
        let notice = AbortOnDropHandle::new(actix_rt::spawn(notice));
        let attached = acquired.addr.send(Attach).await;
        match attached.unwrap_or(Err(InstanceError::Deleted)) {
            Ok(lease) => {
                let notice = tokio::time::timeout(NOTICE_PATIENCE, notice).await;
                let notice = notice.ok().and_then(Result::ok).flatten();
                return Ok((acquired, lease, notice));
            }
            Err(InstanceError::Deleted) => tokio::task::yield_now().await,
            Err(error) => {
                let instance = name.clone();
                return Err(RefusalReason::Instance { instance, error });
            }
        }
    }
    tracing::error!(instance = %name, "an instance was deleted again and again while a client waited");
    let instance = name.clone();
    Err(RefusalReason::InstanceKeepsVanishing { instance })
}

/// What the client should know about how its instance came to be: that it is new, or that what
/// it asks for would choose another snapshot today, or that this cannot be told without the network.
async fn notice(
    source: Option<Source>,
    acquired: Acquired,
    deps: ConnectionDeps,
) -> Option<ClientNotice> {
    let record = &acquired.record;
    if acquired.created {
        return Some(ClientNotice::created(&record.name, &record.snapshot));
    }
    let source = source?;
    let choice = deps.index.send(Choose {
        project: record.project.clone(),
        source: source.clone(),
        freshness: Freshness::Local,
    });
    match choice.await.ok()? {
        Ok(choice) if choice.snapshot.id == record.snapshot => None,
        Ok(choice) => Some(ClientNotice::other_snapshot(
            &record.name,
            &record.snapshot,
            &source,
            &choice.snapshot.id,
        )),
        Err(_) => Some(ClientNotice::source_ignored(&record.name, &source)),
    }
}

/// A backend that has let its client in.
struct Backend {
    socket: Socket,
    unread: BytesMut,
    messages: BytesMut,
    cancel_key: (i32, Vec<u8>),
    /// It has said AuthenticationOk.
    authenticated: bool,
}

/// What one attempt to log in to a backend gave.
enum Attempt {
    Done(Backend),
    Starting,
}

impl Backend {
    /// Logs in, again and again while Postgres is starting up.
    async fn login(
        lease: &Lease,
        startup: &[u8],
        limit: Duration,
        request: &ConnectRequest,
    ) -> Result<Self, LoginError> {
        let name = &request.instance;
        let attempts = async {
            loop {
                match Self::attempt(lease, startup).await {
                    Ok(Ok(Attempt::Done(backend))) => return Ok(backend),
                    Ok(Ok(Attempt::Starting)) => tokio::time::sleep(STARTING_PAUSE).await,
                    Ok(Err(error)) => return Err(error),
                    Err(error) => {
                        tracing::info!(instance = %name, %error, "postgres broke off a login");
                        return Err(LoginError::Lost);
                    }
                }
            }
        };
        let began = Instant::now();
        tokio::time::timeout(limit, attempts)
            .await
            .unwrap_or_else(|_| {
                tracing::warn!(instance = %name, elapsed_ms = began.elapsed().as_millis() as u64, "postgres did not let a client in");
                let instance = name.clone();
                let error = InstanceError::StartTimeout { limit };
                Err(RefusalReason::Instance { instance, error }.into())
            })
    }

    /// An error for the client, behind what the backend said before it: a role or a database that
    /// is not there is found out after the authentication.
    fn last_words(&self, error: &[u8]) -> Bytes {
        let mut words = BytesMut::new();
        if self.authenticated {
            encode_authentication_ok(&mut words);
        }
        words.extend_from_slice(&self.messages);
        words.extend_from_slice(error);
        words.freeze()
    }

    async fn attempt(lease: &Lease, startup: &[u8]) -> io::Result<Result<Attempt, LoginError>> {
        let mut backend = Self {
            socket: Socket::connect(&lease.endpoint).await?,
            unread: BytesMut::with_capacity(1024),
            messages: BytesMut::new(),
            cancel_key: (0, Vec::new()),
            authenticated: false,
        };
        backend.socket.write_all(startup).await?;
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
            match frame.message {
                BackendMessage::AuthenticationOk => {
                    backend.authenticated = true;
                    continue;
                }
                BackendMessage::NegotiateProtocolVersion { .. } => continue,
                BackendMessage::AuthenticationRequest { kind } => {
                    let error = format!("postgres asks for authentication of kind {kind}");
                    return Err(io::Error::other(error));
                }
                BackendMessage::ErrorResponse(fields) => {
                    if fields.is_starting_up() {
                        return Ok(Ok(Attempt::Starting));
                    }
                    return Ok(Err(LoginError::Backend(backend.last_words(&frame.raw))));
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
            if backend.messages.len() + frame.raw.len() > LOGIN_BYTES_MAX {
                return Err(io::Error::other("the login of postgres does not end"));
            }
            backend.messages.extend_from_slice(&frame.raw);
            if matches!(frame.message, BackendMessage::ReadyForQuery { .. }) {
                return Ok(Ok(Attempt::Done(backend)));
            }
        }
    }
}
