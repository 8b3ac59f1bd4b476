//! Keeps the log of a running server small.
//!
//! A server outlives the daemon, so it writes into a file and not into a pipe of the daemon's. The file
//! cannot be renamed under it; so its end is copied to `postgres.log.1`, and the file is emptied. A server appends,
//! and goes on at the file's new end. Lines that are written between the two steps are lost.

use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::fsutil::unless_missing;

/// A larger log is emptied.
const BYTES_MAX: u64 = 8 << 20;
/// The bytes that are kept of it.
const KEPT_BYTES: u64 = 4 << 20;
/// How often a log is looked at. In that time a statement can write as much as the disk takes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the log small until the server has ended.
pub(super) async fn bounded<T>(log: PathBuf, ended: impl Future<Output = T>) -> T {
    tokio::pin!(ended);
    loop {
        if let Ok(ended) = tokio::time::timeout(INTERVAL, &mut ended).await {
            return ended;
        }
        // A look is one system call.
        if !fs::symlink_metadata(&log).is_ok_and(|metadata| metadata.len() > BYTES_MAX) {
            continue;
        }
        let path = log.clone();
        let rotated = tokio::task::spawn_blocking(move || rotate(&path)).await;
        if let Ok(Err(error)) = rotated {
            tracing::warn!(path = %log.display(), %error, "cannot shorten a server's log");
        }
    }
}

fn rotate(path: &Path) -> io::Result<()> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut log = File::options()
        .read(true)
        .write(true)
        .custom_flags(no_link)
        .open(path)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(KEPT_BYTES)))?;
    let kept = path.with_extension("log.1");
    unless_missing(fs::remove_file(&kept))?;
    let copied = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&kept)
        .and_then(|mut kept| io::copy(&mut (&log).take(KEPT_BYTES), &mut kept));
    // Also where there is no room for a copy: this makes the room.
    log.set_len(0)?;
    copied.map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn emptied_log_keeps_its_end_beside_it_and_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postgres.log");
        let mut server = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..9 {
            server.write_all(&line).unwrap();
        }
        server.write_all(b"last\n").unwrap();
        for round in 1..3_u64 {
            rotate(&path).unwrap();
            let kept = fs::read(path.with_extension("log.1")).unwrap();
            assert!(kept.len() as u64 <= KEPT_BYTES && kept.ends_with(b"last\n"));
            server.write_all(b"last\n").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"last\n", "{round}");
        }
    }

    #[test]
    fn link_in_place_of_a_log_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (
            directory.path().join("postgres.log"),
            directory.path().join("target"),
        );
        fs::write(&target, "text").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(rotate(&path).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"text");
    }
}
