//! The paths of `/v1/snapshots`, except for the import.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};

use super::Service;
use super::document::{Paths, Problems};
use super::failure::{Answer, Failure, parse, parse_optional};
use super::page::page_of;
use crate::admin::api::{ExplainQuery, PageQuery, PinBody, RemoveQuery, SnapshotPath};
use crate::control::Caller;
use crate::control::model::{ExplainView, SnapshotView};

/// `explain` comes first: it would be an id to the other paths.
pub(super) fn routes(routes: &mut Paths<'_>) {
    routes
        .service(explain)
        .service(list)
        .service(show)
        .service(pin)
        .service(unpin)
        .service(remove);
}

/// Explains which snapshot a revision gets
#[utoipa::path(
    params(ExplainQuery),operation_id = "explain", tag = "snapshots", responses((status = 200, body = ExplainView, description = "The decision, snapshot by snapshot."), Problems))]
#[get("/v1/snapshots/explain")]
async fn explain(
    query: web::Query<ExplainQuery>,
    caller: Caller,
    control: Service,
) -> Answer<ExplainView> {
    let ExplainQuery { project, gitref } = query.into_inner();
    let project = parse_optional(project.as_deref())?;
    let explained = control.explain(&caller, project.as_ref(), gitref).await?;
    Ok(web::Json(explained))
}

/// Lists the snapshots
#[utoipa::path(
    params(PageQuery),operation_id = "list_snapshots", tag = "snapshots", responses((status = 200, body = Vec<SnapshotView>, description = "The snapshots."), Problems))]
#[get("/v1/snapshots")]
async fn list(
    query: web::Query<PageQuery>,
    request: HttpRequest,
    caller: Caller,
    control: Service,
) -> Result<HttpResponse, Failure> {
    let all = control.list_snapshots(&caller).await?;
    page_of(&request, all, &query, |snapshot: &SnapshotView| {
        snapshot.id.clone()
    })
}

/// Shows a snapshot with its applied migrations
#[utoipa::path(
    params(SnapshotPath),operation_id = "show_snapshot", tag = "snapshots", responses((status = 200, body = SnapshotView, description = "The snapshot."), Problems))]
#[get("/v1/snapshots/{id}")]
async fn show(
    path: web::Path<SnapshotPath>,
    caller: Caller,
    control: Service,
) -> Answer<SnapshotView> {
    Ok(web::Json(
        control.show_snapshot(&caller, &parse(&path.id)?).await?,
    ))
}

/// Exempts a snapshot from the rule of its project
#[utoipa::path(
    params(SnapshotPath),operation_id = "pin_snapshot", tag = "snapshots", responses((status = 200, body = SnapshotView, description = "The snapshot."), Problems))]
#[post("/v1/snapshots/{id}/pin")]
async fn pin(
    path: web::Path<SnapshotPath>,
    body: web::Json<PinBody>,
    caller: Caller,
    control: Service,
) -> Answer<SnapshotView> {
    let time = body.for_seconds.map(Duration::from_secs);
    let pinned = control
        .pin_snapshot(&caller, &parse(&path.id)?, time)
        .await?;
    Ok(web::Json(pinned))
}

/// Removes the pin of a snapshot
#[utoipa::path(
    params(SnapshotPath),operation_id = "unpin_snapshot", tag = "snapshots", responses((status = 200, body = SnapshotView, description = "The snapshot."), Problems))]
#[post("/v1/snapshots/{id}/unpin")]
async fn unpin(
    path: web::Path<SnapshotPath>,
    caller: Caller,
    control: Service,
) -> Answer<SnapshotView> {
    let unpinned = control.unpin_snapshot(&caller, &parse(&path.id)?).await?;
    Ok(web::Json(unpinned))
}

/// Deletes a snapshot
#[utoipa::path(
    params(SnapshotPath, RemoveQuery),operation_id = "remove_snapshot", tag = "snapshots", responses((status = 200, description = "It is deleted."), Problems))]
#[delete("/v1/snapshots/{id}")]
async fn remove(
    path: web::Path<SnapshotPath>,
    query: web::Query<RemoveQuery>,
    caller: Caller,
    control: Service,
) -> Answer<()> {
    let id = parse(&path.id)?;
    control.remove_snapshot(&caller, &id, query.force).await?;
    Ok(web::Json(()))
}
