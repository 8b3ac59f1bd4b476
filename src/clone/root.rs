//! The directories under the root, and who may enter them.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use multidb_store::Layout;
use nix::unistd::Uid;

use crate::fsutil::directory::create_missing;

/// Makes the directories, and gives those that are there the modes that they need. Postgres' user
/// passes through to its data; `run` is for it and for us; the rest is ours.
pub(super) fn prepare(layout: &Layout, (_, gid): (u32, u32)) -> Result<(), (PathBuf, io::Error)> {
    let root = layout.root();
    create_missing(root, 0o711).map_err(|error| (root.to_owned(), error))?;
    for (directory, mode) in [
        (layout.snapshots(), 0o711),
        (layout.instances(), 0o711),
        (layout.state(), 0o711),
        // What the projects' users may not read, others may not read here.
        (layout.state().join("git"), 0o700),
        (layout.trash(), 0o700),
        (layout.run(), 0o710),
    ] {
        make(&directory, mode).map_err(|error| (directory, error))?;
    }
    if Uid::effective().is_root() {
        chown(layout.run(), Some(0), Some(gid)).map_err(|error| (layout.run(), error))?;
    }
    Ok(())
}

/// Makes a directory, with this mode whatever the umask is. It may be there already.
pub(super) fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(path)?.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}
