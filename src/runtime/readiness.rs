//! Tells that a server accepts connections, without making it fork a backend.
//!
//! The postmaster writes its status into the eighth line of `postmaster.pid` (miscadmin.h,
//! `LOCK_FILE_LINE_PM_STATUS`), and "ready" once it accepts connections; `pg_ctl start` waits for the
//! same. A look each millisecond costs a few system calls.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::postmaster::read_pid_file;
use super::settings::SOCKET_NAME;

/// The interval of looking.
pub const INTERVAL: Duration = Duration::from_millis(1);

const STATUS_LINE: usize = 7;
const READY: &str = "ready";

/// Watches one start of a server.
#[derive(Debug)]
pub struct Readiness {
    pid_file: PathBuf,
    socket: PathBuf,
    /// The file of a crashed predecessor: its content, and the time of its last change, since in a
    /// container the process id is always the same and the start time has only seconds.
    stale: Option<(String, SystemTime)>,
}

impl Readiness {
    /// Must be called before the server is started.
    pub fn watch(data_dir: &Path, run_dir: &Path) -> Self {
        let running = Self::of_running(data_dir, run_dir);
        Self {
            stale: read_pid_file(&running.pid_file).ok(),
            ..running
        }
    }

    /// For a server that runs already.
    pub fn of_running(data_dir: &Path, run_dir: &Path) -> Self {
        Self {
            stale: None,
            socket: run_dir.join(SOCKET_NAME),
            pid_file: data_dir.join("postmaster.pid"),
        }
    }

    /// Whether it accepts connections.
    pub fn is_ready(&self) -> bool {
        let Ok(found) = read_pid_file(&self.pid_file) else {
            return false;
        };
        let status = found.0.lines().nth(STATUS_LINE).map(str::trim);
        status == Some(READY)
            && self.stale.as_ref() != Some(&found)
            && self.socket.symlink_metadata().is_ok()
    }

    /// Resolves when it accepts connections.
    pub async fn ready(&self) {
        while !self.is_ready() {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pid_file_of_a_crashed_predecessor_is_not_taken_for_readiness() {
        let directory = tempfile::tempdir().unwrap();
        let file = |status: &str, start: u32| {
            format!("1\n/data\n{start}\n5432\n/run\n\n  123 456\n{status}\n")
        };
        let pid_file = directory.path().join("postmaster.pid");
        fs::write(&pid_file, file("ready   ", 1)).unwrap();
        let readiness = Readiness::watch(directory.path(), directory.path());
        fs::write(directory.path().join(SOCKET_NAME), "").unwrap();
        assert!(!readiness.is_ready());
        fs::write(&pid_file, file("starting", 2)).unwrap();
        assert!(!readiness.is_ready());
        fs::write(&pid_file, file("ready   ", 2)).unwrap();
        assert!(readiness.is_ready());
    }
}
