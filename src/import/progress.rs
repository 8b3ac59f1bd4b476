//! The progress of an import: its steps, bytes and warnings, and their way to the caller.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::error::ImportError;

/// The events that are queued for a slow caller.
const EVENTS_MAX: usize = 64;
/// How often the bytes of a step are reported.
const BYTES_INTERVAL: Duration = Duration::from_millis(200);

/// A step of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The source is checked.
    Check,
    /// A running server is copied.
    Backup,
    /// The copy of a running server is recovered and stopped.
    Recover,
    /// The data directory, or the template cluster, is copied.
    Copy,
    /// The dump is restored.
    Restore,
    /// The preparations are run.
    Prepare,
    /// Everything is written anew, so that no data that the preparations removed is left.
    Rewrite,
    /// The applied migrations are read.
    Migrations,
    /// All tables are frozen and analysed.
    Vacuum,
    /// The server is stopped, and its data trimmed and made durable.
    Finish,
}

impl Step {
    /// The step as a progress bar shows it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Check => "checking the source",
            Self::Backup => "copying from the server",
            Self::Recover => "recovering the copy",
            Self::Copy => "copying files",
            Self::Restore => "restoring the dump",
            Self::Prepare => "preparing",
            Self::Rewrite => "rewriting prepared tables",
            Self::Migrations => "reading migrations",
            Self::Vacuum => "vacuuming",
            Self::Finish => "finishing",
        }
    }
}

/// An event of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// A step has begun.
    Step(Step),
    /// The progress of the current step, in bytes of the source.
    Bytes {
        /// The bytes that are done.
        done: u64,
        /// All bytes of the step, if known.
        total: Option<u64>,
    },
    /// A preparation has begun.
    Preparation {
        /// Its place in the order, from 1.
        number: usize,
        /// The number of all.
        count: usize,
        /// The command or script that it runs.
        name: String,
    },
    /// A warning for the user.
    Warning(String),
}

/// Sends the events of one import to its caller.
///
/// Send errors are ignored: without a receiver the import is being cancelled.
pub(super) struct ProgressSender {
    events: mpsc::Sender<Progress>,
}

impl ProgressSender {
    /// A sender, and the receiver that ends when the sender is dropped.
    pub(super) fn channel() -> (Self, mpsc::Receiver<Progress>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        (Self { events }, receiver)
    }

    /// Reports that a step begins.
    pub(super) async fn begin(&self, step: Step) {
        let _ = self.events.send(Progress::Step(step)).await;
    }

    /// Reports that a preparation begins.
    pub(super) async fn preparation(&self, number: usize, count: usize, name: &str) {
        let name = name.to_owned();
        let begun = Progress::Preparation {
            number,
            count,
            name,
        };
        let _ = self.events.send(begun).await;
    }

    /// Reports a warning.
    pub(super) async fn warn(&self, text: String) {
        let _ = self.events.send(Progress::Warning(text)).await;
    }

    /// Runs a step and reports its bytes, every [`BYTES_INTERVAL`] and at its end.
    pub(super) async fn with_bytes<T>(
        &self,
        bytes: &AtomicU64,
        total: Option<u64>,
        step: impl Future<Output = Result<T, ImportError>>,
    ) -> Result<T, ImportError> {
        tokio::pin!(step);
        let mut ticks = tokio::time::interval(BYTES_INTERVAL);
        loop {
            let ended = tokio::select! {
                result = &mut step => Some(result),
                _ = ticks.tick() => None,
            };
            let done = bytes.load(Ordering::Relaxed);
            // Dropped where the queue is full: a slow caller does not slow the step down.
            let _ = self.events.try_send(Progress::Bytes { done, total });
            if let Some(result) = ended {
                return result;
            }
        }
    }
}
