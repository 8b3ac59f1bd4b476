//! How fast a de-duplication reads, and when it waits or ends.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::DedupError;

/// A shorter wait is left to the next one.
const WAIT_MIN: Duration = Duration::from_millis(20);

/// The time without reads that is made up for, since blocks are shared in it.
const MADE_UP_MAX: Duration = Duration::from_secs(1);

/// The pace of one thread.
pub(super) struct Pace {
    /// Where the timers are.
    pub(super) runtime: Handle,
    /// In bytes a second.
    pub(super) bandwidth: u64,
    pub(super) paused: watch::Receiver<bool>,
    pub(super) cancelled: CancellationToken,
    /// When the bytes read so far may have been read, at the allowed rate.
    pub(super) due: Instant,
}

impl Pace {
    /// Waits until as many bytes more may be read, and while the de-duplication is paused.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), DedupError> {
        if self.cancelled.is_cancelled() {
            return Err(DedupError::Cancelled);
        }
        let now = Instant::now();
        let since = now.checked_sub(MADE_UP_MAX).unwrap_or(now);
        let time = Duration::from_secs_f64(bytes as f64 / self.bandwidth as f64);
        self.due = self.due.max(since) + time;
        let is_paused = *self.paused.borrow();
        if !is_paused && self.due < now + WAIT_MIN {
            return Ok(());
        }
        let (due, cancelled, paused) = (self.due, self.cancelled.clone(), &mut self.paused);
        let waited = async {
            tokio::time::sleep_until(due).await;
            // The sender lives as long as the daemon.
            let _daemon_ends = paused.wait_for(|paused| !paused).await;
        };
        self.runtime.block_on(async {
            tokio::select! {
                () = cancelled.cancelled() => Err(DedupError::Cancelled),
                () = waited => Ok(()),
            }
        })
    }
}
