//! Locks in a mirror that killed processes of git left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A lock is stale when it is older than this many fetch timeouts, and than the minimum below.
const STALE_FETCHES: u32 = 2;
const STALE_LOCK_AGE_MIN: Duration = Duration::from_secs(60);

/// Removes stale locks, and returns their number.
pub(super) async fn remove_stale(mirror: PathBuf, fetch_timeout: Duration) -> usize {
    let age_min = (fetch_timeout * STALE_FETCHES).max(STALE_LOCK_AGE_MIN);
    let path = mirror.clone();
    let removed = tokio::task::spawn_blocking(move || remove_locks(&path, age_min)).await;
    match removed {
        Ok(Ok(count)) => count,
        Ok(Err(error)) => {
            tracing::warn!(path = %mirror.display(), %error, "cannot remove stale locks of a mirror");
            0
        }
        Err(_) => 0,
    }
}

/// Removes locks older than this from a bare repository, and returns their number.
fn remove_locks(directory: &Path, age_min: Duration) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            // There are many objects, and no locks among them.
            if entry.file_name() != "objects" {
                removed += remove_locks(&path, age_min)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "lock")
            && metadata
                .modified()?
                .elapsed()
                .is_ok_and(|age| age > age_min)
        {
            fs::remove_file(&path)?;
            tracing::info!(path = %path.display(), "stale lock removed");
            removed += 1;
        }
    }
    Ok(removed)
}
