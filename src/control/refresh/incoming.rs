//! The folders whose dumps and data directories are imported as they appear.

use std::collections::BTreeMap;
use std::path::Path;

use multidb_actors::snapshot_index::ListSnapshots;
use multidb_store::{JobId, JobState, ProjectName, error_chain};

use crate::control::access::Caller;
use crate::control::model::{ImportOrder, OrderSource};
use crate::control::{Control, ControlError};
use crate::import::ErrorPolicy;
use crate::incoming::{self, Entry, Outcome, Watch};
use crate::jobs::JobError;
use crate::refresh::incoming_id;

/// The folders, by project.
#[derive(Debug, Default)]
pub(super) struct Folders(BTreeMap<ProjectName, Folder>);

#[derive(Debug, Default)]
struct Folder {
    watch: Watch,
    /// The entry that is being imported.
    importing: Option<(JobId, Entry)>,
    /// The last problem of the folder that was logged.
    logged: Option<String>,
}

/// The result of beginning a complete entry.
enum Begun {
    /// It is imported by this job.
    Job(JobId),
    /// It needs no import, or cannot have one.
    Settled,
    /// The next look tries again.
    Later,
}

impl Control {
    /// Puts away the imported entries, and begins to import complete ones: one entry of a project at a time.
    pub(super) async fn look_at_folders(&self, folders: &mut Folders) -> Result<(), ControlError> {
        for (project, settings) in &self.deps.config.projects {
            let refresh = settings.refresh.as_ref();
            let Some(path) = refresh.and_then(|refresh| refresh.incoming.clone()) else {
                continue;
            };
            let folder = folders.0.entry(project.clone()).or_default();
            if self.is_importing(project, folder).await {
                continue;
            }
            let listed = tokio::task::spawn_blocking({
                let path = path.clone();
                move || incoming::list(&path)
            });
            let listed = match listed.await {
                Ok(Ok(listed)) => listed,
                Ok(Err(error)) => {
                    let error = error.to_string();
                    if folder.logged.as_ref() != Some(&error) {
                        tracing::warn!(%project, folder = %path.display(), error, "the folder of incoming dumps cannot be read, nothing of it is imported");
                    }
                    folder.logged = Some(error);
                    continue;
                }
                Err(_) => continue,
            };
            folder.logged = None;
            let now = self.deps.clock.now().since_boot;
            if let Some(entry) = folder.watch.complete(listed, now).into_iter().next() {
                let begun = self.import_entry(project, &entry).await?;
                match begun {
                    Begun::Job(id) => folder.importing = Some((id, entry)),
                    Begun::Settled => folder.watch.settle(entry),
                    Begun::Later => {}
                }
            }
        }
        Ok(())
    }

    /// Whether the entry that was begun is still being imported. An entry whose import has ended is put away.
    async fn is_importing(&self, project: &ProjectName, folder: &mut Folder) -> bool {
        let Some((id, entry)) = &folder.importing else {
            return false;
        };
        let path = &entry.path;
        let outcome = match self.deps.jobs.get(*id) {
            Ok(job) if !job.state.is_ended() => return true,
            Ok(job) if job.state == JobState::Done => Outcome::Done,
            _ => Outcome::Failed,
        };
        tracing::info!(%project, job = %id, path = %path.display(), ?outcome, "an incoming dump was imported or has failed");
        put_away(path, outcome).await;
        folder.watch.settle(entry.clone());
        folder.importing = None;
        false
    }

    async fn import_entry(
        &self,
        project: &ProjectName,
        entry: &Entry,
    ) -> Result<Begun, ControlError> {
        let path = entry.path.clone();
        if self.was_imported(project, entry).await? {
            put_away(&path, Outcome::Done).await;
            return Ok(Begun::Settled);
        }
        let id = incoming_id(project, self.deps.clock.now().wall);
        let Ok(id) = id.parse() else {
            return Ok(Begun::Later);
        };
        let order = ImportOrder {
            id,
            project: project.clone(),
            source: match entry.is_data_directory {
                true => OrderSource::DataDir(path.clone()),
                false => OrderSource::Dump(path.clone()),
            },
            taken_at: None,
            postgres_major: None,
            errors: ErrorPolicy::Default,
        };
        match self.start_import(&Caller::Administrator, order).await {
            Ok(job) => {
                tracing::info!(%project, job = job.id, path = %path.display(), "an incoming dump is imported");
                Ok(Begun::Job(JobId::from_number(job.id)))
            }
            // At the next look.
            Err(ControlError::Job(
                JobError::QueueFull { .. } | JobError::Stopping | JobError::SnapshotBusy { .. },
            )) => Ok(Begun::Later),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(%project, path = %path.display(), error, "an incoming dump cannot be imported");
                put_away(&path, Outcome::Failed).await;
                Ok(Begun::Settled)
            }
        }
    }

    /// Whether a daemon that was killed before it put the entry away has imported it.
    async fn was_imported(
        &self,
        project: &ProjectName,
        entry: &Entry,
    ) -> Result<bool, ControlError> {
        let snapshots = self.deps.index.send(ListSnapshots).await?;
        let source = format!(" {}", entry.path.display());
        Ok(snapshots.iter().any(|snapshot| {
            snapshot.project == *project
                && snapshot.source.ends_with(&source)
                && snapshot.imported_at.as_second() >= entry.changed_at
        }))
    }
}

async fn put_away(path: &Path, outcome: Outcome) {
    let owned = path.to_owned();
    let moved = tokio::task::spawn_blocking(move || incoming::put_away(&owned, outcome)).await;
    if let Ok(Err(error)) = moved {
        let error = error_chain(&error);
        tracing::warn!(path = %path.display(), error, "an incoming dump cannot be put away");
    }
}
