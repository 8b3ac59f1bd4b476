//! De-duplication of snapshots: its status, and its jobs.

use std::sync::Arc;

use multidb_actors::ports::Cloner;
use multidb_actors::snapshot_index::ListSnapshots;
use multidb_store::{JobFailure, JobKind, ProjectName, SnapshotRecord, error_chain};
use tokio::task::JoinError;

use super::access::{Action, Caller, Resource, authorize};
use super::jobs::view;
use super::model::{DedupView, JobView, SnapshotDedupView};
use super::{Control, ControlError};
use crate::clone::Method;
use crate::dedup::{DedupError, Deduplicator};
use crate::jobs::{JobContext, NewJob, WorkError};

impl Control {
    /// Shows how far snapshots share their blocks.
    pub async fn dedup_status(&self, caller: &Caller) -> Result<DedupView, ControlError> {
        authorize(caller, Action::View, Resource::Daemon, "see the status")?;
        let snapshots = self.snapshots_by_age().await?;
        let visible = snapshots
            .into_iter()
            .filter(|snapshot| caller.may_view(&**snapshot));
        let visible: Vec<_> = visible.collect();
        let views = self
            .on_disk(move |deduplicator| {
                let view = |one: &Arc<SnapshotRecord>| snapshot_view(deduplicator, one);
                visible.iter().map(view).collect()
            })
            .await?;
        Ok(self.dedup_view(views))
    }

    /// Begins the pending de-duplication, whether `dedup.enabled` is set or not, and returns the jobs
    /// for it.
    pub async fn run_dedup(&self, caller: &Caller) -> Result<Vec<JobView>, ControlError> {
        authorize(
            caller,
            Action::Change,
            Resource::Daemon,
            "de-duplicate snapshots",
        )?;
        tracing::info!(%caller, "starting de-duplications");
        self.start_pending_dedup().await
    }

    /// Pauses all de-duplication until it is resumed.
    pub async fn pause_dedup(&self, caller: &Caller) -> Result<DedupView, ControlError> {
        authorize(
            caller,
            Action::Change,
            Resource::Daemon,
            "pause the de-duplication",
        )?;
        tracing::info!(%caller, "pausing the de-duplication");
        self.on_disk(Deduplicator::pause).await??;
        self.dedup_status(caller).await
    }

    /// Resumes it.
    pub async fn resume_dedup(&self, caller: &Caller) -> Result<DedupView, ControlError> {
        authorize(
            caller,
            Action::Change,
            Resource::Daemon,
            "resume the de-duplication",
        )?;
        tracing::info!(%caller, "resuming the de-duplication");
        self.on_disk(Deduplicator::resume).await??;
        self.dedup_status(caller).await
    }

    /// Begins the pending de-duplication, if the configuration wants it and clones share their blocks at
    /// all.
    pub async fn dedup_in_background(&self) {
        if !self.dedup_is_automatic() {
            return;
        }
        if let Err(error) = self.start_pending_dedup().await {
            tracing::warn!(
                error = error_chain(&error),
                "cannot begin to de-duplicate snapshots, multidb dedup run tries again"
            );
        }
    }

    /// Whether snapshots come to share their blocks without a command.
    pub(super) fn dedup_is_automatic(&self) -> bool {
        let is_copied = self.deps.cloner.method() == Method::Copy.name();
        self.deps.config.dedup.enabled && !is_copied
    }

    async fn start_pending_dedup(&self) -> Result<Vec<JobView>, ControlError> {
        let mut started = Vec::new();
        for project in self.pending_dedup().await? {
            started.push(self.start_dedup(project).await?);
        }
        Ok(started)
    }

    /// The projects with snapshots that are to share more blocks.
    pub(super) async fn pending_dedup(&self) -> Result<Vec<ProjectName>, ControlError> {
        let snapshots = self.deps.index.send(ListSnapshots).await?;
        let mut projects: Vec<_> = snapshots.iter().map(|one| one.project.clone()).collect();
        projects.sort();
        projects.dedup();
        self.on_disk(move |deduplicator| {
            projects.retain(|project| !deduplicator.pending(project, &snapshots).is_empty());
            projects
        })
        .await
    }

