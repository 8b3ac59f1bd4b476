//! The paths of `/v1/jobs`, and the imports and refreshes that start one.

use actix_web::{HttpRequest, HttpResponse, get, post, put, web};
use multidb_store::JobId;

use super::Service;
use super::document::{Paths, Problems};
use super::failure::{Answer, Failure, parse};
use super::page::page_of;
use crate::admin::api::{ImportBody, NumberPath, PageQuery, RefreshBody};
use crate::control::Caller;
use crate::control::model::{ImportOrder, JobView};

pub(super) fn routes(routes: &mut Paths<'_>) {
    routes
        .service(import)
        .service(refresh)
        .service(list)
        .service(show)
        .service(super::events::events)
        .service(upload)
        .service(cancel);
}

/// Imports a snapshot
#[utoipa::path(operation_id = "import_snapshot", tag = "snapshots", responses((status = 202, body = JobView, description = "The job that imports it."), Problems))]
#[post("/v1/snapshots/import")]
async fn import(
    body: web::Json<ImportBody>,
    caller: Caller,
    control: Service,
) -> Result<HttpResponse, Failure> {
    let order = order(body.into_inner())?;
    let job = control.start_import(&caller, order).await?;
    Ok(HttpResponse::Accepted().json(job))
}

/// Makes the next snapshot of a project from its source
#[utoipa::path(operation_id = "refresh_project", tag = "snapshots", responses((status = 202, body = JobView, description = "The job that makes it."), Problems))]
#[post("/v1/snapshots/refresh")]
async fn refresh(
    body: web::Json<RefreshBody>,
    caller: Caller,
    control: Service,
) -> Result<HttpResponse, Failure> {
    let job = control
        .start_refresh(&caller, &parse(&body.project)?)
        .await?;
    Ok(HttpResponse::Accepted().json(job))
}

fn order(body: ImportBody) -> Result<ImportOrder, Failure> {
    Ok(ImportOrder {
        id: parse(&body.id)?,
        project: parse(&body.project)?,
        source: body.source,
        taken_at: body.taken_at,
        postgres_major: body.postgres_major,
        errors: body.errors,
    })
}

/// Lists the jobs
#[utoipa::path(
    params(PageQuery),operation_id = "list_jobs", tag = "jobs", responses((status = 200, body = Vec<JobView>, description = "The jobs in the order of their numbers."), Problems))]
#[get("/v1/jobs")]
async fn list(
    query: web::Query<PageQuery>,
    request: HttpRequest,
    caller: Caller,
    control: Service,
) -> Result<HttpResponse, Failure> {
    let all = control.list_jobs(&caller);
    page_of(&request, all, &query, |job: &JobView| job.id.to_string())
}

/// Shows a job
#[utoipa::path(
    params(NumberPath),operation_id = "show_job", tag = "jobs", responses((status = 200, body = JobView, description = "The job."), Problems))]
#[get("/v1/jobs/{id}")]
async fn show(path: web::Path<NumberPath>, caller: Caller, control: Service) -> Answer<JobView> {
    Ok(web::Json(
        control.show_job(&caller, JobId::from_number(path.id))?,
    ))
}

/// Cancels a job
#[utoipa::path(
    params(NumberPath),operation_id = "cancel_job", tag = "jobs", responses((status = 200, body = JobView, description = "The job after it was cleaned up."), Problems))]
#[post("/v1/jobs/{id}/cancel")]
async fn cancel(path: web::Path<NumberPath>, caller: Caller, control: Service) -> Answer<JobView> {
    let cancelled = control.cancel_job(&caller, JobId::from_number(path.id));
    Ok(web::Json(cancelled.await?))
}

/// Sends the dump of an import whose source is an upload
#[utoipa::path(
    params(NumberPath),operation_id = "upload_dump", tag = "jobs", request_body(content = String, content_type = "application/octet-stream", description = "The dump."), responses((status = 200, body = JobView, description = "The job once it has all of it, or has ended."), Problems))]
#[put("/v1/jobs/{id}/upload")]
async fn upload(
    path: web::Path<NumberPath>,
    body: web::Payload,
    caller: Caller,
    control: Service,
) -> Answer<JobView> {
    let sent = control.send_dump(&caller, JobId::from_number(path.id), body);
    Ok(web::Json(sent.await?))
}
