//! The paths of `/v1/dedup`.

use actix_web::{HttpResponse, get, post, web};

use super::Service;
use super::document::{Paths, Problems};
use super::failure::{Answer, Failure};
use crate::control::Caller;
use crate::control::model::{DedupView, JobView};

pub(super) fn routes(routes: &mut Paths<'_>) {
    routes
        .service(status)
        .service(run)
        .service(pause)
        .service(resume);
}

/// Shows how far snapshots share their blocks
#[utoipa::path(operation_id = "dedup_status", tag = "dedup", responses((status = 200, body = DedupView, description = "How far snapshots share their blocks."), Problems))]
#[get("/v1/dedup")]
async fn status(caller: Caller, control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.dedup_status(&caller).await?))
}

/// Compares the snapshots that have not been compared
#[utoipa::path(operation_id = "run_dedup", tag = "dedup", responses((status = 202, body = Vec<JobView>, description = "The jobs."), Problems))]
#[post("/v1/dedup/run")]
async fn run(caller: Caller, control: Service) -> Result<HttpResponse, Failure> {
    let jobs = control.run_dedup(&caller).await?;
    Ok(HttpResponse::Accepted().json(jobs))
}

/// Pauses all comparisons
#[utoipa::path(operation_id = "pause_dedup", tag = "dedup", responses((status = 200, body = DedupView, description = "Paused."), Problems))]
#[post("/v1/dedup/pause")]
async fn pause(caller: Caller, control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.pause_dedup(&caller).await?))
}

/// Resumes the comparisons
#[utoipa::path(operation_id = "resume_dedup", tag = "dedup", responses((status = 200, body = DedupView, description = "Resumed."), Problems))]
#[post("/v1/dedup/resume")]
async fn resume(caller: Caller, control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.resume_dedup(&caller).await?))
}
