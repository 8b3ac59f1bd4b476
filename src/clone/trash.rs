//! Deletion by way of the trash: a tree is renamed first, so that a half-deleted one is never found
//! in its old place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use multidb_store::atomic_file;

use crate::fsutil::beneath;

/// The prefix of the names that this process gives, which its own sweep skips.
static OWN_PREFIX: LazyLock<String> = LazyLock::new(|| {
    let pid = std::process::id();
    format!("{:x}-{pid}-", Timestamp::now().as_nanosecond())
});

/// Moves a tree to the trash, durably, and deletes it there. A missing tree is no error. Nor is one that cannot be
/// deleted in the trash: it is gone from its place, and the next start of multidb tries again.
pub(super) fn remove(trash: &Path, path: &Path) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let doomed = trash.join(format!("{}{number}-{name}", *OWN_PREFIX));
    // Trusted path: only multidb can write the directory, and the trash.
    match fs::rename(path, &doomed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    // The rename was the deletion. After a power cut it may be found undone, which loses nothing.
    let synced = [trash, atomic_file::directory_of(path)].map(atomic_file::sync_directory);
    for error in synced.into_iter().filter_map(Result::err) {
        tracing::warn!(path = %path.display(), %error, "cannot make a deletion durable");
    }
    if let Err(error) = beneath::remove(&doomed) {
        let error = multidb_store::error_chain(&error);
        tracing::warn!(path = %doomed.display(), error, "cannot delete a tree in the trash, the next start of multidb tries again");
    }
    Ok(())
}

/// Deletes the leftovers of earlier processes, and returns those that it could not delete.
pub(super) fn sweep(trash: &Path) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let mut left = Vec::new();
    // Trusted path: only multidb can write the trash.
    for entry in fs::read_dir(trash)? {
        let entry = entry?;
        let is_own = entry
            .file_name()
            .to_string_lossy()
            .starts_with(&*OWN_PREFIX);
        if is_own {
            continue;
        }
        if let Err(error) = beneath::remove(&entry.path()) {
            left.push((entry.path(), error.into()));
        }
    }
    Ok(left)
}
