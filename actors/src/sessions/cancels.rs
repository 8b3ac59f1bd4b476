//! The cancel requests for a session that are on their way to its backend.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// Counts the cancel requests of one session that its backend's postmaster has not confirmed.
///
/// Until 17, Postgres signals a cancelled backend twice, the process and then its group (`signal_child` in
/// `postmaster.c`), and closes the request's connection afterwards. A client that sends its next query after the
/// first signal can lose that query to the second one. libpq waits for the connection's end for this reason
/// (`PQcancel` in `fe-cancel.c`); other drivers do not, so the relay waits for them.
#[derive(Debug, Default)]
pub struct PendingCancels {
    count: AtomicUsize,
    none: AtomicWaker,
}

/// One request, until it is dropped.
pub(crate) struct PendingCancel<'a>(&'a PendingCancels);

impl PendingCancels {
    /// Counts a request.
    pub(crate) fn begin(&self) -> PendingCancel<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        PendingCancel(self)
    }

    /// Ready when there is no request. Only one task may wait.
    pub(crate) fn poll_none(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_none() {
            return Poll::Ready(());
        }
        self.none.register(cx.waker());
        // The last request may have ended before the waker was there.
        if self.is_none() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn is_none(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }
}

impl Drop for PendingCancel<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.wake();
        }
    }
}