    /// The job of a project; a job that has not ended looks for new snapshots itself.
    async fn start_dedup(&self, project: ProjectName) -> Result<JobView, ControlError> {
        let jobs = self.deps.jobs.list();
        let is_same = |job: &&multidb_store::JobRecord| {
            job.kind == JobKind::Dedup && job.project == project && !job.state.is_ended()
        };
        if let Some(job) = jobs.iter().find(is_same) {
            return Ok(view(job));
        }
        let new = NewJob {
            kind: JobKind::Dedup,
            project: project.clone(),
            snapshot: None,
        };
        let (deduplicator, index) = (self.deps.deduplicator.clone(), self.deps.index.clone());
        let work = move |context: JobContext| async move {
            let mut tried = Vec::new();
            // Snapshots may be imported or removed meanwhile.
            loop {
                let Ok(snapshots) = index.send(ListSnapshots).await else {
                    return Err(WorkError::Cancelled);
                };
                let (shared, of) = (deduplicator.clone(), project.clone());
                let pending = on_disk(move || shared.pending(&of, &snapshots)).await;
                let pending = pending.map_err(|_| failure(DedupError::Died))?;
                let Some(next) = pending.into_iter().find(|next| !tried.contains(next)) else {
                    return Ok(());
                };
                tried.push(next.clone());
                context.step(&format!("comparing {} with {}", next.older, next.newer));
                let report = {
                    let context = context.clone();
                    move |done, total| context.bytes(done, Some(total))
                };
                let shared = deduplicator.share(next, context.cancelled(), report);
                shared.await.map_err(failure)?;
            }
        };
        let job = self.deps.jobs.start(new, work).await?;
        Ok(view(&job))
    }

    async fn snapshots_by_age(&self) -> Result<Vec<Arc<SnapshotRecord>>, ControlError> {
        let mut snapshots = self.deps.index.send(ListSnapshots).await?;
        snapshots.sort_by(|one, other| {
            let by_project = one.project.cmp(&other.project);
            by_project.then_with(|| other.taken_at.cmp(&one.taken_at))
        });
        Ok(snapshots)
    }

    /// Reads or writes the records of de-duplication.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Deduplicator) -> T + Send + 'static,
    ) -> Result<T, ControlError> {
        let deduplicator = self.deps.deduplicator.clone();
        let done = on_disk(move || work(&deduplicator)).await;
        done.map_err(|_| ControlError::ActorEnded)
    }

    fn dedup_view(&self, snapshots: Vec<SnapshotDedupView>) -> DedupView {
        DedupView {
            enabled: self.deps.config.dedup.enabled,
            paused: self.deps.deduplicator.is_paused(),
            bandwidth: self.deps.config.dedup.bandwidth,
            bytes_examined: snapshots.iter().map(|one| one.bytes_examined).sum(),
            bytes_shared: snapshots.iter().map(|one| one.bytes_shared).sum(),
            bytes_saved: snapshots.iter().map(|one| one.bytes_saved).sum(),
            snapshots,
        }
    }
}

/// Runs work that waits for the disk on a thread of its own.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}

fn snapshot_view(deduplicator: &Deduplicator, snapshot: &SnapshotRecord) -> SnapshotDedupView {
    let record = deduplicator.record(snapshot);
    let record = record.as_ref();
    SnapshotDedupView {
        id: snapshot.id.to_string(),
        project: snapshot.project.to_string(),
        taken_at: snapshot.taken_at,
        bytes: snapshot.bytes,
        onto: record.map(|record| record.onto.to_string()),
        finished_at: record.and_then(|record| record.finished_at),
        bytes_examined: record.map_or(0, |record| record.bytes_examined),
        bytes_shared: record.map_or(0, |record| record.bytes_shared),
        bytes_saved: record.map_or(0, |record| record.bytes_saved),
        extents: record.map(|record| record.extents),
    }
}

fn failure(error: DedupError) -> WorkError {
    let hint = match &error {
        DedupError::Cancelled => return WorkError::Cancelled,
        DedupError::Unsupported => {
            "Set dedup.enabled = false, or put the root on XFS with reflinks or on Btrfs."
        }
        DedupError::Tree(_) | DedupError::Io { .. } => {
            "multidb doctor checks the disk; multidb dedup run goes on where it stopped."
        }
        DedupError::Died => {
            "The daemon's log has more; multidb dedup run goes on where it stopped."
        }
    };
    WorkError::Failed(JobFailure {
        code: "dedup_failed".to_owned(),
        message: error_chain(&error),
        detail: None,
        hint: Some(hint.to_owned()),
    })
}
