//! A running postmaster, found by its `postmaster.pid` and held by a pidfd, so that a process id that
//! was given to another program is never signalled.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::fsutil::beneath::{self, Directory, TreeError};

/// The file by which a postmaster is found.
const PID_FILE: &str = "postmaster.pid";
/// The most that is read of it.
const PID_FILE_BYTES_MAX: u64 = 4096;

/// The server that a `postmaster.pid` names.
#[derive(Debug, Default)]
pub struct PidFile {
    /// Its process.
    pub pid: Option<Pid>,
    /// Its data directory.
    pub data_dir: Option<PathBuf>,
}

impl PidFile {
    /// Reads the file of a data directory; `None` if there is none. A user who can write the directory can have put
    /// anything there.
    ///
    /// # Errors
    ///
    /// It is no regular file, is too long, or cannot be read.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, TreeError> {
        let text = Directory::open(data_dir)?.read(PID_FILE, PID_FILE_BYTES_MAX)?;
        Ok(text.map(|text| {
            let text = String::from_utf8_lossy(&text);
            let mut lines = text.lines().map(str::trim);
            let pid = lines.next().and_then(|line| line.parse().ok());
            Self {
                pid: pid.and_then(Pid::from_raw),
                data_dir: lines.next().map(PathBuf::from),
            }
        }))
    }
}

/// A running postmaster.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    fd: OwnedFd,
}

impl Postmaster {
    /// The postmaster on this data directory, by `postmaster.pid` and by `/proc`.
    pub(super) fn find(data_dir: &Path) -> Option<Self> {
        let pid = PidFile::read(data_dir).ok()??.pid?;
        Self::of_pid(pid.as_raw_pid(), DirectoryId::of(data_dir).ok()?)
    }

    /// The process with this id, if it is one of a server on this data directory, which a server's processes have as
    /// their working directory.
    pub(super) fn of_pid(pid: i32, data_dir: DirectoryId) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let is_ours = || {
            DirectoryId::of(&proc.join("cwd")).is_ok_and(|directory| directory == data_dir)
                && fs::read_link(proc.join("exe")).is_ok_and(|program| is_postgres(&program))
        };
        if !is_ours() {
            return None;
        }
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number may have changed hands before the descriptor was opened.
        is_ours().then_some(Self { pid, fd })
    }

    /// A process that was identified by other means.
    pub(super) fn new(pid: Pid, fd: OwnedFd) -> Self {
        Self { pid, fd }
    }

    /// Sends it a signal. A server that has exited needs none.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(&self.fd, signal) {
            tracing::debug!(pid = %self.pid.as_raw_nonzero(), %error, "signal was not sent");
        }
    }

    /// Resolves when it has exited.
    ///
    /// # Errors
    ///
    /// The descriptor cannot be watched.
    pub(super) async fn exited(&self) -> io::Result<()> {
        // SAFETY: the registration owns the descriptor, so it stays open as long.
        let fd = unsafe { AsyncFd::register(self.fd.try_clone()?) }?;
        let _readable = fd.readable().await?;
        Ok(())
    }

    /// Stops it: fast shutdown, after `timeout` an immediate one, then SIGKILL.
    ///
    /// # Errors
    ///
    /// SIGKILL does not end it.
    pub(super) async fn stop(&self, timeout: Duration) -> io::Result<()> {
        /// Long enough for an immediate shutdown, which only ends the backends.
        const IMMEDIATE_TIMEOUT: Duration = Duration::from_secs(5);
        let steps = [
            (Signal::INT, timeout),
            (Signal::QUIT, IMMEDIATE_TIMEOUT),
            (Signal::KILL, IMMEDIATE_TIMEOUT),
        ];
        for (signal, timeout) in steps {
            self.signal(signal);
            match tokio::time::timeout(timeout, self.exited()).await {
                Ok(exited) => return exited,
                Err(_) => {
                    let pid = self.pid.as_raw_nonzero();
                    tracing::warn!(%pid, ?signal, ?timeout, "postgres did not stop in time");
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// A directory, regardless of its path, also in another mount namespace or after a rename; until the machine is
/// restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirectoryId {
    device: u64,
    inode: u64,
}

impl DirectoryId {
    /// # Errors
    ///
    /// There is none at this path.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        // Trusted path: the kernel's, and the parents of a data directory are multidb's.
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// Whether a server did not end in order on this data directory, or runs: an orderly shutdown removes the file, after all
/// processes have ended. A superuser can remove it too.
pub(super) fn has_pid_file(data_dir: &Path) -> bool {
    let found = Directory::open(data_dir).and_then(|opened| opened.find(PID_FILE));
    found.is_ok_and(|found| found.is_some())
}

/// Removes `postmaster.pid` if it is empty. A postmaster leaves an empty one if it is killed, or loses power,
/// before it has written it, and no later one goes past it ("lock file is empty", `CreateLockFile` in miscinit.c). The
/// caller knows that no server runs on the directory.
pub(super) fn remove_empty_pid_file(data_dir: &Path) {
    let name = OsStr::new(PID_FILE);
    let removed = Directory::open(data_dir).and_then(|directory| {
        let is_empty = directory
            .read(name, PID_FILE_BYTES_MAX)?
            .is_some_and(|text| text.is_empty());
        if is_empty {
            directory.unlink(name)?;
        }
        Ok(is_empty)
    });
    match removed {
        Ok(true) => tracing::info!(
            data_dir = %data_dir.display(),
            "removed the empty postmaster.pid of a server that was killed"
        ),
        Ok(false) => {}
        // Postgres reports the problem of the file.
        Err(error) => tracing::debug!(%error, "postmaster.pid was not read"),
    }
}

/// Whether this is the program of a server. The kernel marks a program that an upgrade has replaced.
fn is_postgres(program: &Path) -> bool {
    let name = program.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.trim_end_matches(" (deleted)") == "postgres")
}

/// A `postmaster.pid`, and the time of its last change. A superuser in the instance can put anything
/// in its place: a link or a pipe is not followed, and a long file not read to its end.
///
/// # Errors
///
/// There is none, or it cannot be read.
pub(super) fn read_pid_file(path: &Path) -> io::Result<(String, SystemTime)> {
    let file = beneath::open_file(path)?;
    let written = file.metadata()?.modified()?;
    let mut text = String::new();
    file.take(PID_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok((text, written))
}
