//! Snapshots: listed, shown, removed, and chosen for a revision.

use std::sync::Arc;

use multidb_actors::client_error::ClientError;
use multidb_actors::clone_worker::DeleteSnapshot;
use multidb_actors::instance_table::InstanceCounts;
use multidb_actors::project::ProjectError;
use multidb_actors::snapshot_index::decision::Verdict;
use multidb_actors::snapshot_index::{ChooseError, Explain, ListSnapshots};
use multidb_actors::supervisor::{CountInstances, RemoveSnapshot};
use multidb_store::{ProjectName, SnapshotId, SnapshotRecord, error_chain};

use super::access::{Action, Caller, Resource, authorize};
use super::keep::Reasons;
use super::model::{ExplainView, ImportOrder, SnapshotView, UnconfirmedView, VerdictView};
use super::{Control, ControlError};
use crate::config;
use crate::import::{
    ImportRequest, ImportSource, MigrationsQuery, Preparation, PreparationRun, ProjectImport,
};

/// The word that stands for the newest snapshot in a user name.
const LATEST: &str = "latest";

/// Why a snapshot is kept whose project has no `keep`.
const NO_RULE: &str = "its project has no keep";

impl Control {
    /// Lists the snapshots in the order of their ids.
    pub async fn list_snapshots(&self, caller: &Caller) -> Result<Vec<SnapshotView>, ControlError> {
        let counts = self.deps.supervisor.send(CountInstances).await?;
        let all = self.deps.index.send(ListSnapshots).await?;
        let visible = all.iter().filter(|snapshot| caller.may_view(&***snapshot));
        let reasons = self.keep_reasons(&all, &counts);
        let view = |snapshot: &Arc<SnapshotRecord>| {
            self.snapshot_view(snapshot, instances_of(&snapshot.id, &counts), &reasons)
        };
        Ok(visible.map(view).collect())
    }

    /// Shows one snapshot with its applied migrations.
    pub async fn show_snapshot(
        &self,
        caller: &Caller,
        id: &SnapshotId,
    ) -> Result<SnapshotView, ControlError> {
        let snapshot = self.snapshot(id).await?;
        authorize(caller, Action::View, &*snapshot, "see snapshots")?;
        let counts = self.deps.supervisor.send(CountInstances).await?;
        let all = self.deps.index.send(ListSnapshots).await?;
        let reasons = self.keep_reasons(&all, &counts);
        let mut shown = self.snapshot_view(&snapshot, instances_of(id, &counts), &reasons);
        shown.applied = Some(snapshot.migrations.clone());
        shown.passed_errors = Some(snapshot.passed_errors.errors.clone());
        shown.preparations = Some(snapshot.prepared_by.clone());
        Ok(shown)
    }

    /// Deletes a snapshot; needs `force` if instances are reset to it.
    pub async fn remove_snapshot(
        &self,
        caller: &Caller,
        id: &SnapshotId,
        force: bool,
    ) -> Result<(), ControlError> {
        let snapshot = self.snapshot(id).await?;
        authorize(caller, Action::Change, &*snapshot, "remove snapshots")?;
        tracing::info!(snapshot = %id, force, %caller, "removing a snapshot");
        // No instance is created from it after this, so its files can go.
        let removed = self.deps.supervisor.send(RemoveSnapshot {
            id: id.clone(),
            force,
        });
        removed.await??;
        Ok(self.deps.worker.send(DeleteSnapshot(id.clone())).await??)
    }

    /// Explains the choice of a snapshot for a revision. Without a project, that of the only one.
    pub async fn explain(
        &self,
        caller: &Caller,
        project: Option<&ProjectName>,
        gitref: String,
    ) -> Result<ExplainView, ControlError> {
        let project = self.project(project)?;
        let resource = Resource::Project(&project);
        authorize(caller, Action::View, resource, "use this project")?;
        let asked = self.deps.index.send(Explain {
            project: project.clone(),
            gitref: gitref.clone(),
        });
        let (revision, decision) = asked.await?.inspect_err(|error| {
            tracing::info!(%project, gitref, error = error_chain(error), "no decision for a revision");
        })?;
        let verdicts = decision.verdicts.iter();
        Ok(ExplainView {
            project: project.to_string(),
            commit: revision.commit,
            listing: revision.listing,
            unconfirmed: revision.unconfirmed.map(|unconfirmed| UnconfirmedView {
                age_s: unconfirmed.age.map(|age| age.as_secs()),
            }),
            defined: decision.defined,
            chosen: decision.chosen().map(|snapshot| snapshot.id.to_string()),
            snapshots: verdicts
                .map(|verdict| verdict_view(verdict, &gitref))
                .collect(),
            gitref,
        })
    }

