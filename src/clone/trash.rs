//! Deletion by way of the trash: a rename first, so that a half-deleted tree is never where a
//! whole one is looked for.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::btrfs;

/// Deletes a tree. What does not exist is deleted.
pub(super) fn remove(trash: &Path, path: &Path) -> io::Result<()> {
    /// Tells two deletions of one moment apart.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stamp = Timestamp::now().as_nanosecond();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let doomed = trash.join(format!("{name}-{stamp}-{number}"));
    match fs::rename(path, &doomed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    delete(&doomed)
}

/// Deletes everything in the trash.
pub(super) fn sweep(trash: &Path) -> io::Result<()> {
    for entry in fs::read_dir(trash)? {
        delete(&entry?.path())?;
    }
    Ok(())
}

/// Deletes a tree in which subvolumes stand at the top or directly below it.
fn delete(path: &Path) -> io::Result<()> {
    if btrfs::is_subvolume(path) {
        return btrfs::delete_subvolume(path);
    }
    if fs::symlink_metadata(path)?.is_dir() && btrfs::is_btrfs(path) {
        for entry in fs::read_dir(path)? {
            let inner = entry?.path();
            if btrfs::is_subvolume(&inner) {
                btrfs::delete_subvolume(&inner)?;
            }
        }
    }
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}
