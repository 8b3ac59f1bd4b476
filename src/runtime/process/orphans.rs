//! The backends of a postmaster that was killed.
//!
//! They hold the shared memory, and a new postmaster refuses to start beside them ("pre-existing
//! shared memory block is still in use"). Most end by themselves, since they watch their
//! postmaster whenever they wait; a backend that computes does not wait. Each has a session of its own
//! (`InitPostmasterChild` in miscinit.c), so no process group leads to them. Their working directory
//! does: it is the data directory.

use std::path::Path;
use std::time::Duration;

use multidb_actors::ports::RuntimeError;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::runtime::postmaster::Postmaster;
use crate::runtime::server_processes::{self, ServerProcess};

/// Orphans that have not ended by themselves after this are killed.
const KILL_DELAY: Duration = Duration::from_millis(500);
/// The limit for all of them to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(10);

/// Returns when no server's process has this data directory, and ends the orphans for that.
///
/// # Errors
///
/// Another server runs on it. Postgres itself does not see one in a container, so that a second
/// must not be started beside it.
pub(super) async fn end(data_dir: &Path) -> Result<(), RuntimeError> {
    let started = Instant::now();
    loop {
        let processes = look(data_dir).await?;
        if processes.is_empty() {
            return Ok(());
        }
        if started.elapsed() >= END_TIMEOUT {
            return Err(RuntimeError {
                for_clients: false,
                message: format!("another postgres runs on {}", data_dir.display()),
                hint: Some("Stop it; a container of another runtime may be left over.".to_owned()),
            });
        }
        if started.elapsed() >= KILL_DELAY
            && Postmaster::find(data_dir).is_none()
            && server_processes::postmaster(&processes).is_none()
        {
            // Without a postmaster they cannot commit any more.
            for orphan in processes
                .iter()
                .filter(|process| process.is_in_our_namespace())
            {
                tracing::info!(
                    pid = orphan.pid,
                    "killing a backend whose postmaster is dead"
                );
                orphan.postgres.signal(Signal::KILL);
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The processes of servers on this data directory, found outside of the arbiter's thread.
async fn look(data_dir: &Path) -> Result<Vec<ServerProcess>, RuntimeError> {
    let directory = data_dir.to_owned();
    let found = tokio::task::spawn_blocking(move || server_processes::of(&directory)).await;
    found.map_err(|error| RuntimeError {
        for_clients: false,
        message: format!("cannot tell what runs on {}: {error}", data_dir.display()),
        hint: None,
    })
}

/// The postmaster on this data directory, by the processes of this machine alone; none in another namespace.
pub(super) async fn postmaster(data_dir: &Path) -> Result<Option<Postmaster>, RuntimeError> {
    let mut processes = look(data_dir).await?;
    processes.retain(ServerProcess::is_in_our_namespace);
    let pid = server_processes::postmaster(&processes).map(|process| process.pid);
    let mut processes = processes.into_iter();
    let found = processes.find(|process| Some(process.pid) == pid);
    Ok(found.map(|process| process.postgres))
}

/// Kills all of them, the postmaster too.
#[cfg(test)]
pub(super) fn kill(data_dir: &Path) {
    for process in server_processes::of(data_dir) {
        process.postgres.signal(Signal::KILL);
    }
}