    /// Checks an order for an import, and completes it by the project's settings.
    pub(super) fn import_request(
        &self,
        caller: &Caller,
        order: ImportOrder,
        source: ImportSource,
    ) -> Result<ImportRequest, ControlError> {
        let name = self.project(Some(&order.project))?;
        let resource = Resource::Project(&name);
        authorize(caller, Action::Change, resource, "import snapshots")?;
        let Some(project) = self.deps.config.projects.get(&name) else {
            return Err(ProjectError::NoProject.into());
        };
        if order.id.as_str() == LATEST {
            return Err(ControlError::InvalidArgument(format!(
                "\"{LATEST}\" stands for the newest snapshot and cannot be an id"
            )));
        }
        Ok(ImportRequest {
            id: order.id,
            project: name,
            source,
            taken_at: order.taken_at,
            postgres_major: order.postgres_major,
            errors: order.errors,
            settings: ProjectImport {
                database: project.database.clone(),
                role: project.role.clone(),
                migrations: MigrationsQuery {
                    sql: project.migrations.sql().to_owned(),
                    database: project.migrations.database().map(str::to_owned),
                },
                encoding: project.encoding.clone(),
                locale: project.locale.clone(),
                prepare: project.prepare.iter().map(preparation).collect(),
                rename_database: project.rename_database().clone(),
            },
        })
    }

    pub(super) async fn snapshot(
        &self,
        id: &SnapshotId,
    ) -> Result<Arc<SnapshotRecord>, ControlError> {
        let all = self.deps.index.send(ListSnapshots).await?;
        let found = all.into_iter().find(|snapshot| snapshot.id == *id);
        found.ok_or_else(|| ControlError::NoSuchSnapshot(id.clone()))
    }

    /// A snapshot as an answer shows it.
    fn snapshot_view(
        &self,
        snapshot: &SnapshotRecord,
        instances: usize,
        reasons: &Reasons,
    ) -> SnapshotView {
        let is_pinned = self.is_pinned(snapshot);
        let kept_because = match reasons.get(&snapshot.id) {
            Some(reasons) => reasons.iter().map(ToString::to_string).collect(),
            None => vec![NO_RULE.to_owned()],
        };
        let prepared = snapshot.prepared_by.iter();
        SnapshotView {
            id: snapshot.id.to_string(),
            project: snapshot.project.to_string(),
            taken_at: snapshot.taken_at,
            imported_at: snapshot.imported_at,
            postgres_major: snapshot.postgres_major,
            bytes: snapshot.bytes,
            exclusive_bytes: self.deps.costs.of_snapshot(&snapshot.id),
            files: snapshot.files,
            migrations: snapshot.migrations.len(),
            instances,
            data_dir: self.deps.layout.snapshot_data(&snapshot.id),
            source: snapshot.source.clone(),
            from_instance: snapshot
                .from_instance
                .as_ref()
                .map(|from| from.instance.to_string()),
            derived: snapshot.is_derived(),
            applied: None,
            errors_passed: snapshot.passed_errors.count,
            passed_errors: None,
            prepared_by: prepared.map(|prepared| prepared.sha256.clone()).collect(),
            preparations: None,
            pinned: is_pinned,
            pinned_until: Self::pinned_until(snapshot).filter(|_| is_pinned),
            kept_because,
        }
    }
}

/// A preparation of the configuration, for an import.
fn preparation(preparation: &config::Preparation) -> Preparation {
    Preparation {
        run: match &preparation.run {
            config::PreparationRun::Sql(path) => PreparationRun::Sql(path.clone()),
            config::PreparationRun::Command(command) => PreparationRun::Command(command.clone()),
        },
        timeout: preparation.timeout,
    }
}

fn instances_of(id: &SnapshotId, counts: &InstanceCounts) -> usize {
    counts.by_snapshot.get(id).copied().unwrap_or(0)
}

/// The verdict about a snapshot for this revision.
pub(super) fn verdict_view(verdict: &Verdict, gitref: &str) -> VerdictView {
    let hint = verdict.miss().and_then(|nearest| {
        // As a client would be told.
        let error = ChooseError::NoCompatibleSnapshot {
            project: verdict.snapshot.project.clone(),
            gitref: gitref.to_owned(),
            nearest,
        };
        ClientError::from(&error).hint
    });
    VerdictView {
        hint,
        id: verdict.snapshot.id.to_string(),
        taken_at: verdict.snapshot.taken_at,
        compatible: verdict.missing_total == 0,
        missing_total: verdict.missing_total,
        missing: verdict.missing.clone(),
        passed_over_for: verdict.passed_over_for.as_ref().map(ToString::to_string),
    }
}
