//! Snapshots: shown, imported, deleted, and chosen for a revision.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, delete, get, post, web};
use bytes::Bytes;
use futures_util::StreamExt;
use multidb_actors::clone_worker::DeleteSnapshot;
use multidb_actors::instance::InstanceStatus;
use multidb_actors::snapshot_index::{Explain, ListSnapshots, RemoveSnapshot, decision::Verdict};
use multidb_actors::supervisor::ListInstances;
use multidb_store::{ProjectName, SnapshotId, SnapshotRecord, error_chain};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{AdminDeps, Answer, Failure};
use crate::admin::api::{
    ErrorInfo, ExplainView, ImportBody, ImportEvent, ImportSource as Source, SnapshotView,
    VerdictView,
};
use crate::import::{
    ImportError, ImportRequest, ImportSource, MigrationsQuery, Progress, ProjectImport, Step,
};

/// The longest silence of an import.
const HEARTBEAT: Duration = Duration::from_secs(1);

type Deps = web::Data<AdminDeps>;

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes
        .service(explain)
        .service(import)
        .service(list)
        .service(show)
        .service(remove);
}

fn view(snapshot: &SnapshotRecord, instances: &[InstanceStatus], deps: &AdminDeps) -> SnapshotView {
    SnapshotView {
        id: snapshot.id.to_string(),
        project: snapshot.project.to_string(),
        taken_at: snapshot.taken_at,
        imported_at: snapshot.imported_at,
        postgres_major: snapshot.postgres_major,
        bytes: snapshot.bytes,
        files: snapshot.files,
        migrations: snapshot.migrations.len(),
        instances: clones_of(&snapshot.id, instances).count(),
        data_dir: deps.layout.snapshot_data(&snapshot.id),
        source: snapshot.source.clone(),
        applied: None,
    }
}

fn clones_of<'a>(
    id: &'a SnapshotId,
    instances: &'a [InstanceStatus],
) -> impl Iterator<Item = &'a InstanceStatus> {
    instances
        .iter()
        .filter(move |status| status.record.snapshot == *id)
}

fn parse_id(id: &str) -> Result<SnapshotId, Failure> {
    id.parse()
        .map_err(|error| Failure::bad_request(error_chain(&error)))
}

async fn find(id: &SnapshotId, deps: &AdminDeps) -> Result<Arc<SnapshotRecord>, Failure> {
    let all = deps.index.send(ListSnapshots).await?;
    let found = all.into_iter().find(|snapshot| snapshot.id == *id);
    found.ok_or_else(|| {
        Failure::not_found(format!("snapshot \"{id}\" does not exist"))
            .hint("\"multidb snapshot ls\" lists those that do.")
    })
}

#[get("/v1/snapshots")]
async fn list(deps: Deps) -> Answer<Vec<SnapshotView>> {
    let instances = deps.supervisor.send(ListInstances).await?;
    let all = deps.index.send(ListSnapshots).await?;
    let views = all.iter().map(|snapshot| view(snapshot, &instances, &deps));
    Ok(web::Json(views.collect()))
}

#[get("/v1/snapshots/{id}")]
async fn show(id: web::Path<String>, deps: Deps) -> Answer<SnapshotView> {
    let snapshot = find(&parse_id(&id)?, &deps).await?;
    let instances = deps.supervisor.send(ListInstances).await?;
    let mut shown = view(&snapshot, &instances, &deps);
    shown.applied = Some(snapshot.migrations.clone());
    Ok(web::Json(shown))
}

#[derive(Deserialize)]
struct RemoveQuery {
    #[serde(default)]
    force: bool,
}

#[delete("/v1/snapshots/{id}")]
async fn remove(id: web::Path<String>, query: web::Query<RemoveQuery>, deps: Deps) -> Answer<()> {
    let id = find(&parse_id(&id)?, &deps).await?.id.clone();
    let instances = deps.supervisor.send(ListInstances).await?;
    let names: Vec<String> = clones_of(&id, &instances)
        .map(|status| format!("\"{}\"", status.record.name))
        .collect();
    if !names.is_empty() && !query.force {
        let mut failure = Failure::conflict(format!("snapshot \"{id}\" is in use")).hint(
            "Use --force to delete it all the same; they keep their data, but cannot be reset.",
        );
        failure.info.detail = Some(format!("Instances made from it: {}.", names.join(", ")));
        return Err(failure);
    }
    tracing::info!(snapshot = %id, force = query.force, "an administrator deletes a snapshot");
    deps.index.send(RemoveSnapshot(id.clone())).await?;
    let deleted = deps.worker.send(DeleteSnapshot(id)).await?;
    deleted.map_err(Failure::internal)?;
    Ok(web::Json(()))
}

#[derive(Deserialize)]
struct ExplainQuery {
    project: Option<String>,
    gitref: String,
}

