//! A job's reports about itself, and the request to end.

use multidb_store::JobRecord;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The running work's side of its job.
#[derive(Debug, Clone)]
pub struct JobContext {
    status: watch::Sender<JobRecord>,
    cancelled: CancellationToken,
}

impl JobContext {
    pub(super) fn new(status: watch::Sender<JobRecord>, cancelled: CancellationToken) -> Self {
        Self { status, cancelled }
    }

    /// A step has begun.
    pub fn step(&self, step: &str) {
        self.report(|status| status.set_step(step));
    }

    /// The step is this far.
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        self.report(|status| {
            status.bytes_done = done;
            status.bytes_total = total;
        });
    }

    /// Something went otherwise than the user may expect, and the work goes on.
    pub fn warn(&self, warning: &str) {
        self.report(|status| status.add_warning(warning));
    }

    /// Fires when the job is cancelled or the daemon stops. The work then cleans up and returns
    /// [`WorkError::Cancelled`](super::WorkError::Cancelled).
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// An ended job does not change, even if a part of its work still holds the context.
    fn report(&self, change: impl FnOnce(&mut JobRecord)) {
        self.status.send_if_modified(|status| {
            let is_running = !status.state.is_ended();
            if is_running {
                change(status);
            }
            is_running
        });
    }
}
