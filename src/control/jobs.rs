//! Jobs: started, listed, followed and cancelled.

use std::fs;
use std::path::PathBuf;

use multidb_actors::snapshot_index::ListSnapshots;
use multidb_store::{JobFailure, JobId, JobKind, JobRecord};
use tokio::sync::watch;

use super::access::{Action, Caller, authorize};
use super::model::{ImportOrder, JobErrorView, JobView, OrderSource, UploadInfo};
use super::refresh::server_source;
use super::uploads::{Arrival, Uploads};
use super::{Control, ControlError, default_branch};
use crate::import::{ImportRequest, ImportSource, Upload};
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
    /// Starts a job that imports a snapshot. A dump that is to be sent then goes to [`send_dump`](Self::send_dump).
    pub async fn start_import(
        &self,
        caller: &Caller,
        order: ImportOrder,
    ) -> Result<JobView, ControlError> {
        let (source, upload) = match order.source.clone() {
            OrderSource::DataDir(path) => (ImportSource::DataDir(path), None),
            OrderSource::Dump(path) => (ImportSource::Dump(path), None),
            OrderSource::Upload(UploadInfo {
                name,
                bytes,
                modified_at,
            }) => {
                let (upload, sender) = Upload::new(name, bytes, modified_at);
                (ImportSource::Upload(upload), Some(Uploads::expect(sender)))
            }
            OrderSource::Server(server) => (server_source(server)?, None),
            OrderSource::Instance(name) => {
                return self.start_import_of_instance(caller, order, &name).await;
            }
        };
        let request = self.import_request(caller, order, source)?;
        if let ImportSource::Dump(path) = &request.source {
            check_readable(path.clone()).await?;
        }
        let (expect, arrival) = upload.unzip();
        let job = self
            .import_in_job(caller, JobKind::Import, request, arrival)
            .await?;
        if let Some(expect) = expect {
            expect(&self.uploads, job.id);
        }
        Ok(view(&job))
    }

    /// Starts the job of an import, which waits for its client where a dump is sent.
    pub(super) async fn import_in_job(
        &self,
        caller: &Caller,
        kind: JobKind,
        request: ImportRequest,
        arrival: Option<Arrival>,
    ) -> Result<JobRecord, ControlError> {
        let all = self.deps.index.send(ListSnapshots).await?;
        if all.iter().any(|snapshot| snapshot.id == request.id) {
            return Err(ControlError::SnapshotExists(request.id));
        }
        let new = NewJob {
            kind,
            project: request.project.clone(),
            snapshot: Some(request.id.clone()),
        };
        tracing::info!(snapshot = %request.id, %caller, kind = kind.name(), "starting an import");
        let (importer, index) = (self.deps.importer.clone(), self.deps.index.clone());
        let control = self.clone();
        let work = move |context: JobContext| async move {
            if let Some(arrival) = arrival {
                arrival.wait(context.cancelled()).await?;
            }
            let (project, id) = (request.project.clone(), request.id.clone());
            jobs::import(importer, request, context.clone()).await?;
            control.keep_in_background().await;
            control.dedup_in_background().await;
            if let Some(warning) = default_branch::warning(&index, project, &id).await {
                context.warn(&warning);
            }
            Ok(())
        };
        Ok(self.deps.jobs.start(new, work).await?)
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

/// Refuses a dump that the daemon cannot open, before there is a job for it: its client may be able to.
async fn check_readable(path: PathBuf) -> Result<(), ControlError> {
    let opened = tokio::task::spawn_blocking(move || {
        // Trusted path: the administrator has named this dump.
        let metadata = fs::metadata(&path);
        let opened = metadata.and_then(|metadata| match metadata.is_file() {
            // Trusted path: as above.
            true => fs::File::open(&path).map(drop),
            false => Ok(()),
        });
        opened.map_err(|source| ControlError::DumpUnreadable { path, source })
    });
    opened.await.unwrap_or(Err(ControlError::ActorEnded))
}

pub(super) fn view(job: &JobRecord) -> JobView {
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

pub(super) fn error_view(failure: &JobFailure) -> JobErrorView {
    JobErrorView {
        code: failure.code.clone(),
        message: failure.message.clone(),
        detail: failure.detail.clone(),
        hint: failure.hint.clone(),
    }
}
