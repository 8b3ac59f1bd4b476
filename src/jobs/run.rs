//! One job, from the queue to its last record.

use std::sync::Arc;

use jiff::Timestamp;
use multidb_store::{JobFailure, JobRecord, JobState, StoreError, error_chain};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::registry::Shared;
use super::{JobContext, JobError, WorkError};

/// A job that was admitted.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) status: watch::Sender<JobRecord>,
    pub(super) cancel: Cancel,
}

/// The two reasons for which a job is cancelled.
#[derive(Clone)]
pub(super) struct Cancel {
    /// Fires for either reason.
    token: CancellationToken,
    /// Fires when a user cancels the job.
    requested: CancellationToken,
}

impl Cancel {
    /// A job that is cancelled when the daemon stops, or by a user.
    pub(super) fn new(stopping: &CancellationToken) -> Self {
        Self {
            token: stopping.child_token(),
            requested: CancellationToken::new(),
        }
    }

    /// Cancels the job for a user.
    pub(super) fn request(&self) {
        self.requested.cancel();
        self.token.cancel();
    }

    fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }
}

impl Run {
    /// Records the job and says so; waits for a permit; does the work; records the end.
    pub(super) async fn run<F>(
        self,
        work: impl FnOnce(JobContext) -> F + Send + 'static,
        recorded: oneshot::Sender<Result<JobRecord, JobError>>,
    ) where
        F: Future<Output = Result<(), WorkError>> + Send + 'static,
    {
        let queued = self.record();
        if let Err(error) = self.write(queued.clone()).await {
            self.shared.drop_unrecorded(queued.id);
            let _caller_gone = recorded.send(Err(error.into()));
            return;
        }
        tracing::info!(job = %queued.id, kind = queued.kind.name(), project = %queued.project, "job queued");
        let _caller_gone = recorded.send(Ok(queued));
        let permit = self.permit().await;
        let result = match &permit {
            Some(_) => self.work(work).await,
            None => Err(WorkError::Cancelled),
        };
        self.end(result).await;
        // Not before the end is told: no more jobs than that are seen to run.
        drop(permit);
    }

    /// A permit to run; none where the job is cancelled before it gets one.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let permits = self.shared.permits(self.status.borrow().kind);
        tokio::select! {
            biased;
            () = self.cancel.token.cancelled() => None,
            // The semaphore is never closed.
            permit = permits.acquire_owned() => permit.ok(),
        }
    }

    async fn work<F>(&self, work: impl FnOnce(JobContext) -> F) -> Result<(), WorkError>
    where
        F: Future<Output = Result<(), WorkError>> + Send + 'static,
    {
        self.status
            .send_modify(|status| status.begin(Timestamp::now()));
        if let Err(error) = self.write(self.record()).await {
            // The record says that it is queued; a restart treats both alike.
            let error = error_chain(&error);
            tracing::warn!(job = %self.id(), error, "the beginning of a job was not recorded");
        }
        tracing::info!(job = %self.id(), "job begins");
        let context = JobContext::new(self.status.clone(), self.cancel.token.clone());
        // A task of its own, so that a panic ends the work and not the bookkeeping.
        let task = tokio::spawn(work(context));
        task.await.unwrap_or_else(|error| Err(ended_early(&error)))
    }

    /// Records the end, then tells everyone.
    async fn end(self, result: Result<(), WorkError>) {
        let mut record = self.record();
        let now = Timestamp::now();
        match result {
            Ok(()) => record.end(JobState::Done, now),
            Err(WorkError::Failed(failure)) => record.fail(failure, now),
            Err(WorkError::Cancelled) if self.cancel.is_requested() => {
                record.end(JobState::Cancelled, now);
            }
            Err(WorkError::Cancelled) => record.fail(daemon_stopped(), now),
        }
        log(&record);
        self.shared.ended.count(record.kind, record.state);
        if let Err(error) = self.write(record.clone()).await {
            let error = error_chain(&error);
            tracing::error!(job = %record.id, error, "the end of a job was not recorded, the next start takes it for failed");
        }
        let forgotten = self.shared.publish_end(record);
        let shared = self.shared;
        let removed = tokio::task::spawn_blocking(move || shared.remove(&forgotten));
        if let Err(error) = removed.await {
            tracing::warn!(%error, "old jobs were not removed from the history");
        }
    }

    fn record(&self) -> JobRecord {
        self.status.borrow().clone()
    }

    fn id(&self) -> multidb_store::JobId {
        self.status.borrow().id
    }

    /// Writes a record; the store blocks, so on a thread for that.
    async fn write(&self, record: JobRecord) -> Result<(), StoreError> {
        let store = self.shared.store.clone();
        let written = tokio::task::spawn_blocking(move || store.put_job(&record));
        written.await.unwrap_or_else(|error| {
            Err(StoreError::Panicked {
                message: error.to_string(),
            })
        })
    }
}

fn daemon_stopped() -> JobFailure {
    JobFailure {
        code: "daemon_stopped".to_owned(),
        message: "the daemon was stopped".to_owned(),
        detail: None,
        hint: Some("Start the job again once the daemon runs.".to_owned()),
    }
}

fn ended_early(error: &JoinError) -> WorkError {
    if error.is_cancelled() {
        return WorkError::Cancelled;
    }
    WorkError::Failed(JobFailure {
        code: "internal".to_owned(),
        message: "the job ended unexpectedly".to_owned(),
        detail: Some("It panicked; the daemon's log has the place.".to_owned()),
        hint: None,
    })
}

fn log(record: &JobRecord) {
    let (job, kind, state) = (record.id, record.kind.name(), record.state.name());
    match &record.failure {
        None => tracing::info!(%job, kind, state, "job ended"),
        Some(failure) => {
            let (error, detail) = (&failure.message, &failure.detail);
            tracing::info!(%job, kind, state, error, detail, "job ended");
        }
    }
}
