//! The end: no new clients, then the sessions, then the instances, then the remaining connections.
//!
//! Idle sessions end at once, with an error. Running queries and transactions get the grace period;
//! the remaining ones are then ended by Postgres' fast shutdown, with 57P01. A second signal ends the
//! grace period. Every accepted client gets an answer: the process ends when the last connection has closed.

use std::time::Duration;

use actix::prelude::*;
use multidb_actors::connection::AdmissionControl;
use multidb_actors::supervisor::{StopAll, StopInstances, Supervisor};
use tokio::signal::unix::{SignalKind, signal as listen};

use super::actors::Actors;

/// How long clients that log in have to learn that it is in vain. Clients that have not authenticated by then are
/// refused.
const LOGIN_GRACE: Duration = Duration::from_secs(1);
/// The limit for the last errors to reach clients, which may not read.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Resolves at SIGTERM or SIGINT.
pub(super) async fn signal() -> std::io::Result<()> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM received, stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT received, stopping"),
    }
    Ok(())
}

/// Ends all sessions and stops all instances.
pub(super) async fn drain(actors: &Actors, grace: Duration) {
    let Actors {
        supervisor,
        sessions,
        admission,
        ..
    } = actors;
    stop(supervisor, StopInstances::Later).await;
    let open = sessions.drain();
    tracing::info!(
        sessions = open,
        ?grace,
        "ending sessions as they become idle"
    );
    tokio::select! {
        () = admission.sessions_ended() => {}
        () = tokio::time::sleep(grace) => {
            let left = sessions.all().len();
            tracing::info!(sessions = left, "the grace period is over, ending their queries");
        }
        _ = signal() => {}
    }
    stop(supervisor, StopInstances::Now).await;
    close(admission).await;
}

/// Waits until no client is connected.
async fn close(admission: &AdmissionControl) {
    let closed = tokio::time::timeout(LOGIN_GRACE, admission.all_closed()).await;
    if closed.is_ok() {
        return;
    }
    admission.shut_down();
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, admission.all_closed()).await;
    if closed.is_err() {
        tracing::info!("some clients do not read their last message, and are disconnected");
    }
}

async fn stop(supervisor: &Addr<Supervisor>, instances: StopInstances) {
    if let Err(error) = supervisor.send(StopAll { instances }).await {
        tracing::error!(%error, "the supervisor has ended, instances keep running");
    }
}
