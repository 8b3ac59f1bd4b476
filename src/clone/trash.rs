//! Deletion by way of the trash: a tree is renamed first, so that a half-deleted one is never found
//! in its old place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::btrfs;

/// The prefix of the names that this process gives, which its own sweep skips.
static OWN_PREFIX: LazyLock<String> = LazyLock::new(|| {
    let pid = std::process::id();
    format!("{:x}-{pid}-", Timestamp::now().as_nanosecond())
});

/// Deletes a tree. A missing tree is no error.
pub(super) fn remove(trash: &Path, path: &Path) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let doomed = trash.join(format!("{}{number}-{name}", *OWN_PREFIX));
    match fs::rename(path, &doomed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    delete(&doomed)
}

/// Deletes the leftovers of earlier processes, and returns those that it could not delete.
pub(super) fn sweep(trash: &Path) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(trash)? {
        let entry = entry?;
        let is_own = entry
            .file_name()
            .to_string_lossy()
            .starts_with(&*OWN_PREFIX);
        if is_own {
            continue;
        }
        if let Err(error) = delete(&entry.path()) {
            left.push((entry.path(), error));
        }
    }
    Ok(left)
}

/// Deletes a tree. Subvolumes at its top or directly below are deleted by one call each. Where that is
/// not permitted, and deeper down, the kernel lets an empty subvolume be removed like a directory
/// (since 4.18).
fn delete(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    if btrfs::is_btrfs(path) {
        if btrfs::is_subvolume(path) && btrfs::delete_subvolume(path).is_ok() {
            return Ok(());
        }
        for entry in fs::read_dir(path)? {
            let inner = entry?.path();
            if btrfs::is_subvolume(&inner)
                && let Err(error) = btrfs::delete_subvolume(&inner)
            {
                tracing::debug!(path = %inner.display(), %error, "deleting a subvolume file by file");
            }
        }
    }
    fs::remove_dir_all(path)
}
