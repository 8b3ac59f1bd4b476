//! ConnectionActor: one client connection.
//!
//! The actor owns the connection's state and its idle timer; a plain task on the same arbiter does
//! the talking: `handshake`, `login`, then `relay`. The session's bytes never travel in
//! messages.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::client_error::ClientError;
use crate::limits::{IdleLimits, Limits};
use crate::ports::ServerProbe;
use crate::request;
use crate::sessions::{ConnectionId, Session, SessionStats, SessionTable};
use crate::snapshot_index::SnapshotIndex;
use crate::supervisor::Supervisor;
use crate::wire::{CancelRequest, Tail};

mod admission;
mod authenticate;
mod cancel;
mod error;
mod handshake;
mod idle;
mod login;
mod relay;
mod socket;
mod stream;
mod tls;

pub use self::admission::{AdmissionControl, Permit, TooManySessions};
pub use self::authenticate::Method;
pub use self::error::{RefusalReason, TerminationReason};
pub use self::relay::{End, EndRequest, RelayControl, relay};
pub use self::socket::{DetachedSocket, Socket};
pub use self::stream::Stream;
pub use self::tls::{ALPN, Binding, Resumed, Secured, Tls, TlsServer};

use self::authenticate::{Failure, authenticate};
use self::handshake::{Client, Wish};
use self::login::{Established, Known, LoginError, login};

/// The limit for sending the error to an evicted client, which may not read.
const EVICTION_TIMEOUT: Duration = Duration::from_millis(100);

/// What all connections share.
#[derive(Clone)]
pub struct ConnectionDeps {
    /// Finds and creates instances.
    pub supervisor: Addr<Supervisor>,
    /// Chooses snapshots, for remarks.
    pub index: Addr<SnapshotIndex>,
    /// Asks a Postgres about its sessions.
    pub probe: Arc<dyn ServerProbe>,
    /// The open sessions.
    pub sessions: SessionTable,
    /// The limits.
    pub limits: Arc<Limits>,
    /// Bounds the connections.
    pub admission: Arc<AdmissionControl>,
    /// How clients prove who they are.
    pub method: Method,
    /// TLS, where it is configured.
    pub tls: Option<Tls>,
    /// The multidb user of clients that name none.
    pub default_user: String,
}

/// One connection.
pub struct ConnectionActor {
    id: ConnectionId,
    peer: Arc<str>,
    socket: Option<DetachedSocket>,
    /// Held while the connection is open.
    permit: Rc<Permit>,
    session: Option<OpenSession>,
    deps: ConnectionDeps,
}

/// What the actor needs of its session.
struct OpenSession {
    shown: Session,
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
        ctx.spawn(opening.map(|opened, actor, ctx| match opened {
            Ok(Some((client, established))) => actor.begin(client, established, ctx),
            Ok(None) => ctx.stop(),
            Err(error) => {
                tracing::debug!(id = %actor.id, %error, "connection broke before its session");
                ctx.stop();
            }
        }));
    }
}