#[get("/v1/snapshots/explain")]
async fn explain(query: web::Query<ExplainQuery>, deps: Deps) -> Answer<ExplainView> {
    let ExplainQuery { project, gitref } = query.into_inner();
    let project = project_of(project.as_deref(), &deps)?;
    let asked = deps.index.send(Explain {
        project: project.clone(),
        gitref: gitref.clone(),
    });
    let (revision, decision) = asked.await??;
    let verdict = |verdict: &Verdict| VerdictView {
        id: verdict.snapshot.id.to_string(),
        taken_at: verdict.snapshot.taken_at,
        compatible: verdict.missing_total == 0,
        missing_total: verdict.missing_total,
        missing: verdict.missing.clone(),
    };
    Ok(web::Json(ExplainView {
        project: project.to_string(),
        gitref,
        commit: revision.commit,
        listing: revision.listing,
        defined: decision.defined,
        chosen: decision.chosen().map(|snapshot| snapshot.id.to_string()),
        snapshots: decision.verdicts.iter().map(verdict).collect(),
    }))
}

/// The project of this name, or the only one.
fn project_of(name: Option<&str>, deps: &AdminDeps) -> Result<ProjectName, Failure> {
    let projects = &deps.config.projects;
    let known = || {
        let names: Vec<_> = projects.keys().map(|name| format!("\"{name}\"")).collect();
        match names.is_empty() {
            true => "No project is configured.".to_owned(),
            false => format!("The projects are {}.", names.join(", ")),
        }
    };
    let Some(name) = name else {
        let mut names = projects.keys();
        return match (names.next(), names.next()) {
            (Some(only), None) => Ok(only.clone()),
            _ => Err(Failure::bad_request("say which project, with --project").hint(known())),
        };
    };
    let found = projects.keys().find(|project| project.as_str() == name);
    let none = || Failure::not_found(format!("project \"{name}\" does not exist")).hint(known());
    found.cloned().ok_or_else(none)
}

#[post("/v1/snapshots/import")]
async fn import(body: web::Json<ImportBody>, deps: Deps) -> Result<HttpResponse, Failure> {
    let request = import_request(body.into_inner(), &deps)?;
    let (news, events) = mpsc::unbounded_channel();
    // The stream holds the import: when the client hangs up, both are dropped.
    let working = AbortOnDropHandle::new(actix_rt::spawn(run_import(request, news, deps)));
    let lines = UnboundedReceiverStream::new(events).map(move |event| {
        let _held = &working;
        line(&event)
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .streaming(lines))
}

fn import_request(body: ImportBody, deps: &AdminDeps) -> Result<ImportRequest, Failure> {
    let name = project_of(Some(&body.project), deps)?;
    let Some(project) = deps.config.projects.get(&name) else {
        return Err(Failure::not_found(format!(
            "project \"{name}\" does not exist"
        )));
    };
    let id = parse_id(&body.id)?;
    if id.as_str() == "latest" {
        return Err(Failure::bad_request(
            "\"latest\" means the newest snapshot, and is no id",
        ));
    }
    Ok(ImportRequest {
        id,
        source: match body.source {
            Source::DataDir(path) => ImportSource::DataDir(path),
            Source::Dump(path) => ImportSource::Dump(path),
        },
        taken_at: body.taken_at,
        postgres_major: body.postgres_major,
        settings: ProjectImport {
            database: project.database.clone(),
            role: project.role.clone(),
            migrations: MigrationsQuery {
                sql: project.migrations.sql().to_owned(),
                database: project.migrations.database().map(str::to_owned),
            },
        },
        project: name,
    })
}

/// Imports, and tells how it goes: at least each second, so that a client that has hung up is
/// noticed.
async fn run_import(request: ImportRequest, news: mpsc::UnboundedSender<ImportEvent>, deps: Deps) {
    let (shown, mut latest) = watch::channel((Step::Check, 0, None));
    // Nobody listens any more when the import is being interrupted.
    let tell = |event| {
        let _gone = news.send(event);
    };
    let on_progress = |progress| match progress {
        Progress::Step(step) => {
            shown.send_replace((step, 0, None));
        }
        Progress::Bytes { done, total } => {
            shown.send_modify(|(_, d, t)| (*d, *t) = (done, total));
        }
        Progress::Warning(warning) => tell(ImportEvent::Progress {
            step: format!("warning: {warning}"),
            done: 0,
            total: None,
        }),
    };
    let never = CancellationToken::new();
    let importing = deps.importer.import(request, on_progress, never);
    let telling = async {
        loop {
            let (step, done, total) = *latest.borrow_and_update();
            tell(ImportEvent::Progress {
                step: step.label().to_owned(),
                done,
                total,
            });
            let changed = tokio::time::timeout(HEARTBEAT, latest.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return std::future::pending::<()>().await;
            }
        }
    };
    let imported = tokio::select! {
        imported = importing => imported,
        () = telling => return,
    };
    tell(match imported {
        Ok(snapshot) => ImportEvent::Done {
            snapshot: view(&snapshot, &[], &deps),
        },
        Err(error) => {
            let error = import_failure(&error);
            ImportEvent::Failed { error }
        }
    });
}

fn import_failure(error: &ImportError) -> ErrorInfo {
    ErrorInfo {
        message: error_chain(error),
        detail: error.detail(),
        hint: error.hint(),
    }
}

fn line(event: &ImportEvent) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line.into())
}
