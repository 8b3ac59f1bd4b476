//! The directory of one start, `run/<uid>/`: who may enter it, and the file that says what runs.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::runtime::{Purpose, settings};

/// What a server's run directory says of it, for a daemon that finds it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ServerFile {
    /// What it runs for.
    pub(super) purpose: Purpose,
    /// What it runs on.
    pub(super) data_dir: PathBuf,
}

impl ServerFile {
    const NAME: &str = "server.json";

    /// Writes it, before the server is started.
    pub(super) fn write(&self, run_dir: &Path) -> io::Result<()> {
        settings::write_new(run_dir, Self::NAME, &serde_json::to_vec(self)?)
    }

    /// Reads it. None where it is missing or not whole.
    pub(super) fn read(run_dir: &Path) -> Option<Self> {
        let bytes = fs::read(run_dir.join(Self::NAME)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Makes the directory of one start, empty.
pub(in crate::runtime) fn prepare_run_dir(
    run_dir: &Path,
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    remove_run_dir(run_dir)?;
    fs::DirBuilder::new().mode(0o700).create(run_dir)?;
    if Uid::effective().is_root() {
        chown(run_dir, Some(uid), Some(gid))?;
    }
    // Whatever the umask is.
    fs::set_permissions(run_dir, fs::Permissions::from_mode(0o700))
}

/// Removes the directory of one start. One that is not there is removed.
pub(in crate::runtime) fn remove_run_dir(run_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(run_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// As [`remove_run_dir`], where nobody waits for the answer.
pub(super) fn remove_run_dir_logged(run_dir: &Path) {
    if let Err(error) = remove_run_dir(run_dir) {
        tracing::warn!(path = %run_dir.display(), %error, "run directory was not removed");
    }
}
