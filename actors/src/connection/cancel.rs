//! Forwards cancel requests to the backends, or the sessions of the console, that they name. They start and create
//! nothing.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Socket;
use crate::ports::Endpoint;
use crate::sessions::{ConnectionId, InstanceTarget, SessionTable, SessionTarget};
use crate::wire::{CancelRequest, encode_cancel_request};

/// Forwards the request and waits until the backend has closed the connection, since clients take its end
/// for the confirmation. A request that names no session is ignored, as in Postgres.
pub(super) async fn forward(request: &CancelRequest, sessions: &SessionTable, limit: Duration) {
    let Some(session) = sessions.by_cancel_key(request.process_id, &request.key) else {
        tracing::debug!("cancel request names no session");
        return;
    };
    match &session.target {
        SessionTarget::Instance(instance) => {
            pass_on(request, session.id, instance, limit).await;
        }
        SessionTarget::Console(signals) => signals.cancel(),
    }
}

/// Cancels the query of a session with an instance. A cancel request needs no free connection of Postgres.
pub(super) async fn pass_on(
    request: &CancelRequest,
    session: ConnectionId,
    instance: &InstanceTarget,
    limit: Duration,
) {
    let _pending = instance.cancels.begin();
    match tokio::time::timeout(limit, send(request, &instance.server.endpoint)).await {
        Ok(Ok(())) => tracing::debug!(%session, "cancel request forwarded"),
        Ok(Err(error)) => {
            tracing::warn!(%session, %error, "cancel request was not forwarded");
        }
        Err(_) => tracing::warn!(%session, "cancel request was not answered"),
    }
}

async fn send(request: &CancelRequest, endpoint: &Endpoint) -> io::Result<()> {
    let mut backend = Socket::connect(endpoint).await?;
    let mut packet = BytesMut::new();
    encode_cancel_request(&mut packet, request);
    backend.write_all(&packet).await?;
    // The postmaster sends nothing and closes the connection.
    let mut nothing = [0; 1];
    match backend.read(&mut nothing).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
