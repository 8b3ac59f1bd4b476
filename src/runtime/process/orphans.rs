//! The backends of a postmaster that was killed.
//!
//! They hold the shared memory, and a new postmaster refuses to start beside them ("pre-existing
//! shared memory block is still in use"). Most end by themselves, since they watch their
//! postmaster whenever they wait; one that computes does not wait. Each has a session of its own
//! (`InitPostmasterChild` in miscinit.c), so no process group leads to them. Their working directory
//! does: it is the data directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multidb_actors::ports::RuntimeError;
use multidb_store::RuntimeKind;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::runtime::postmaster::Postmaster;

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
    // An orderly shutdown removes it, after all processes of the server have ended.
    if !data_dir.join("postmaster.pid").exists() {
        return Ok(());
    }
    let started = Instant::now();
    loop {
        let processes = server_processes(data_dir);
        if processes.is_empty() {
            return Ok(());
        }
        if started.elapsed() >= END_TIMEOUT {
            return Err(RuntimeError {
                message: format!("another postgres runs on {}", data_dir.display()),
                hint: Some("Stop it; a container of another runtime may be left over.".to_owned()),
            });
        }
        if started.elapsed() >= KILL_DELAY && Postmaster::find(data_dir).is_none() {
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

/// Whether any process of a server has this data directory, in whatever namespace.
pub fn any(data_dir: &Path) -> bool {
    !server_processes(data_dir).is_empty()
}

/// The kind of the server whose process has this data directory, if any has it.
pub(super) fn kind(data_dir: &Path) -> Option<RuntimeKind> {
    let process = server_processes(data_dir).into_iter().next()?;
    Some(if process.is_in_our_namespace() {
        RuntimeKind::Process
    } else {
        RuntimeKind::Docker
    })
}

/// Kills all of them, the postmaster too.
#[cfg(test)]
pub(super) fn kill(data_dir: &Path) {
    for process in server_processes(data_dir) {
        process.postgres.signal(Signal::KILL);
    }
}

/// A process of a server.
struct ServerProcess {
    pid: i32,
    postgres: Postmaster,
}

impl ServerProcess {
    /// Whether it is in the daemon's pid namespace. Otherwise it belongs to a container, in which
    /// `postmaster.pid` has another number for it.
    fn is_in_our_namespace(&self) -> bool {
        let namespace = |pid: &str| fs::read_link(PathBuf::from("/proc").join(pid).join("ns/pid"));
        match (namespace(&self.pid.to_string()), namespace("self")) {
            (Ok(its), Ok(ours)) => its == ours,
            _ => false,
        }
    }
}

/// All processes of servers that have this data directory, backends too.
fn server_processes(data_dir: &Path) -> Vec<ServerProcess> {
    let (Ok(entries), Ok(data_dir)) = (fs::read_dir("/proc"), data_dir.canonicalize()) else {
        return Vec::new();
    };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    entries
        .flatten()
        .filter_map(pid)
        .filter_map(|pid| {
            let postgres = Postmaster::of_pid(pid, &data_dir)?;
            Some(ServerProcess { pid, postgres })
        })
        .collect()
}
