//! The paths of `/v1/dedup`.

use actix_web::{HttpResponse, get, post, web};

use super::Service;
use super::failure::{Answer, Failure};
use crate::control::Caller;
use crate::control::model::DedupView;

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes
        .service(status)
        .service(run)
        .service(pause)
        .service(resume);
}

#[get("/v1/dedup")]
async fn status(caller: Caller, control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.dedup_status(&caller).await?))
}

#[post("/v1/dedup/run")]
async fn run(caller: Caller, control: Service) -> Result<HttpResponse, Failure> {
    let jobs = control.run_dedup(&caller).await?;
    Ok(HttpResponse::Accepted().json(jobs))
}

#[post("/v1/dedup/pause")]
async fn pause(caller: Caller, control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.pause_dedup(&caller).await?))
}

#[post("/v1/dedup/resume")]
async fn resume(caller: Caller, control: Service) -> Answer<DedupView> {
    Ok(web::Json(control.resume_dedup(&caller).await?))
}
