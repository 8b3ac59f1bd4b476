//! ConnectionActor: one client connection.
//!
//! The actor owns the connection's state and its idle timer. A plain task on the same arbiter uses the socket:
//! `handshake`, `authenticate`, `login`, then `relay`. A session's bytes never travel in messages.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::client_error::ClientError;
use crate::limits::{IdleLimits, Limits};
use crate::metrics::Metrics;
use crate::metrics::labels::{ConnectionOutcome, LoginOutcome};
use crate::ports::{Clock, Console, ServerProbe, SuperuserAccess};
use crate::request::{self, Login};
use crate::sessions::{
    ConnectionId, ConsoleSignals, InstanceTarget, Session, SessionStats, SessionTable,
    SessionTarget,
};
use crate::snapshot_index::SnapshotIndex;
use crate::supervisor::Supervisor;
use crate::wire::{CancelRequest, Tail};

mod account;
mod activities;
mod admission;
mod attach;
mod authenticate;
mod backend;
mod cancel;
mod console;
mod error;
mod handshake;
mod health_check;
mod idle;
mod login;
mod relay;
mod socket;
mod stream;
mod tls;

pub use self::activities::Activities;
pub use self::admission::{AdmissionControl, Permit, TooManySessions};
pub use self::authenticate::Method;
pub use self::error::{RefusalReason, TerminationReason};
pub use self::relay::{End, EndRequest, RelayControl, relay};
pub use self::socket::{DetachedSocket, Socket};
pub use self::stream::Stream;
pub use self::tls::{ALPN, Binding, Resumed, Secured, Tls, TlsServer};

use self::account::Account;
use self::authenticate::{StartupError, authenticate};
use self::console::{ConsoleClient, ConsoleSession};
use self::handshake::{Client, StartupIntent};
use self::health_check::{health_answer, is_health_check};
use self::login::{AuthenticatedClient, EstablishedSession, LoginError, log_in};

/// The limit for sending the error to a client that is refused before it has authenticated, and may not read.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_millis(100);

/// The dependencies that all connections share.
#[derive(Clone)]
pub struct ConnectionDeps {
    /// Finds and creates instances.
    pub supervisor: Addr<Supervisor>,
    /// Chooses snapshots, for notices.
    pub index: Addr<SnapshotIndex>,
    /// Ends backends.
    pub probe: Arc<dyn ServerProbe>,
    /// Asks each Postgres about its sessions.
    pub activities: Activities,
    /// The open sessions.
    pub sessions: SessionTable,
    /// The limits.
    pub limits: Arc<Limits>,
    /// Bounds the connections.
    pub admission: Arc<AdmissionControl>,
    /// The service behind the console.
    pub console: Arc<dyn Console>,
    /// The authentication method.
    pub method: Method,
    /// TLS, if it is configured.
    pub tls: Option<Tls>,
    /// The user of clients that name none.
    pub default_user: String,
    /// The date and time.
    pub clock: Arc<dyn Clock>,
    /// The metrics of all actors.
    pub metrics: Arc<Metrics>,
}

/// One connection.
pub struct ConnectionActor {
    id: ConnectionId,
    peer: Arc<str>,
    socket: Option<DetachedSocket>,
    /// Returned when the connection ends.
    permit: Rc<Permit>,
    session: Option<OpenSession>,
    /// Set while it is a session of the console.
    console: Option<Arc<ConsoleSignals>>,
    /// Closed with the connection.
    account: Option<Account>,
    deps: ConnectionDeps,
}

/// An open session, for its actor.
struct OpenSession {
    session: Session,
    instance: Arc<InstanceTarget>,
    idle: IdleLimits,
    control: Rc<RelayControl>,
}

impl ConnectionActor {
    /// Serves a connection on this arbiter.
    pub fn launch(
        id: ConnectionId,
        peer: Arc<str>,
        socket: DetachedSocket,
        permit: Permit,
        deps: ConnectionDeps,
    ) -> Addr<Self> {
        Self {
            id,
            peer,
            socket: Some(socket),
            permit: Rc::new(permit),
            session: None,
            console: None,
            account: None,
            deps,
        }
        .start()
    }
}

