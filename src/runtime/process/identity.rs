//! Which process a number meant: process ids are reused, also after a restart of the machine.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::runtime::postmaster::Postmaster;

/// One process, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessIdentity {
    /// Its id in the daemon's pid namespace.
    pid: i32,
    /// When it started, in clock ticks since the machine did.
    started: u64,
    /// The start of the machine.
    boot_id: String,
}

impl ProcessIdentity {
    /// The identity of a process that cannot have been reaped.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        Ok(Self {
            pid,
            started: started(pid)?,
            boot_id: boot_id()?,
        })
    }

    /// The process, if it still runs.
    pub(super) fn find(&self) -> Option<Postmaster> {
        if boot_id().ok()? != self.boot_id {
            return None;
        }
        let pid = Pid::from_raw(self.pid)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // After the descriptor was opened, which keeps the number from meaning another process.
        (started(self.pid).ok()? == self.started).then(|| Postmaster::new(pid, fd))
    }
}

/// The 22nd field of `/proc/<pid>/stat`, and an error for a process that has ended. The second field is the
/// program's name in parentheses, and may contain anything.
fn started(pid: i32) -> io::Result<u64> {
    const STATE: usize = 0;
    const STARTED: usize = 19;
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    if matches!(fields.get(STATE), Some(&("Z" | "X"))) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let started = fields.get(STARTED).and_then(|field| field.parse().ok());
    started.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The boot of this machine.
pub(in crate::runtime) fn boot_id() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_another_process_is_not_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let identity = ProcessIdentity::of(own).unwrap();
        assert!(identity.find().is_some());
        let earlier = ProcessIdentity {
            started: identity.started - 1,
            ..identity.clone()
        };
        assert!(earlier.find().is_none());
        let before_a_restart = ProcessIdentity {
            boot_id: String::new(),
            ..identity
        };
        assert!(before_a_restart.find().is_none());
    }
}
