//! The paths of `/v1/connections`.

use actix_web::{delete, get, web};
use multidb_actors::sessions::ConnectionId;

use super::Service;
use super::failure::Answer;
use crate::control::Caller;
use crate::control::model::ConnectionView;

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes.service(list).service(kill);
}

#[get("/v1/connections")]
async fn list(caller: Caller, control: Service) -> Answer<Vec<ConnectionView>> {
    Ok(web::Json(control.list_connections(&caller).await))
}

#[delete("/v1/connections/{id}")]
async fn kill(id: web::Path<u64>, caller: Caller, control: Service) -> Answer<()> {
    let id = ConnectionId(id.into_inner());
    Ok(web::Json(control.kill_connection(&caller, id).await?))
}
