//! How to tell that a server accepts connections, without making it fork a backend for that.
//!
//! The postmaster writes its status into the eighth line of `postmaster.pid` (miscadmin.h,
//! `LOCK_FILE_LINE_PM_STATUS`), and "ready" once it accepts connections: what `pg_ctl start`
//! waits for. Looking each millisecond costs two system calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::SOCKET_NAME;

/// How often to look.
pub const INTERVAL: Duration = Duration::from_millis(1);

const STATUS_LINE: usize = 7;
const READY: &str = "ready";

/// Watches one start of a server.
#[derive(Debug)]
pub struct Readiness {
    pid_file: PathBuf,
    socket: PathBuf,
    /// What a predecessor that crashed left in the file.
    stale: Option<String>,
}

impl Readiness {
    /// To be made before the server is started.
    pub fn watch(data_dir: &Path, run_dir: &Path) -> Self {
        let pid_file = data_dir.join("postmaster.pid");
        Self {
            stale: fs::read_to_string(&pid_file).ok(),
            socket: run_dir.join(SOCKET_NAME),
            pid_file,
        }
    }

    /// Whether it accepts connections.
    pub fn is_ready(&self) -> bool {
        let Ok(text) = fs::read_to_string(&self.pid_file) else {
            return false;
        };
        let status = text.lines().nth(STATUS_LINE).map(str::trim);
        status == Some(READY) && self.stale.as_ref() != Some(&text) && self.socket.exists()
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
    use super::*;

    #[test]
    fn what_a_crashed_predecessor_left_is_not_taken_for_readiness() {
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
