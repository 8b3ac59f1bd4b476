//! Whether a server runs on a data directory.

use std::path::Path;

use rustix::process::Pid;

use crate::fsutil::beneath::Directory;
use crate::import::error::{ImportError, refused, tree_error};
use crate::runtime::server_processes;

/// The most that is read of a `postmaster.pid`.
const PID_FILE_BYTES_MAX: u64 = 4096;

/// Refuses a data directory with a running server. Called again after the copy, since a server
/// that was started meanwhile has changed files.
///
/// A `postmaster.pid` is copied with a data directory, and a process id is given to another process after a
/// restart, so the file is only believed where it names this directory. A server that it does not tell of, such as
/// one in a container of another user, is found by the control file.
pub(super) fn check_not_running(path: &Path) -> Result<(), ImportError> {
    let text = Directory::open(path)
        .and_then(|directory| directory.read("postmaster.pid", PID_FILE_BYTES_MAX))
        .map_err(|error| tree_error(path, path, error))?;
    let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default()).into_owned();
    let mut lines = text.lines().map(str::trim);
    let pid = lines.next().and_then(|line| line.parse().ok());
    let pid = pid.and_then(Pid::from_raw);
    let is_of_this = lines.next().is_some_and(|named| is_same(named, path));
    if server_processes::any(path) || (is_of_this && pid.is_some_and(may_be_postgres)) {
        return Err(refused(
            path,
            "Postgres is running on it",
            format!(
                "Stop it cleanly (pg_ctl stop -m fast -D {}), then import again.",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// Whether two paths lead to one directory.
fn is_same(named: &str, path: &Path) -> bool {
    // Trusted path: nothing is opened.
    std::fs::canonicalize(named).is_ok_and(|named| named == path)
}

/// Whether the process may be a Postgres whose directory cannot be read, since it is another user's.
fn may_be_postgres(pid: Pid) -> bool {
    // Trusted path: only the kernel writes it.
    let proc = format!("/proc/{}", pid.as_raw_pid());
    if std::fs::read_link(format!("{proc}/cwd")).is_ok() {
        // It can, so it was looked at with all others.
        return false;
    }
    // Trusted path: the kernel's.
    let name = std::fs::read_to_string(format!("{proc}/comm"));
    name.is_ok_and(|name| name.starts_with("postgres") || name.starts_with("postmaster"))
}
