//! Deletion by way of the trash: a tree is renamed first, so that a half-deleted one is never found
//! in its old place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use multidb_store::atomic_file;

use crate::fsutil::beneath;

/// The prefix of the names that this process gives.
static OWN_PREFIX: LazyLock<String> = LazyLock::new(|| {
    let pid = std::process::id();
    format!("{:x}-{pid}-", Timestamp::now().as_nanosecond())
});

/// The trees that this process is deleting, which a sweep skips.
static BEING_DELETED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn being_deleted() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    BEING_DELETED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tree in the trash that is being deleted, until this is dropped.
struct Deletion(PathBuf);

impl Deletion {
    fn of(path: PathBuf) -> Self {
        being_deleted().insert(path.clone());
        Self(path)
    }
}

impl Drop for Deletion {
    fn drop(&mut self) {
        being_deleted().remove(&self.0);
    }
}

/// Moves a tree to the trash, where the next sweep deletes it. A missing tree is no error.
pub(super) fn put(trash: &Path, path: &Path) -> io::Result<()> {
    begin(trash, path).map(drop)
}

/// Moves a tree to the trash, for the caller to delete. `None` if there is none.
fn begin(trash: &Path, path: &Path) -> io::Result<Option<Deletion>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let deletion = Deletion::of(trash.join(format!("{}{number}-{name}", *OWN_PREFIX)));
    // Trusted path: only multidb can write the directory, and the trash.
    match fs::rename(path, &deletion.0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        renamed => renamed.map(|()| Some(deletion)),
    }
}

/// Moves a tree to the trash, durably, and deletes it there. A missing tree is no error. Nor is a tree that cannot be
/// deleted in the trash: it is gone from its place, and the next start of multidb tries again.
pub(super) fn remove(trash: &Path, path: &Path) -> io::Result<()> {
    let Some(deletion) = begin(trash, path)? else {
        return Ok(());
    };
    let doomed = &deletion.0;
    // The rename was the deletion. After a power cut it may be found undone, which loses nothing.
    let synced = [trash, atomic_file::directory_of(path)].map(atomic_file::sync_directory);
    for error in synced.into_iter().filter_map(Result::err) {
        tracing::warn!(path = %path.display(), %error, "cannot make a deletion durable");
    }
    if let Err(error) = beneath::remove(doomed) {
        let error = multidb_store::error_chain(&error);
        tracing::warn!(path = %doomed.display(), error, "cannot delete a tree in the trash, the next start of multidb tries again");
    }
    Ok(())
}

/// The number of trees in the trash that nothing deletes now: trees of earlier processes, and trees whose deletion
/// failed.
pub(super) fn count(trash: &Path) -> io::Result<usize> {
    Ok(claim(trash)?.len())
}

/// Deletes these leftovers, and returns the ones that it could not delete.
pub(super) fn sweep(trash: &Path) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let mut left = Vec::new();
    for deletion in claim(trash)? {
        if let Err(error) = beneath::remove(&deletion.0) {
            left.push((deletion.0.clone(), error.into()));
        }
    }
    Ok(left)
}

/// The trees that nothing deletes now, for the caller to delete.
fn claim(trash: &Path) -> io::Result<Vec<Deletion>> {
    // Trusted path: only multidb can write the trash.
    let entries = fs::read_dir(trash)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    let mut busy = being_deleted();
    paths.retain(|path| busy.insert(path.clone()));
    Ok(paths.into_iter().map(Deletion).collect())
}
