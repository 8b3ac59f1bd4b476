//! The paths of `/v1/connections`.

use actix_web::{HttpRequest, HttpResponse, delete, get, web};
use multidb_actors::sessions::ConnectionId;

use super::Service;
use super::document::{Paths, Problems};
use super::failure::{Answer, Failure};
use super::page::page_of;
use crate::admin::api::{NumberPath, PageQuery};
use crate::control::Caller;
use crate::control::model::ConnectionView;

pub(super) fn routes(routes: &mut Paths<'_>) {
    routes.service(list).service(kill);
}

/// Lists the open sessions
#[utoipa::path(
    params(PageQuery),operation_id = "list_connections", tag = "connections", responses((status = 200, body = Vec<ConnectionView>, description = "The sessions, oldest first."), Problems))]
#[get("/v1/connections")]
async fn list(
    query: web::Query<PageQuery>,
    request: HttpRequest,
    caller: Caller,
    control: Service,
) -> Result<HttpResponse, Failure> {
    let all = control.list_connections(&caller).await;
    page_of(&request, all, &query, |connection: &ConnectionView| {
        connection.id.to_string()
    })
}

/// Ends a session
#[utoipa::path(
    params(NumberPath),operation_id = "kill_connection", tag = "connections", responses((status = 200, description = "It has ended."), Problems))]
#[delete("/v1/connections/{id}")]
async fn kill(path: web::Path<NumberPath>, caller: Caller, control: Service) -> Answer<()> {
    let id = ConnectionId(path.id);
    Ok(web::Json(control.kill_connection(&caller, id).await?))
}
