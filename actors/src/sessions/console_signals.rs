//! Signals to a session of the console from outside: cancel requests, and its end.

use tokio::sync::{Notify, watch};

use super::EndReason;

/// The signals to one session of the console, which may come from any thread.
pub struct ConsoleSignals {
    cancel: Notify,
    end: watch::Sender<Option<EndReason>>,
}

impl Default for ConsoleSignals {
    fn default() -> Self {
        Self {
            cancel: Notify::new(),
            end: watch::channel(None).0,
        }
    }
}

impl ConsoleSignals {
    /// Cancels the statement that runs now, if one does.
    pub fn cancel(&self) {
        self.cancel.notify_waiters();
    }

    /// Resolves when a cancel request comes from now on.
    pub(crate) async fn cancelled(&self) {
        self.cancel.notified().await;
    }

    /// Ends the session. A session that is killed does not wait for its drain.
    pub fn end(&self, reason: EndReason) {
        self.end.send_if_modified(|end| {
            let is_new =
                !matches!(end, Some(before) if *before == EndReason::Killed || *before == reason);
            if is_new {
                *end = Some(reason);
            }
            is_new
        });
    }

    /// Resolves when the session is to end for a reason that is accepted.
    pub(crate) async fn ended(&self, accepts: impl Fn(&EndReason) -> bool) -> EndReason {
        let mut end = self.end.subscribe();
        loop {
            if let Some(reason) = end
                .borrow_and_update()
                .clone()
                .filter(|reason| accepts(reason))
            {
                return reason;
            }
            if end.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
