//! The paths of `/v1/dedup`.

use actix_web::{HttpResponse, get, post, web};

use super::failure::{Answer, Failure};
use super::{CALLER, Service};
use crate::control::model::DedupView;

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes
        .service(status)
        .service(run)
        .service(pause)
        .service(resume);
}

#[get("/v1/dedup")]
async fn status(control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.dedup_status(&CALLER).await?))
}

#[post("/v1/dedup/run")]
async fn run(control: Service) -> Result<HttpResponse, Failure> {
    let jobs = control.run_dedup(&CALLER).await?;
    Ok(HttpResponse::Accepted().json(jobs))
}

#[post("/v1/dedup/pause")]
async fn pause(control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.pause_dedup(&CALLER).await?))
}

#[post("/v1/dedup/resume")]
async fn resume(control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.resume_dedup(&CALLER).await?))
}
