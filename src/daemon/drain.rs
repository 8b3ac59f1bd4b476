//! The end: no new clients, then the sessions, then the instances.
//!
//! Idle sessions end at once, with an error. Running queries and transactions get the grace period;
//! the remaining ones are then ended by Postgres' fast shutdown, with 57P01. A second signal ends the
//! grace period.

use std::time::Duration;

use actix::prelude::*;
use multidb_actors::sessions::{EndConnection, EndReason, SessionTable};
use multidb_actors::supervisor::{StopAll, StopInstances, Supervisor};
use tokio::signal::unix::{SignalKind, signal as listen};

/// Time for the last error to reach its client after its session has ended.
const LAST_ERROR_DELAY: Duration = Duration::from_millis(50);

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
pub(super) async fn drain(supervisor: &Addr<Supervisor>, sessions: &SessionTable, grace: Duration) {
    stop(supervisor, StopInstances::Later).await;
    let open = sessions.all();
    tracing::info!(
        sessions = open.len(),
        ?grace,
        "ending sessions as they become idle"
    );
    for session in open {
        if let Err(error) = session.addr.send(EndConnection(EndReason::Drained)).await {
            tracing::debug!(%error, "a session ended by itself");
        }
    }
    let mut count = sessions.count();
    let ended = async { while *count.borrow_and_update() > 0 && count.changed().await.is_ok() {} };
    tokio::select! {
        () = ended => {}
        () = tokio::time::sleep(grace) => {
            let left = sessions.all().len();
            tracing::info!(sessions = left, "the grace period is over, ending their queries");
        }
        _ = signal() => {}
    }
    stop(supervisor, StopInstances::Now).await;
    tokio::time::sleep(LAST_ERROR_DELAY).await;
}

async fn stop(supervisor: &Addr<Supervisor>, instances: StopInstances) {
    if let Err(error) = supervisor.send(StopAll { instances }).await {
        tracing::error!(%error, "the supervisor has ended, instances keep running");
    }
}
