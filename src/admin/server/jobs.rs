//! The paths of `/v1/jobs`, and the imports and refreshes that start one.

use std::time::Duration;

use actix_web::{HttpResponse, get, post, put, web};
use bytes::Bytes;
use futures_util::{Stream, stream};
use multidb_store::JobId;

use super::Service;
use super::failure::{Answer, Failure, parse};
use crate::admin::api::{ImportBody, RefreshBody};
use crate::control::Caller;
use crate::control::JobUpdates;
use crate::control::model::{ImportOrder, JobView};

/// The longest silence of a job's events. A client that hung up is noticed by the next one.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes
        .service(import)
        .service(refresh)
        .service(list)
        .service(show)
        .service(events)
        .service(upload)
        .service(cancel);
}

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

#[get("/v1/jobs")]
async fn list(caller: Caller, control: Service) -> Answer<Vec<JobView>> {
    Ok(web::Json(control.list_jobs(&caller)))
}

#[get("/v1/jobs/{id}")]
async fn show(id: web::Path<JobId>, caller: Caller, control: Service) -> Answer<JobView> {
    Ok(web::Json(control.show_job(&caller, *id)?))
}

#[post("/v1/jobs/{id}/cancel")]
async fn cancel(id: web::Path<JobId>, caller: Caller, control: Service) -> Answer<JobView> {
    let cancelled = control.cancel_job(&caller, *id);
    Ok(web::Json(cancelled.await?))
}

#[put("/v1/jobs/{id}/upload")]
async fn upload(
    id: web::Path<JobId>,
    body: web::Payload,
    caller: Caller,
    control: Service,
) -> Answer<JobView> {
    let sent = control.send_dump(&caller, *id, body);
    Ok(web::Json(sent.await?))
}

#[get("/v1/jobs/{id}/events")]
async fn events(
    id: web::Path<JobId>,
    caller: Caller,
    control: Service,
) -> Result<HttpResponse, Failure> {
    let updates = control.follow_job(&caller, *id)?;
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .streaming(lines(updates)))
}

/// A line for each status, the first one at once; the last one is that of the job's end.
fn lines(updates: JobUpdates) -> impl Stream<Item = Result<Bytes, serde_json::Error>> {
    /// The statuses that come next.
    enum Next {
        Now(JobUpdates),
        Later(JobUpdates),
        None,
    }
    stream::unfold(Next::Now(updates), async |next| {
        let mut updates = match next {
            Next::Now(updates) => updates,
            Next::Later(mut updates) => {
                // Without a change, the last status is repeated.
                if let Ok(false) = tokio::time::timeout(HEARTBEAT, updates.changed()).await {
                    return None;
                }
                updates
            }
            Next::None => return None,
        };
        let status = updates.latest();
        let next = if status.is_ended() {
            Next::None
        } else {
            Next::Later(updates)
        };
        Some((line(&status), next))
    })
}

fn line(status: &JobView) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(status)?;
    line.push(b'\n');
    Ok(line.into())
}
