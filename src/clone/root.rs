//! The directories under the root, and their modes.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use multidb_store::Layout;
use nix::unistd::Uid;

use crate::fsutil::directory::create_missing;

/// Creates the directories, and sets the modes of existing ones. Postgres' user can pass through to its
/// data, and can use `run`; the rest is for multidb alone.
pub(super) fn prepare(layout: &Layout, (_, gid): (u32, u32)) -> Result<(), (PathBuf, io::Error)> {
    let root = layout.root();
    create_missing(root, 0o711).map_err(|error| (root.to_owned(), error))?;
    for (directory, mode) in [
        (layout.snapshots(), 0o711),
        (layout.instances(), 0o711),
        (layout.state(), 0o711),
        // The contents of repositories are not for all users of the machine.
        (layout.state().join("git"), 0o700),
        (layout.trash(), 0o700),
        (layout.run(), 0o710),
    ] {
        make(&directory, mode).map_err(|error| (directory, error))?;
    }
    if Uid::effective().is_root() {
        set_owner(&layout.run(), gid).map_err(|error| (layout.run(), error))?;
    }
    Ok(())
}

/// Creates a directory, or sets the mode of an existing one, regardless of the umask.
pub(super) fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    set_mode(path, mode)
}

fn set_owner(path: &Path, gid: u32) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if (metadata.uid(), metadata.gid()) == (0, gid) {
        return Ok(());
    }
    chown(path, Some(0), Some(gid))
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(path)?.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}
