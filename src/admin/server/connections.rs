//! Open sessions: shown, and ended.

use actix_web::{delete, get, web};
use multidb_actors::connection::{EndConnection, EndReason};
use multidb_actors::sessions::{ConnectionId, Session};

use super::{AdminDeps, Answer, Failure};
use crate::admin::api::ConnectionView;

type Deps = web::Data<AdminDeps>;

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes.service(list).service(kill);
}

fn view(session: &Session) -> ConnectionView {
    ConnectionView {
        id: session.id.0,
        peer: session.peer.to_string(),
        user: session.user.clone(),
        instance: session.instance.to_string(),
        database: session.database.clone(),
        role: session.role.clone(),
        application_name: session.application_name.clone(),
        state: session.meter.state_name().to_owned(),
        connected_at: session.connected_at,
        idle_seconds: session.meter.quiet_for().as_secs(),
        client_bytes: session.meter.from_client_bytes(),
        backend_bytes: session.meter.from_backend_bytes(),
    }
}

#[get("/v1/connections")]
async fn list(deps: Deps) -> Answer<Vec<ConnectionView>> {
    Ok(web::Json(deps.sessions.all().iter().map(view).collect()))
}

#[delete("/v1/connections/{id}")]
async fn kill(id: web::Path<u64>, deps: Deps) -> Answer<()> {
    let id = ConnectionId(id.into_inner());
    let none = || {
        Failure::not_found(format!("connection {id} does not exist"))
            .hint("\"multidb connection ls\" lists those that do.")
    };
    let session = deps.sessions.get(id).ok_or_else(none)?;
    tracing::info!(%id, instance = %session.instance, "an administrator ends a connection");
    // One whose actor has just ended has got what was asked for.
    if let Err(error) = session.addr.send(EndConnection(EndReason::Killed)).await {
        tracing::debug!(%error, "a connection ended by itself");
    }
    Ok(web::Json(()))
}
