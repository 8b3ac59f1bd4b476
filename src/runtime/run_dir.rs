//! The directory of one start, `run/<uid>/`, which only Postgres' user and the daemon can enter.

use std::io;
use std::path::Path;

use crate::fsutil::beneath::{self, Directory};
use crate::fsutil::directory;

/// Makes the directory of one start, empty.
pub(super) fn prepare_run_dir(run_dir: &Path, owner: (u32, u32)) -> io::Result<()> {
    remove_run_dir(run_dir)?;
    directory::create_new(run_dir, 0o700)?;
    Ok(Directory::open(run_dir)?.set_owner(owner)?)
}

/// Removes the directory of one start, if it exists.
pub(super) fn remove_run_dir(run_dir: &Path) -> io::Result<()> {
    Ok(beneath::remove(run_dir)?)
}
