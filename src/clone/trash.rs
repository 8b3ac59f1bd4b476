//! Deletion by way of the trash: a rename first, so that a half-deleted tree is never where a
//! whole one is looked for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::btrfs;

/// Begins the names of what this process deletes: the sweep, which may run beside it, leaves that
/// alone.
static OURS: LazyLock<String> = LazyLock::new(|| {
    let pid = std::process::id();
    format!("{:x}-{pid}-", Timestamp::now().as_nanosecond())
});

/// Deletes a tree. What does not exist is deleted.
pub(super) fn remove(trash: &Path, path: &Path) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let doomed = trash.join(format!("{}{number}-{name}", *OURS));
    match fs::rename(path, &doomed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    delete(&doomed)
}

/// Deletes what earlier processes left in the trash, and says what could not be deleted.
pub(super) fn sweep(trash: &Path) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(trash)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(&*OURS);
        if ours {
            continue;
        }
        if let Err(error) = delete(&entry.path()) {
            left.push((entry.path(), error));
        }
    }
    Ok(left)
}

/// Deletes a tree. Subvolumes at its top or directly below go by one call each; where that is not
/// permitted, and for those that are deeper, the kernel lets an emptied one be removed like a
/// directory (since 4.18).
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
                tracing::debug!(path = %inner.display(), %error, "a subvolume is deleted file by file");
            }
        }
    }
    fs::remove_dir_all(path)
}
