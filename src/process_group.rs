//! A child that leads a process group, which ends with it.

use rustix::process::{Pid, Signal, kill_process_group};

/// The leader of a process group. Dropping it kills the group.
pub(crate) struct ProcessGroup<C: Leader>(pub(crate) C);

/// A child, of the standard library or of tokio.
pub(crate) trait Leader {
    /// Its process id, or `None` once it is reaped, after which the id can be reused.
    fn unreaped_id(&self) -> Option<u32>;

    /// Reaps it, now that it is killed.
    fn reap(&mut self);
}

impl<C: Leader> ProcessGroup<C> {
    /// Sends a signal to the group.
    pub(crate) fn signal(&self, signal: Signal) {
        let leader = self.0.unreaped_id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(leader, signal)
        {
            tracing::debug!(%error, "cannot signal a process group");
        }
    }
}

impl<C: Leader> Drop for ProcessGroup<C> {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.0.reap();
    }
}

impl Leader for tokio::process::Child {
    fn unreaped_id(&self) -> Option<u32> {
        self.id()
    }

    /// Tokio reaps a child that it drops.
    fn reap(&mut self) {}
}

/// A child that is not waited for before the drop.
impl Leader for std::process::Child {
    fn unreaped_id(&self) -> Option<u32> {
        Some(self.id())
    }

    fn reap(&mut self) {
        if let Err(error) = self.wait() {
            tracing::debug!(%error, "cannot wait for a program");
        }
    }
}
