//! Jobs: started, listed, followed and cancelled.

use multidb_actors::snapshot_index::ListSnapshots;
use multidb_store::{JobFailure, JobId, JobKind, JobRecord};
use tokio::sync::watch;

use super::access::{Action, Caller, authorize};
use super::model::{ImportOrder, JobErrorView, JobView};
use super::{Control, ControlError, default_branch};
use crate::jobs::{self, JobContext, NewJob};

/// The status of one job, as it changes.
pub struct JobUpdates {
    status: watch::Receiver<JobRecord>,
}

impl JobUpdates {
    /// The latest status.
    pub fn latest(&mut self) -> JobView {
        view(&self.status.borrow_and_update())
    }

    /// Resolves when there is a later status than [`latest`](Self::latest) gave, with `false` when there will be
    /// none.
    pub async fn changed(&mut self) -> bool {
        self.status.changed().await.is_ok()
    }
}

impl Control {
    /// Starts a job that imports a snapshot.
    pub async fn start_import(
        &self,
        caller: &Caller,
        order: ImportOrder,
    ) -> Result<JobView, ControlError> {
        let request = self.import_request(caller, order)?;
        let all = self.deps.index.send(ListSnapshots).await?;
        if all.iter().any(|snapshot| snapshot.id == request.id) {
            return Err(ControlError::SnapshotExists(request.id));
        }
        let new = NewJob {
            kind: JobKind::Import,
            project: request.project.clone(),
            snapshot: Some(request.id.clone()),
        };
        tracing::info!(snapshot = %request.id, %caller, "starting an import");
        let (importer, index) = (self.deps.importer.clone(), self.deps.index.clone());
        let work = move |context: JobContext| async move {
            let (project, id) = (request.project.clone(), request.id.clone());
            jobs::import(importer, request, context.clone()).await?;
            if let Some(warning) = default_branch::misfit(&index, project, &id).await {
                context.warn(&warning);
            }
            Ok(())
        };
        let job = self.deps.jobs.start(new, work).await?;
        Ok(view(&job))
    }

    /// Lists the jobs in the order of their numbers.
    pub fn list_jobs(&self, caller: &Caller) -> Vec<JobView> {
        let jobs = self.deps.jobs.list();
        let visible = jobs.iter().filter(|job| caller.may_view(*job));
        visible.map(view).collect()
    }

    /// Shows one job.
    pub fn show_job(&self, caller: &Caller, id: JobId) -> Result<JobView, ControlError> {
        let job = self.deps.jobs.get(id)?;
        authorize(caller, Action::View, &job, "see jobs")?;
        Ok(view(&job))
    }

    /// Follows one job.
    pub fn follow_job(&self, caller: &Caller, id: JobId) -> Result<JobUpdates, ControlError> {
        let status = self.deps.jobs.subscribe(id)?;
        authorize(caller, Action::View, &*status.borrow(), "see jobs")?;
        Ok(JobUpdates { status })
    }

    /// Cancels a job, and returns when nothing is left of it.
    pub async fn cancel_job(&self, caller: &Caller, id: JobId) -> Result<JobView, ControlError> {
        let job = self.deps.jobs.get(id)?;
        authorize(caller, Action::Change, &job, "cancel jobs")?;
        tracing::info!(job = %id, %caller, "cancelling a job");
        let cancelled = self.deps.jobs.cancel(id).await?;
        Ok(view(&cancelled))
    }
}

fn view(job: &JobRecord) -> JobView {
    JobView {
        id: job.id.number(),
        kind: job.kind.name().to_owned(),
        project: job.project.to_string(),
        snapshot: job.snapshot.as_ref().map(ToString::to_string),
        state: job.state.name().to_owned(),
        step: job.step.clone(),
        bytes_done: job.bytes_done,
        bytes_total: job.bytes_total,
        started_at: job.started_at,
        ended_at: job.ended_at,
        error: job.failure.as_ref().map(error_view),
        warnings: job.warnings.clone(),
    }
}

fn error_view(failure: &JobFailure) -> JobErrorView {
    JobErrorView {
        code: failure.code.clone(),
        message: failure.message.clone(),
        detail: failure.detail.clone(),
        hint: failure.hint.clone(),
    }
}