impl Actor for ConnectionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(socket) = self.socket.take() else {
            return ctx.stop();
        };
        let span = tracing::info_span!("conn", id = %self.id, peer = %self.peer);
        let opening = open(
            socket,
            self.id,
            self.peer.clone(),
            self.permit.clone(),
            self.deps.clone(),
        );
        let opening = opening.instrument(span).into_actor(self);
        ctx.spawn(opening.map(|opened, actor, ctx| {
            actor.deps.metrics.connections.count(outcome(&opened));
            match opened {
            Ok(Opened::Session(session)) => {
                let (client, session) = *session;
                actor.begin(client, session, ctx);
            }
            Ok(Opened::Console(session)) => {
                let (client, session) = *session;
                actor.begin_console(client, session, ctx);
            }
            Ok(Opened::Closed(_)) => ctx.stop(),
            Err(error) => {
                tracing::debug!(id = %actor.id, %error, "connection failed before its session began");
                ctx.stop();
            }
        }}));
    }
}

impl ConnectionActor {
    /// Begins the session: registers it and starts its relay.
    fn begin(&mut self, client: Client, established: EstablishedSession, ctx: &mut Context<Self>) {
        let EstablishedSession {
            mut backend,
            greeting,
            beyond,
            cancel_key,
            lease,
            info,
            times,
        } = established;
        let stats = Arc::new(SessionStats::default());
        let control = Rc::new(RelayControl::default());
        let instance = Arc::new(InstanceTarget {
            name: info.request.instance,
            server: SuperuserAccess {
                database: Some(info.database.as_str().into()),
                ..lease.server.clone()
            },
            role: info.role,
            cancels: control.cancels.clone(),
        });
        let session = Session {
            id: self.id,
            peer: self.peer.clone(),
            tls: client.socket.tls_version(),
            user: info.user,
            target: SessionTarget::Instance(instance.clone()),
            database: info.database,
            application_name: info.application_name,
            connected_at: self.deps.clock.now(),
            stats: stats.clone(),
            cancel_key,
            addr: ctx.address().recipient(),
        };
        let id = self.id;
        tracing::debug!(%id, instance = %instance.name, role = instance.role, "session begins");
        let registration = self.deps.sessions.register(session.clone());
        self.account = Some(Account::open(session.clone(), Some(times), &self.deps));
        self.session = Some(OpenSession {
            session,
            instance,
            idle: info.idle,
            control: control.clone(),
        });
        self.watch_idleness(ctx);
        let Client {
            socket: mut client,
            unread,
            binding: _,
        } = client;
        let relayed = actix_rt::spawn(async move {
            let _held = (lease, registration);
            let tail = greet(&mut client, &greeting, &beyond, &stats).await?;
            if !unread.is_empty() {
                stats.client_sent(unread.len());
                backend.write_all(&unread).await?;
            }
            drop((greeting, beyond, unread));
            relay(&mut client, &mut backend, &stats, tail, control).await
        });
        let relayed = AbortOnDropHandle::new(relayed).into_actor(self);
        ctx.spawn(relayed.map(|end, actor, ctx| actor.ended(end, ctx)));
    }

    /// The session's task has ended.
    fn ended(&mut self, end: Result<io::Result<End>, JoinError>, ctx: &mut Context<Self>) {
        let end = end.unwrap_or_else(|error| Err(error.into()));
        tracing::debug!(id = %self.id, ?end, "the session's task ended");
        if let Some(account) = &mut self.account {
            account.ended(&end);
        }
        ctx.stop();
    }
}

