//! Whether a server runs on a data directory.

use std::path::Path;

use rustix::process::Pid;

use crate::import::error::{ImportError, refused, tree_error};
use crate::runtime::{PidFile, server_processes};

/// Refuses a data directory with a running server. Called again after the copy, since a server
/// that was started meanwhile has changed files.
///
/// A `postmaster.pid` is copied with a data directory, and a process id is given to another process after a
/// restart, so the file is only believed where it names this directory. A server that it does not tell of, such as
/// one in a container of another user, is found by the control file.
pub(super) fn check_not_running(path: &Path) -> Result<(), ImportError> {
    let named = PidFile::read(path).map_err(|error| tree_error(path, path, error))?;
    let named = named.unwrap_or_default();
    let is_of_this = named.data_dir.is_some_and(|named| is_same(&named, path));
    if server_processes::any(path) || (is_of_this && named.pid.is_some_and(may_be_postgres)) {
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
fn is_same(named: &Path, path: &Path) -> bool {
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
