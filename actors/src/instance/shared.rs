//! The state that an instance's actor shares with the Supervisor, which rebuilds the actor after a panic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::dev::ToEnvelope;
use actix::prelude::*;
use multidb_store::InstanceRecord;
use tokio::sync::{oneshot, watch};

use super::RunLeases;
use crate::clone_worker::{CloneWorker, worker_ended};
use crate::ports::CloneError;

/// The state of an instance that outlives its actor.
#[derive(Debug, Clone, Default)]
pub struct SharedState {
    run: Arc<Mutex<Option<RunLeases>>>,
    writes: Writes,
}

impl SharedState {
    /// The run that has not ended, as far as is known.
    pub fn run(&self) -> Option<RunLeases> {
        lock(&self.run).clone()
    }

    /// Begins a run.
    pub(super) fn begin_run(&self, run: RunLeases) {
        *lock(&self.run) = Some(run);
    }

    /// Ends the run, since nothing runs any more: its slot is free.
    pub(crate) fn end_run(&self) {
        let run = lock(&self.run).take();
        if let Some(run) = run {
            run.end();
        }
    }

    /// The jobs of the CloneWorker for the instance.
    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }
}

/// The jobs of the CloneWorker that change an instance's record or data. A job goes on when its actor panics, so the
/// next actor begins only after it, with its result.
#[derive(Debug, Clone)]
pub(crate) struct Writes {
    /// The number of jobs in progress.
    count: Arc<watch::Sender<usize>>,
    last: Arc<Mutex<Option<Written>>>,
}

/// The result of the last job that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// The record as it was written.
    Record(Box<InstanceRecord>),
    /// The instance was deleted.
    Deleted,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            count: Arc::new(watch::channel(0).0),
            last: Arc::default(),
        }
    }
}

impl Writes {
    /// Has the worker do a job, to its end even if the caller ends before. `written` gives the write of a success.
    pub(super) fn run<M, T, W>(
        &self,
        worker: &Addr<CloneWorker>,
        message: M,
        written: W,
    ) -> impl Future<Output = Result<T, CloneError>> + use<M, T, W>
    where
        W: FnOnce(&T) -> Written + 'static,
        M: Message<Result = Result<T, CloneError>> + Send + 'static,
        T: Send + 'static,
        CloneWorker: Handler<M>,
        <CloneWorker as Actor>::Context: ToEnvelope<CloneWorker, M>,
    {
        let (reply, answer) = oneshot::channel();
        let (sent, writes) = (worker.send(message), self.clone());
        let in_progress = InProgress::count(&self.count);
        actix_rt::spawn(async move {
            let result = sent.await.unwrap_or_else(|_| Err(worker_ended()));
            if let Ok(done) = &result {
                *lock(&writes.last) = Some(written(done));
            }
            // The actor may have ended.
            let _gone = reply.send(result);
            drop(in_progress);
        });
        async move { answer.await.unwrap_or_else(|_| Err(worker_ended())) }
    }

    /// Notes a write of another component, after the jobs in progress.
    pub(crate) fn note(&self, written: Written) {
        *lock(&self.last) = Some(written);
    }

    /// Waits for the jobs in progress, and returns the last write, if there was any.
    pub(crate) async fn finished(&self) -> Option<Written> {
        let mut count = self.count.subscribe();
        // The sender lives in `self`.
        let _none_left = count.wait_for(|count| *count == 0).await;
        lock(&self.last).clone()
    }
}

/// Counts a job until it is dropped.
struct InProgress(Arc<watch::Sender<usize>>);

impl InProgress {
    fn count(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Each value is replaced as a whole, so a panic leaves it consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
