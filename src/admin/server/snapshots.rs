//! The paths of `/v1/snapshots`, except for the import.

use std::time::Duration;

use actix_web::{delete, get, post, web};

use super::Service;
use super::failure::{Answer, parse, parse_optional};
use crate::admin::api::{ExplainQuery, PinBody, RemoveQuery};
use crate::control::Caller;
use crate::control::model::{ExplainView, SnapshotView};

/// `explain` comes first: it would be an id to the other paths.
pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes
        .service(explain)
        .service(list)
        .service(show)
        .service(pin)
        .service(unpin)
        .service(remove);
}

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

#[get("/v1/snapshots")]
async fn list(caller: Caller, control: Service) -> Answer<Vec<SnapshotView>> {
    Ok(web::Json(control.list_snapshots(&caller).await?))
}

#[get("/v1/snapshots/{id}")]
async fn show(id: web::Path<String>, caller: Caller, control: Service) -> Answer<SnapshotView> {
    Ok(web::Json(
        control.show_snapshot(&caller, &parse(&id)?).await?,
    ))
}

#[post("/v1/snapshots/{id}/pin")]
async fn pin(
    id: web::Path<String>,
    body: web::Json<PinBody>,
    caller: Caller,
    control: Service,
) -> Answer<SnapshotView> {
    let time = body.for_seconds.map(Duration::from_secs);
    let pinned = control.pin_snapshot(&caller, &parse(&id)?, time).await?;
    Ok(web::Json(pinned))
}

#[post("/v1/snapshots/{id}/unpin")]
async fn unpin(id: web::Path<String>, caller: Caller, control: Service) -> Answer<SnapshotView> {
    let unpinned = control.unpin_snapshot(&caller, &parse(&id)?).await?;
    Ok(web::Json(unpinned))
}

#[delete("/v1/snapshots/{id}")]
async fn remove(
    id: web::Path<String>,
    query: web::Query<RemoveQuery>,
    caller: Caller,
    control: Service,
) -> Answer<()> {
    let id = parse(&id)?;
    control.remove_snapshot(&caller, &id, query.force).await?;
    Ok(web::Json(()))
}
