//! The lock of the daemon that serves a root.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::RootError;
use crate::disk_fault::FileError;
use crate::layout::Layout;

const MODE: u32 = 0o600;
/// The interval between two attempts to get it.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// The lock of the daemon that serves a root.
#[derive(Debug)]
pub struct RootLock {
    pub(super) file: File,
}

impl RootLock {
    /// Takes the lock, and waits for it: a process that was just killed can have left it for some
    /// milliseconds with a child between its fork and its exec.
    ///
    /// # Errors
    ///
    /// Another process still has it after `timeout`, or the file cannot be opened.
    pub fn acquire(layout: &Layout, timeout: Duration) -> Result<Self, RootError> {
        let path = layout.lock();
        let mut waited = Duration::ZERO;
        loop {
            let file = open_lock(&path).map_err(FileError::at("open", &path))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Another file may have taken its name meanwhile.
                Ok(()) if is_at(&file, &path) => return Ok(Self { file }),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(FileError::at("lock", &path)(error.into()).into()),
            }
            if waited >= timeout {
                return Err(RootError::Locked {
                    root: layout.root().to_owned(),
                });
            }
            std::thread::sleep(RETRY_DELAY);
            waited += RETRY_DELAY;
        }
    }

    /// Keeps the lock until the process ends, after the end of all else in it.
    pub fn hold_for_life(self) {
        std::mem::forget(self.file);
    }
}

/// Opens the lock for reading, which is possible on a read-only file system; std closes it on exec.
fn open_lock(path: &Path) -> io::Result<File> {
    match File::options()
        .read(true)
        .custom_flags(no_follow())
        .open(path)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(MODE).custom_flags(no_follow()).open(path)
}

fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let same = || -> io::Result<bool> {
        let (held, named) = (file.metadata()?, fs::symlink_metadata(path)?);
        Ok((held.dev(), held.ino()) == (named.dev(), named.ino()))
    };
    same().unwrap_or(false)
}
