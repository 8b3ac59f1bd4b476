//! A child that leads a process group, which ends with it.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// The leader of a process group. Dropping it kills the group.
pub(crate) struct ProcessGroup(pub(crate) Child);

impl ProcessGroup {
    /// Sends a signal to the group.
    pub(crate) fn signal(&self, signal: Signal) {
        // `id` is `None` once the child is reaped, after which its process id can be reused.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(leader, signal)
        {
            tracing::debug!(%error, "cannot signal a process group");
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
