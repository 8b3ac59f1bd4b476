//! A child of the daemon, held by a pidfd.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use libc::{c_int, c_long};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_send_signal, waitid,
};
use tokio::io::unix::AsyncFd;

use super::child::Child;

/// A child. A drop leaves it running; it is reaped when it ends.
#[derive(Debug)]
pub(in crate::runtime::process) struct Process {
    pid: Pid,
    /// None once it was reaped.
    fd: Option<OwnedFd>,
}

impl Process {
    /// Makes a child with these flags of clone(2), in which `child` runs.
    pub(super) fn clone_with(flags: c_int, child: &mut Child) -> io::Result<Self> {
        let mut fd: c_int = -1;
        let flags = c_long::from(flags | libc::CLONE_PIDFD | libc::SIGCHLD);
        // SAFETY: without CLONE_VM the child has a copy of the memory, as after fork(2), and its only
        // thread runs `Child::run`, which allocates nothing, takes no lock, and does not return. The
        // first three arguments have these places on every architecture that Rust's libc calls x86_64,
        // aarch64 or riscv64; the kernel writes the descriptor to the third.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut fd, 0, 0) };
        if pid == 0 {
            // SAFETY: this is the child of a clone, with one thread.
            unsafe { child.run() }
        }
        let Some(pid) = child_id(pid) else {
            return Err(io::Error::last_os_error());
        };
        // SAFETY: the kernel has just opened it for this process, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { pid, fd: Some(fd) })
    }

    /// Its id in the daemon's pid namespace.
    pub(in crate::runtime::process) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal. A child that has ended needs none.
    pub(in crate::runtime::process) fn signal(&self, signal: Signal) {
        let Some(fd) = &self.fd else { return };
        if let Err(error) = pidfd_send_signal(fd, signal) {
            tracing::debug!(pid = %self.pid.as_raw_nonzero(), %error, "signal was not sent");
        }
    }

    /// Kills it and its process group; in a pid namespace of its own, all its descendants with it.
    pub(in crate::runtime::process) fn kill_group(&self) {
        if self.fd.is_none() {
            return;
        }
        // It was not reaped, so the number is still its own.
        if let Err(error) = kill_process_group(self.pid, Signal::KILL) {
            tracing::debug!(pid = %self.pid.as_raw_nonzero(), %error, "a process group was not killed");
        }
        self.signal(Signal::KILL);
    }

    /// Resolves with its exit status when it has ended, and with it, in a pid namespace of its own, all its
    /// descendants.
    ///
    /// # Errors
    ///
    /// It was waited for before, or cannot be watched.
    pub(in crate::runtime::process) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let fd = self.fd.as_ref().ok_or(io::ErrorKind::NotFound)?;
        // SAFETY: the registration owns the descriptor, so it stays open as long.
        let watched = unsafe { AsyncFd::register(fd.try_clone()?) }?;
        let _readable = watched.readable().await?;
        let status = reap(fd, WaitIdOptions::EXITED)?.ok_or(io::ErrorKind::NotFound)?;
        self.fd = None;
        Ok(exit_status(&status))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        if let Ok(None) = reap(&fd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            // It still runs. A thread costs nothing while it waits.
            let reaper = std::thread::Builder::new().name("reaper".to_owned());
            if let Err(error) = reaper.spawn(move || reap(&fd, WaitIdOptions::EXITED)) {
                tracing::warn!(pid = %self.pid.as_raw_nonzero(), %error, "a process will not be reaped");
            }
        }
    }
}

fn reap(fd: &OwnedFd, options: WaitIdOptions) -> io::Result<Option<WaitIdStatus>> {
    loop {
        match waitid(WaitId::PidFd(fd.as_fd()), options) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// The child's id in the answer of clone(2) to its parent; none where it was refused.
fn child_id(answer: c_long) -> Option<Pid> {
    let id = i32::try_from(answer).ok();
    id.filter(|id| *id > 0).and_then(Pid::from_raw)
}

fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code << 8,
        (None, Some(signal)) => signal,
        (None, None) => 0,
    };
    ExitStatus::from_raw(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_clone_has_no_child() {
        assert_eq!(child_id(-1), None);
        assert_eq!(child_id(7).map(|id| id.as_raw_nonzero().get()), Some(7));
    }
}
