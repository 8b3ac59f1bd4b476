//! Files that are read again when they change, and at SIGHUP.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What tells one state of a file from another: when it was changed, which file it is, since most are
/// replaced by a rename, and its length.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Some files, and how they were when they were looked at last.
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Vec<Stamp>,
    hangups: Signal,
}

impl WatchedFiles {
    /// Watches these files from now on: what is read afterwards is read again when it changes.
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

    /// Calls `refresh` whenever one of the files has changed, or SIGHUP asks for them, for as long as anybody
    /// listens to what it sends.
    pub async fn keep_fresh<T>(mut self, sender: &watch::Sender<T>, refresh: impl Fn()) {
        loop {
            tokio::select! {
                () = self.changed() => refresh(),
                () = sender.closed() => return,
            }
        }
    }

    /// Resolves when one of the files has changed, or somebody asks for them by SIGHUP.
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
