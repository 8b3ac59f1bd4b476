//! A postmaster of ours as the kernel knows it: found by its `postmaster.pid`, held by a pidfd, so
//! that a process id that was given to another program is never signalled.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

/// A running postmaster.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    fd: OwnedFd,
}

impl Postmaster {
    /// The postmaster that runs on this data directory, by its own word and the kernel's.
    pub(super) fn find(data_dir: &Path) -> Option<Self> {
        let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        let pid = Pid::from_raw(pid)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The descriptor is of the process that has the number now: only then is it asked who it
        // is. A postmaster's working directory is its data directory.
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let directory = fs::read_link(proc.join("cwd")).ok()?;
        let program = fs::read_link(proc.join("exe")).ok()?;
        let is_ours = directory == data_dir.canonicalize().ok()?
            && program.file_name().is_some_and(|name| {
                // The kernel marks a program that an upgrade has replaced.
                name.to_string_lossy().trim_end_matches(" (deleted)") == "postgres"
            });
        is_ours.then_some(Self { pid, fd })
    }

    /// A postmaster that we have just started.
    ///
    /// # Errors
    ///
    /// It has been reaped already, or there is no descriptor left.
    pub(super) fn of_child(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, fd })
    }

    /// Sends it a signal. One that has exited needs none.
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
        // SAFETY: the descriptor is owned by what is registered, so it stays open as long.
        let fd = unsafe { AsyncFd::register(self.fd.try_clone()?) }?;
        let _readable = fd.readable().await?;
        Ok(())
    }

    /// Stops it: fast shutdown, after `patience` an immediate one, then by force.
    ///
    /// # Errors
    ///
    /// It does not even end by force.
    pub(super) async fn stop(&self, patience: Duration) -> io::Result<()> {
        /// What an immediate shutdown may take: it only has to end its backends.
        const IMMEDIATE_PATIENCE: Duration = Duration::from_secs(5);
        let steps = [
            (Signal::INT, patience),
            (Signal::QUIT, IMMEDIATE_PATIENCE),
            (Signal::KILL, IMMEDIATE_PATIENCE),
        ];
        for (signal, patience) in steps {
            self.signal(signal);
            match tokio::time::timeout(patience, self.exited()).await {
                Ok(exited) => return exited,
                Err(_) => {
                    let pid = self.pid.as_raw_nonzero();
                    tracing::warn!(%pid, ?signal, ?patience, "postgres did not stop in time");
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}
