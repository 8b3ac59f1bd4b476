//! The queue of changes of records. Changes that wait while others are made durable are written together, by one
//! flush, and acknowledged after it.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use multidb_store::{DiskFault, StoreError};
use tokio::sync::oneshot;

use super::{Executor, Lane, worker_ended};
use crate::metrics::Metrics;
use crate::metrics::labels::Outcome;
use crate::ports::{CloneError, Cloner, DiskError, RecordChange, Records};

/// A change and the reply to its sender.
struct Pending {
    change: RecordChange,
    reply: oneshot::Sender<Result<(), CloneError>>,
}

/// The changes that are not written yet, oldest first.
#[derive(Clone)]
pub(super) struct RecordQueue {
    pending: Arc<Mutex<Vec<Pending>>>,
    records: Arc<dyn Records>,
    cloner: Arc<dyn Cloner>,
    executor: Arc<dyn Executor>,
    metrics: Arc<Metrics>,
}

impl RecordQueue {
    pub(super) fn new(
        records: Arc<dyn Records>,
        cloner: Arc<dyn Cloner>,
        executor: Arc<dyn Executor>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            pending: Arc::default(),
            records,
            cloner,
            executor,
            metrics,
        }
    }

    /// Queues a change. It has its position when this returns; the future ends when it is durable.
    pub(super) fn write(
        &self,
        change: RecordChange,
    ) -> impl Future<Output = Result<(), CloneError>> + use<> {
        let (reply, answer) = oneshot::channel();
        self.lock().push(Pending { change, reply });
        let queue = self.clone();
        // Each change brings its own work. The first to run writes all that are pending by then.
        self.executor
            .run(Lane::Records, Box::new(move || queue.write_pending()));
        async move { answer.await.unwrap_or_else(|_| Err(worker_ended())) }
    }

    fn write_pending(&self) {
        let pending = mem::take(&mut *self.lock());
        let (changes, replies): (Vec<_>, Vec<_>) = pending
            .into_iter()
            .map(|pending| (pending.change, pending.reply))
            .unzip();
        if changes.is_empty() {
            return;
        }
        let written = self.write_now(&changes);
        let is_alone = changes.len() == 1;
        for (change, reply) in changes.iter().zip(replies) {
            let result = match &written {
                Ok(()) => Ok(()),
                Err(error) if is_alone => Err(error.clone()),
                // One of them has failed the others, so each gets a result of its own.
                Err(_) => self.write_now(std::slice::from_ref(change)),
            };
            self.metrics.records_written.count(Outcome::of(&result));
            if reply.send(result).is_err() {
                tracing::debug!("the sender of a record has gone");
            }
        }
    }

    fn write_now(&self, changes: &[RecordChange]) -> Result<(), CloneError> {
        let write = || self.records.write(changes);
        match catch_unwind(AssertUnwindSafe(write)) {
            Ok(written) => written.map_err(|error| self.failed(&error)),
            Err(_) => {
                tracing::error!("a write of records panicked, report this defect");
                Err(worker_ended())
            }
        }
    }

    fn failed(&self, error: &StoreError) -> CloneError {
        let message = multidb_store::error_chain(error);
        match error.disk_fault() {
            // The record did not fit; the reserve applies to data only.
            Some(DiskFault::Full) => CloneError::NoSpace {
                free_bytes: self.cloner.disk_free_bytes().unwrap_or(0),
                reserve_bytes: 0,
                missing_bytes: 0,
                taken: None,
            },
            Some(fault) => CloneError::Disk(DiskError {
                fault,
                message,
                log: Vec::new(),
            }),
            None => CloneError::Failed { message },
        }
    }

    /// A panic while the lock is held leaves the list consistent, since each change is one call.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
