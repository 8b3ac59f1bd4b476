//! Files that are read again when they change, and at SIGHUP.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The interval of checking the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The version of a file: the time of its last change, its inode, since most files are replaced by a
/// rename, and its length.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Files, with the versions of the last check.
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Vec<Stamp>,
    hangups: Signal,
}

impl WatchedFiles {
    /// Watches these files from now on. Must be called before they are read.
    ///
    /// # Errors
    ///
    /// SIGHUP cannot be listened to.
    pub fn new(paths: Vec<PathBuf>) -> io::Result<Self> {
        Ok(Self {
            seen: paths.iter().map(|path| stamp(path)).collect(),
            paths,
            hangups: signal(SignalKind::hangup())?,
        })
    }

    /// Calls `refresh` whenever one of the files has changed, and at SIGHUP, until the sender has no
    /// receivers.
    pub async fn keep_fresh<T>(mut self, sender: &watch::Sender<T>, refresh: impl Fn()) {
        loop {
            tokio::select! {
                () = self.changed() => refresh(),
                () = sender.closed() => return,
            }
        }
    }

    /// Resolves when one of the files has changed, and at SIGHUP.
    async fn changed(&mut self) {
        loop {
            let asked = tokio::select! {
                _ = self.hangups.recv() => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            let now: Vec<_> = self.paths.iter().map(|path| stamp(path)).collect();
            if std::mem::replace(&mut self.seen, now) != self.seen || asked {
                return;
            }
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?;
    Some((modified, metadata.ino(), metadata.len()))
}
