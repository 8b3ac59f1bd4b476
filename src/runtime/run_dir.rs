//! The directory of one start, `run/<uid>/`, which only Postgres' user and the daemon can enter.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::unistd::Uid;

use crate::fsutil::directory;

/// Makes the directory of one start, empty.
pub(super) fn prepare_run_dir(run_dir: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    remove_run_dir(run_dir)?;
    directory::create_new(run_dir, 0o700)?;
    if Uid::effective().is_root() {
        chown(run_dir, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Removes the directory of one start, if it exists.
pub(super) fn remove_run_dir(run_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(run_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// As [`remove_run_dir`], with an error in the log.
pub(super) fn remove_run_dir_logged(run_dir: &Path) {
    if let Err(error) = remove_run_dir(run_dir) {
        tracing::warn!(path = %run_dir.display(), %error, "cannot remove a run directory");
    }
}
