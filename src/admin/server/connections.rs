//! Open sessions: shown, and ended.

use std::collections::HashMap;

use actix_web::{delete, get, web};
use futures_util::StreamExt;
use multidb_actors::connection::{EndConnection, EndReason, SessionState};
use multidb_actors::ports::{BackendActivity, Endpoint, ServerProbe};
use multidb_actors::sessions::{ConnectionId, Session};

use super::{AdminDeps, Answer, Failure};
use crate::admin::api::ConnectionView;

/// How many Postgres servers are asked at a time.
const SERVERS_AT_A_TIME: usize = 16;

type Deps = web::Data<AdminDeps>;

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes.service(list).service(kill);
}

fn view(session: &Session, activity: Option<BackendActivity>) -> ConnectionView {
    let meter = &session.meter;
    ConnectionView {
        id: session.id.0,
        peer: session.peer.to_string(),
        tls: session.tls.map(str::to_owned),
        user: session.user.clone(),
        instance: session.instance.to_string(),
        database: session.database.clone(),
        role: session.role.clone(),
        application_name: session.application_name.clone(),
        state: activity
            .map_or_else(|| meter.state_name(), BackendActivity::name)
            .to_owned(),
        connected_at: session.connected_at,
        idle_seconds: meter.quiet_for().as_secs(),
        client_bytes: meter.from_client_bytes(),
        backend_bytes: meter.from_backend_bytes(),
    }
}

#[get("/v1/connections")]
async fn list(deps: Deps) -> Answer<Vec<ConnectionView>> {
    let sessions = deps.sessions.all();
    let activities = activities_of_active(&sessions, deps.probe.as_ref()).await;
    let view = |session: &Session| view(session, activities.get(&session.id).copied());
    Ok(web::Json(sessions.iter().map(view).collect()))
}

/// What the sessions do that are active by their bytes: each Postgres is asked once, and where one does
/// not answer its sessions count as active.
async fn activities_of_active(
    sessions: &[Session],
    probe: &dyn ServerProbe,
) -> HashMap<ConnectionId, BackendActivity> {
    let active = |session: &&Session| session.meter.state() == SessionState::Active;
    let mut servers: HashMap<&Endpoint, Vec<&Session>> = HashMap::new();
    for session in sessions.iter().filter(active) {
        servers.entry(&session.endpoint).or_default().push(session);
    }
    let asked = servers.into_values().map(|sessions| async move {
        let process_ids: Vec<i32> = sessions
            .iter()
            .map(|session| session.cancel_key.0)
            .collect();
        let one = sessions.first()?;
        let asked = probe.backend_activities(&one.endpoint, &one.superuser, &process_ids);
        let known = asked.await.ok()?;
        let known = sessions
            .into_iter()
            .filter_map(move |session| Some((session.id, *known.get(&session.cancel_key.0)?)));
        Some(known.collect::<Vec<_>>())
    });
    let answers = futures_util::stream::iter(asked).buffer_unordered(SERVERS_AT_A_TIME);
    let answers: Vec<_> = answers.collect().await;
    answers.into_iter().flatten().flatten().collect()
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
