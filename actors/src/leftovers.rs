//! Leftovers: complete or incomplete clones that bear an instance's name and are not its data. A reset has replaced
//! them, a reset or a creation made them and failed, or a start found them.
//!
//! A start serves the clone of the highest epoch under a name without a record. So each leftover is put aside,
//! deleted or quarantined, and where that fails it is tried again without end. Until it has succeeded:
//!
//! - the deletion of the instance fails, or the leftover would come back under the name after the next start;
//! - a leftover of a higher epoch than the instance's clone keeps the instance from being used, or the next start would
//!   serve it in place of the data.
//!
//! The table outlives the actors of instances, and their panics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use multidb_store::recovery::{Leftover, LeftoverAction};
use multidb_store::{InstanceName, InstanceRecord, InstanceUid, error_chain};

use crate::clone_worker::{CloneWorker, DiscardClone, QuarantineClone};
use crate::limits::STOP_TIMEOUT;
use crate::ports::{CloneError, Runtime, ServerId};

/// The delay before a leftover is tried again; it doubles each time.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// The leftovers that are not put aside yet.
#[derive(Clone)]
pub struct Leftovers {
    by_uid: Arc<Mutex<BTreeMap<InstanceUid, Tracked>>>,
    runtime: Arc<dyn Runtime>,
    worker: Addr<CloneWorker>,
}

/// A leftover, and the lock for putting it aside.
struct Tracked {
    leftover: Leftover,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Leftovers {
    /// An empty table.
    pub fn new(runtime: Arc<dyn Runtime>, worker: Addr<CloneWorker>) -> Self {
        Self {
            by_uid: Arc::default(),
            runtime,
            worker,
        }
    }

    /// Adds a leftover. Nothing is done to it yet: it may be a clone in progress.
    pub fn add(&self, leftover: Leftover) {
        let tracked = Tracked {
            turn: Arc::default(),
            leftover,
        };
        self.lock().insert(tracked.leftover.uid, tracked);
    }

    /// Forgets a clone: it was put aside, or has become the instance's data.
    pub fn forget(&self, uid: InstanceUid) {
        self.lock().remove(&uid);
    }

    /// Whether a clone bears this name.
    pub fn has_name(&self, name: &InstanceName) -> bool {
        let by_uid = self.lock();
        let mut names = by_uid.values().map(|tracked| &tracked.leftover.name);
        names.any(|other| other.as_ref() == Some(name))
    }

    /// Puts aside a leftover that was added. Returns after the first attempt; if that fails, others follow.
    pub async fn put_aside(&self, uid: InstanceUid) {
        let leftovers = self.clone();
        attempt(uid, async move || leftovers.try_to_put_aside(uid).await).await;
    }

    /// Stops the server of a clone that is neither an instance's nor on the disk. Returns after the first attempt, too.
    pub async fn stop_stray(&self, uid: InstanceUid) {
        let leftovers = self.clone();
        attempt(uid, async move || leftovers.stop(uid).await).await;
    }

    /// Puts aside the leftovers of an instance that is to be deleted.
    ///
    /// # Errors
    ///
    /// One of them stays.
    pub async fn clear(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        self.clear_if(record, |_| true).await
    }

    /// Puts aside the leftovers of a higher epoch of an instance that is to be used.
    ///
    /// # Errors
    ///
    /// One of them stays.
    pub async fn clear_newer(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        let epoch = record.epoch;
        self.clear_if(record, |leftover| leftover.epoch > epoch)
            .await
    }

    async fn clear_if(
        &self,
        record: &InstanceRecord,
        is_chosen: impl Fn(&Leftover) -> bool,
    ) -> Result<(), CloneError> {
        let chosen: Vec<_> = {
            let by_uid = self.lock();
            let leftovers = by_uid.values().map(|tracked| &tracked.leftover);
            let of_name = leftovers.filter(|one| one.name.as_ref() == Some(&record.name));
            of_name
                .filter(|one| is_chosen(one))
                .map(|one| one.uid)
                .collect()
        };
        for uid in chosen {
            let done = self.try_to_put_aside(uid).await;
            done.map_err(|error| CloneError::Failed {
                message: format!("its other clone {uid} is still there: {error}"),
            })?;
        }
        Ok(())
    }

    /// Stops the server on a leftover, if there is one, and then deletes or quarantines it. Nothing is done to a
    /// leftover that another task has put aside meanwhile: an administrator may have made it an instance again.
    async fn try_to_put_aside(&self, uid: InstanceUid) -> Result<(), String> {
        let Some(turn) = self.lock().get(&uid).map(|tracked| tracked.turn.clone()) else {
            return Ok(());
        };
        let _turn = turn.lock().await;
        let Some(leftover) = self.lock().get(&uid).map(|one| one.leftover.clone()) else {
            return Ok(());
        };
        self.stop(uid).await?;
        let done = match &leftover.action {
            LeftoverAction::Delete => {
                tracing::info!(%uid, "a clone that is incomplete or superseded is deleted");
                let name = leftover.name.clone();
                self.worker.send(DiscardClone { uid, name }).await
            }
            LeftoverAction::Quarantine(why) => {
                tracing::warn!(%uid, why, "a clone is quarantined, see multidb doctor");
                let why = why.clone();
                self.worker.send(QuarantineClone { uid, why }).await
            }
        };
        let done = done.map_err(|error| error.to_string())?;
        done.map_err(|error| error_chain(&error))?;
        self.forget(uid);
        Ok(())
    }

    async fn stop(&self, uid: InstanceUid) -> Result<(), String> {
        let server = ServerId { uid, runtime: None };
        let stopped = self.runtime.stop(server, STOP_TIMEOUT).await;
        stopped.map_err(|error| error_chain(&error))
    }

    /// Nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceUid, Tracked>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Attempts it once, and in the background until it succeeds.
async fn attempt(uid: InstanceUid, work: impl AsyncFn() -> Result<(), String> + 'static) {
    let Err(error) = work().await else { return };
    tracing::error!(%uid, error, "a clone without an instance stays as it is, retrying");
    actix_rt::spawn(async move {
        let mut delay = RETRY_DELAY;
        loop {
            tokio::time::sleep(delay).await;
            match work().await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%uid, error, "a leftover stays, retrying"),
            }
            delay = (2 * delay).min(RETRY_DELAY_MAX);
        }
    });
}