impl ConnectionActor {
    /// Begins a session of the console.
    fn begin_console(
        &mut self,
        client: Client,
        console_client: ConsoleClient,
        ctx: &mut Context<Self>,
    ) {
        let console = ConsoleSession::new(self.id, client, console_client, &self.deps);
        let session = Session {
            id: self.id,
            peer: self.peer.clone(),
            tls: console.tls_version(),
            user: console.info().user.clone(),
            target: SessionTarget::Console(console.signals()),
            database: crate::console::DATABASE.to_owned(),
            application_name: console.info().application_name.clone(),
            connected_at: self.deps.clock.now(),
            stats: console.stats(),
            cancel_key: console.cancel_key(),
            addr: ctx.address().recipient(),
        };
        let id = self.id;
        tracing::debug!(%id, user = session.user, "session of the console begins");
        self.console = Some(console.signals());
        self.account = Some(Account::open(session.clone(), None, &self.deps));
        let registration = self.deps.sessions.register(session);
        let served = actix_rt::spawn(async move {
            let _held = registration;
            console.serve().await
        });
        let served = AbortOnDropHandle::new(served).into_actor(self);
        ctx.spawn(served.map(|end, actor, ctx| actor.ended(end, ctx)));
    }
}

/// Sends the client the messages that end its login, and returns the tail of the backend's stream.
async fn greet(
    client: &mut Socket,
    greeting: &[u8],
    beyond: &[u8],
    stats: &SessionStats,
) -> io::Result<Tail> {
    let mut tail = Tail::default();
    for chunk in [greeting, beyond] {
        if !chunk.is_empty() {
            client.write_all(chunk).await?;
            tail.feed(chunk);
            stats.backend_sent(chunk.len(), &tail);
        }
    }
    Ok(tail)
}

/// The result of opening a connection.
enum Opened {
    /// A session with an instance.
    Session(Box<(Client, EstablishedSession)>),
    /// A session of the console.
    Console(Box<(Client, ConsoleClient)>),
    /// It has no session and is closed.
    Closed(ConnectionOutcome),
}

/// The outcome that the metrics count.
fn outcome(opened: &io::Result<Opened>) -> ConnectionOutcome {
    match opened {
        Ok(Opened::Session(_)) => ConnectionOutcome::Session,
        Ok(Opened::Console(_)) => ConnectionOutcome::Console,
        Ok(Opened::Closed(outcome)) => *outcome,
        Err(_) => ConnectionOutcome::Left,
    }
}

/// Serves a connection up to its session.
async fn open(
    socket: DetachedSocket,
    id: ConnectionId,
    peer: Arc<str>,
    permit: Rc<Permit>,
    deps: ConnectionDeps,
) -> io::Result<Opened> {
    let began = Instant::now();
    let mut client = Client::new(socket.attach()?);
    let startup = tokio::select! {
        // A client that has just authenticated is not turned away.
        biased;
        startup = start_up_in_time(&mut client, &peer, &permit, &deps) => startup,
        reason = permit.refused() => {
            turn_away(&mut client, &reason, &deps).await?;
            return Ok(Opened::Closed(ConnectionOutcome::Refused));
        }
    };
    let reason = match startup {
        Ok(Startup::Session(authenticated)) => {
            let authenticate = began.elapsed();
            let logged_in = tokio::select! {
                biased;
                logged_in = log_in(*authenticated, &deps) => logged_in,
                () = client.disconnected() => {
                    tracing::debug!("client disconnected before its session began");
                    return Ok(Opened::Closed(ConnectionOutcome::Left));
                }
            };
            match logged_in {
                Ok(mut session) => {
                    session.times.authenticate = authenticate;
                    session.times.total = began.elapsed();
                    return Ok(Opened::Session(Box::new((client, session))));
                }
                Err(LoginError::RefusedByBackend(messages)) => {
                    client.send_last(&messages).await?;
                    return Ok(Opened::Closed(ConnectionOutcome::RefusedByPostgres));
                }
                Err(LoginError::Refused(reason)) => reason,
            }
        }
        Ok(Startup::Console(console)) => return Ok(Opened::Console(Box::new((client, *console)))),
        Ok(Startup::Closed(outcome)) => return Ok(Opened::Closed(outcome)),
        // It can no longer be evicted.
        Ok(Startup::Cancel(request)) => {
            let limit = deps.limits.login_timeout;
            cancel::forward(&request, &deps.sessions, limit).await;
            // Under TLS its end is a message too, without which libpq reports an error.
            client.send_last(&[]).await?;
            return Ok(Opened::Closed(ConnectionOutcome::Cancel));
        }
        Err(StartupError::Io(error)) => return Err(error),
        Err(StartupError::Refused(reason)) => reason,
    };
    deps.metrics.refused(&reason);
    let refusal = ClientError::from(&reason).with_connection(id.0);
    tracing::info!(
        %id,
        reason = reason.code(),
        sqlstate = refusal.sqlstate(),
        error = multidb_store::error_chain(&reason),
        "client refused"
    );
    client.refuse(&refusal).await?;
    Ok(Opened::Closed(ConnectionOutcome::Refused))
}