impl ConnectionActor {
    /// Begins the session: enters it in the table and starts its relay.
    fn begin(&mut self, client: Client, established: Established, ctx: &mut Context<Self>) {
        let Established {
            mut backend,
            greeting,
            beyond,
            cancel_key,
            lease,
            facts,
        } = established;
        let stats = Arc::new(SessionStats::default());
        let shown = Session {
            id: self.id,
            peer: self.peer.clone(),
            tls: client.socket.tls_version(),
            user: facts.user,
            instance: facts.request.instance,
            endpoint: lease.endpoint.clone(),
            superuser: lease.superuser.as_str().into(),
            database: facts.database,
            role: facts.role,
            application_name: facts.application_name,
            connected_at: Timestamp::now(),
            stats: stats.clone(),
            cancel_key,
            addr: ctx.address().recipient(),
        };
        let id = self.id;
        tracing::debug!(%id, instance = %shown.instance, role = shown.role, "session begins");
        let registration = self.deps.sessions.register(shown.clone());
        let control = Rc::new(RelayControl::default());
        self.session = Some(OpenSession {
            shown,
            idle: facts.idle,
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
        ctx.spawn(relayed.map(move |end, _, ctx| {
            tracing::debug!(%id, ?end, "session ended");
            ctx.stop();
        }));
    }
}

/// Sends the client what ends its login, and tells how the backend's stream ends so far.
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

/// What a connection is until it is a session; `None` when it becomes none.
async fn open(
    socket: DetachedSocket,
    id: ConnectionId,
    peer: Arc<str>,
    permit: Rc<Permit>,
    deps: ConnectionDeps,
) -> io::Result<Option<(Client, Established)>> {
    let mut client = Client::new(socket.attach()?);
    let limit = deps.limits.login_timeout;
    let known = tokio::select! {
        known = tokio::time::timeout(limit, introduce(&mut client, &peer, &permit, &deps)) => known,
        () = permit.evicted() => return evict(&mut client).await,
    };
    let reason = match known {
        Ok(Ok(Introduced::Known(known))) => {
            let established = tokio::select! {
                established = login(*known, &deps) => established,
                () = client.hung_up() => {
                    tracing::debug!("client left before its session began");
                    return Ok(None);
                }
            };
            match established {
                Ok(established) => return Ok(Some((client, established))),
                Err(LoginError::Backend(words)) => {
                    client.say_last(&words).await?;
                    return Ok(None);
                }
                // Tried again until it is refused.
                Err(LoginError::Lost) => return Ok(None),
                Err(LoginError::Refused(reason)) => reason,
            }
        }
        Ok(Ok(Introduced::Gone)) => return Ok(None),
        // Nobody puts it out any more: it is on its way.
        Ok(Ok(Introduced::Cancels(request))) => {
            cancel::forward(&request, &deps.sessions, limit).await;
            return Ok(None);
        }
        Ok(Err(Failure::Broken(error))) => return Err(error),
        Ok(Err(Failure::Refused(reason))) => reason,
        Err(_) => RefusalReason::LoginTimeout { limit },
    };
    let refusal = ClientError::from(&reason).with_connection(id.0);
    tracing::info!(
        %id,
        reason = reason.code(),
        sqlstate = refusal.sqlstate(),
        error = multidb_store::error_chain(&reason),
        "client refused"
    );
    client.refuse(&refusal).await?;
    Ok(None)
}

/// A client that has said what it wants.
enum Introduced {
    /// It wants a session, and is who it says.
    Known(Box<Known>),
    /// It wants a query to be cancelled.
    Cancels(CancelRequest),
    /// It wants nothing more.
    Gone,
}

/// From the first byte to the proof of who the client is: what `login_timeout` bounds.
async fn introduce(
    client: &mut Client,
    peer: &str,
    permit: &Permit,
    deps: &ConnectionDeps,
) -> Result<Introduced, Failure> {
    let message = match client.wish(deps.tls.as_ref()).await? {
        Wish::Session(message) => message,
        Wish::Cancel(request) => return Ok(Introduced::Cancels(request)),
        Wish::Nothing => return Ok(Introduced::Gone),
    };
    let plain = client.socket.supports_tls();
    if plain && deps.tls.as_ref().is_some_and(|tls| tls.required) {
        return Err(RefusalReason::TlsRequired.into());
    }
    let user = message.user().map(Bytes::as_ref).unwrap_or_default();
    let (request, options) = request::parse(user, message.get("options").map(Bytes::as_ref))
        .map_err(RefusalReason::from)?;
    let identity = authenticate(client, peer, &request, deps).await?;
    permit
        .begin_session()
        .map_err(|TooManySessions| RefusalReason::TooManyConnections {
            max: deps.limits.max_connections,
        })?;
    Ok(Introduced::Known(Box::new(Known {
        message,
        request,
        options,
        identity,
    })))
}

/// Tells a client that it is evicted. Other clients may wait for its descriptor, so the time is short.
async fn evict<T>(client: &mut Client) -> io::Result<Option<T>> {
    let error = ClientError::from(&RefusalReason::Evicted);
    let told = tokio::time::timeout(EVICTION_TIMEOUT, client.refuse(&error)).await;
    told.unwrap_or(Ok(())).map(|()| None)
}

#[cfg(test)]
mod tests;
