//! Sets the owner of files for servers that run as another user.

use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

use rustix::process::geteuid;

/// Changes the owner of a file or a directory, if multidb runs as root. Otherwise all files belong
/// to the one user already.
///
/// # Errors
///
/// The path does not exist, or the file system refuses.
pub fn set_owner(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    lchown(path, Some(uid), Some(gid))
}