/// The result of a connection's startup.
enum Startup {
    /// The client has authenticated and wants a session.
    Session(Box<AuthenticatedClient>),
    /// The client has authenticated and wants the console.
    Console(Box<ConsoleClient>),
    /// The client wants to cancel a query.
    Cancel(CancelRequest),
    /// The client has disconnected, or has its answer.
    Closed(ConnectionOutcome),
}

/// Runs [`start_up`] within `login_timeout`.
async fn start_up_in_time(
    client: &mut Client,
    peer: &str,
    permit: &Permit,
    deps: &ConnectionDeps,
) -> Result<Startup, StartupError> {
    let limit = deps.limits.login_timeout;
    tokio::time::timeout(limit, start_up(client, peer, permit, deps))
        .await
        .unwrap_or_else(|_| Err(RefusalReason::LoginTimeout { limit }.into()))
}

/// Performs the handshake and the authentication, in this order, and counts the session. Nothing is looked up,
/// cloned or started here.
async fn start_up(
    client: &mut Client,
    peer: &str,
    permit: &Permit,
    deps: &ConnectionDeps,
) -> Result<Startup, StartupError> {
    let message = match client.startup_intent(deps.tls.as_ref()).await? {
        StartupIntent::Session(message) => message,
        StartupIntent::Cancel(request) => return Ok(Startup::Cancel(request)),
        StartupIntent::Closed => return Ok(Startup::Closed(ConnectionOutcome::Left)),
    };
    if is_health_check(&message) {
        client.send_last(&health_answer()).await?;
        return Ok(Startup::Closed(ConnectionOutcome::HealthCheck));
    }
    let plain = client.socket.supports_tls();
    if plain && deps.tls.as_ref().is_some_and(|tls| tls.required) {
        return Err(RefusalReason::TlsRequired.into());
    }
    let user = message.user().map(Bytes::as_ref).unwrap_or_default();
    let bytes = |name| message.get(name).map(Bytes::as_ref);
    let (login, options) = request::parse_login(user, bytes("options"), bytes("database"))
        .map_err(RefusalReason::from)?;
    let identity = authenticate(client, peer, login.user(), deps).await;
    if let Some(outcome) = LoginOutcome::of(&identity) {
        deps.metrics.logins.count(outcome);
    }
    let identity = identity?;
    permit
        .begin_session()
        .map_err(|TooManySessions| RefusalReason::TooManyConnections {
            max: deps.limits.max_connections,
        })?;
    Ok(match login {
        Login::Instance(request) => Startup::Session(Box::new(AuthenticatedClient {
            message,
            request: *request,
            options,
            identity,
        })),
        Login::Console(login) => Startup::Console(Box::new(ConsoleClient {
            message,
            login,
            identity,
        })),
    })
}

/// Tells a client without a session why it is refused. The time is short, since other clients may wait for its
/// descriptor, or the daemon for its end.
async fn turn_away(
    client: &mut Client,
    reason: &RefusalReason,
    deps: &ConnectionDeps,
) -> io::Result<()> {
    deps.metrics.refused(reason);
    let error = ClientError::from(reason);
    let told = tokio::time::timeout(TURN_AWAY_TIMEOUT, client.refuse(&error)).await;
    told.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests;
