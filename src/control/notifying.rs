//! The occurrences that the targets of `[[notify]]` are told of: a look at the present state, every few seconds. Of the
//! instances it looks at the changed ones, so that instances with nothing to tell cost nothing.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{atomic_file, error_chain};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::access::{Action, Caller, Resource, authorize};
use super::model::{NotifyTestView, NotifyView};
use super::{Control, ControlError};
use crate::fsutil::unless_missing;
use crate::notify::TargetStatus;
use crate::notify::ledger::Ledger;
use crate::notify::message::Message;

mod occurrences;

use self::occurrences::Watched;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(5);
/// The delay after a defect.
const DEFECT_DELAY: Duration = Duration::from_secs(60);

/// `state/notified.json`: the keys of occurrences that were told and need not be told again.
#[derive(Debug, Serialize, Deserialize)]
struct Notified {
    keys: BTreeSet<String>,
}

impl Control {
    /// Tells the targets, for as long as it is polled. A defect in it ends nothing else.
    pub async fn run_notifications(&self) {
        if self.deps.notifier.is_empty() {
            self.forget_notified();
            return;
        }
        loop {
            let control = self.clone();
            let run = tokio::spawn(async move {
                tokio::join!(control.look_for_events(), control.deps.notifier.run());
            });
            if let Err(error) = AbortOnDropHandle::new(run).await {
                tracing::error!(%error, "the notifications ended by a defect, and begin again in a minute");
            }
            tokio::time::sleep(DEFECT_DELAY).await;
        }
    }

    /// The targets, for the status.
    pub(super) fn notify_status(&self) -> Vec<NotifyView> {
        let targets = self.deps.notifier.status().into_iter();
        let view = |TargetStatus {
                        target,
                        on,
                        queued,
                        counts,
                    }| NotifyView {
            target,
            on: on.into_iter().map(str::to_owned).collect(),
            queued,
            sent: counts.sent,
            failed: counts.failed,
            dropped: counts.dropped,
            last_sent_at: counts.last_sent_at,
            last_error: counts.last_error,
        };
        targets.map(view).collect()
    }

    /// Sends each target a message to try it.
    ///
    /// # Errors
    ///
    /// The caller may not. A target that does not take it has its error in the answer.
    pub async fn test_notifications(
        &self,
        caller: &Caller,
    ) -> Result<Vec<NotifyTestView>, ControlError> {
        authorize(
            caller,
            Action::Change,
            Resource::Daemon,
            "try the notifications",
        )?;
        let message = Message::test(Timestamp::now());
        let results = self.deps.notifier.deliver_to_all(&message).await;
        let view = |(target, error)| NotifyTestView { target, error };
        Ok(results.into_iter().map(view).collect())
    }

    async fn look_for_events(&self) {
        let (settled, mut receiver) = unbounded_channel();
        let (mut ledger, is_first) = self.ledger().await;
        let Ok(mut watched) = Watched::new(&self.deps.supervisor).await else {
            // With the Supervisor the daemon ends.
            return std::future::pending().await;
        };
        if is_first {
            self.skip_ended_jobs(&mut ledger);
        }
        let mut written = None;
        let mut looks = tokio::time::interval(INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            take_settled(&mut ledger, &mut receiver);
            if let Err(error) = self.look_once(&mut ledger, &mut watched, &settled).await {
                tracing::debug!(error = error_chain(&error), "events were not looked for");
            }
            take_settled(&mut ledger, &mut receiver);
            if written.as_ref() != Some(ledger.settled()) {
                self.write_notified(ledger.settled().clone()).await;
                // A write that failed is tried again with the next change.
                written = Some(ledger.settled().clone());
            }
        }
    }

    async fn look_once(
        &self,
        ledger: &mut Ledger,
        watched: &mut Watched,
        settled: &UnboundedSender<Vec<String>>,
    ) -> Result<(), ControlError> {
        let now = self.deps.clock.now();
        let current = self.occurrences(watched, now).await?;
        for occurrences in ledger.look(current, Instant::now()) {
            if let Some(message) = Message::new(occurrences, now.wall, settled.clone()) {
                self.deps.notifier.send(message);
            }
        }
        watched.forget_failures(|key| ledger.is_told(key));
        Ok(())
    }

    /// Skips the jobs that ended before the daemon's start, on the first run with targets.
    fn skip_ended_jobs(&self, ledger: &mut Ledger) {
        let now = Instant::now();
        for job in self.deps.jobs.list() {
            if job
                .ended_at
                .is_some_and(|ended| ended < self.deps.started_at)
            {
                ledger.skip(occurrences::job_key(job.id), now);
            }
        }
    }

    fn notified(&self) -> PathBuf {
        self.deps.layout.notified()
    }

    /// The ledger of the daemon before, or a first one.
    async fn ledger(&self) -> (Ledger, bool) {
        let path = self.notified();
        let read = tokio::task::spawn_blocking(move || {
            let text = std::fs::read(&path)?;
            let notified: Notified = serde_json::from_slice(&text)?;
            std::io::Result::Ok(notified.keys)
        });
        let keys = read.await.unwrap_or_else(|error| Err(error.into()));
        let now = Instant::now();
        match keys {
            Ok(keys) => (Ledger::new(keys, now), false),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(%error, "what was notified is not known, so it may be told again");
                }
                (Ledger::new(BTreeSet::new(), now), true)
            }
        }
    }

    async fn write_notified(&self, keys: BTreeSet<String>) {
        let path = self.notified();
        let write = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&Notified { keys })?;
            atomic_file::replace(&path, &text, 0o600, |_| Ok(()))
        });
        let written = write.await.unwrap_or_else(|error| Err(error.into()));
        if let Err(error) = written {
            tracing::warn!(%error, "what was notified is not recorded, so a restart may tell it again");
        }
    }

    /// Without targets the file is not kept up to date, and old news would be told to a later one.
    fn forget_notified(&self) {
        if let Err(error) = unless_missing(std::fs::remove_file(self.notified())) {
            tracing::warn!(%error, "cannot remove {}", self.notified().display());
        }
    }
}

fn take_settled(ledger: &mut Ledger, receiver: &mut UnboundedReceiver<Vec<String>>) {
    while let Ok(keys) = receiver.try_recv() {
        ledger.settle(keys);
    }
}
