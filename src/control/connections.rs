//! Open sessions: listed and ended.

use std::collections::HashMap;

use futures_util::StreamExt;
use multidb_actors::ports::{BackendActivity, Endpoint, ServerProbe};
use multidb_actors::sessions::{
    ConnectionId, EndConnection, EndReason, InstanceTarget, Session, SessionState,
};

use super::access::{Action, Caller, authorize};
use super::model::ConnectionView;
use super::{Control, ControlError};

/// The number of Postgres servers that are asked at a time.
const SERVERS_AT_A_TIME: usize = 16;

impl Control {
    /// Lists the open sessions, the oldest first.
    pub async fn list_connections(&self, caller: &Caller) -> Vec<ConnectionView> {
        let mut sessions = self.deps.sessions.all();
        sessions.retain(|session| caller.may_view(session));
        let activities = activities_of_active(&sessions, self.deps.probe.as_ref()).await;
        let view = |session: &Session| view(session, activities.get(&session.id).copied());
        sessions.iter().map(view).collect()
    }

    /// Ends a session, and returns when it has ended.
    pub async fn kill_connection(
        &self,
        caller: &Caller,
        id: ConnectionId,
    ) -> Result<(), ControlError> {
        let session = self.deps.sessions.get(id);
        let session = session.ok_or(ControlError::NoSuchConnection(id))?;
        authorize(caller, Action::Change, &session, "end connections")?;
        tracing::info!(%id, user = session.user, %caller, "ending a connection");
        // A session whose actor has just ended has ended too.
        let mut count = self.deps.sessions.count();
        if let Err(error) = session.addr.send(EndConnection(EndReason::Killed)).await {
            tracing::debug!(%error, "the connection had ended by itself");
        }
        // The message is an order; the client may get an answer until its session is out of the table.
        while self.deps.sessions.get(id).is_some() {
            if count.changed().await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn view(session: &Session, activity: Option<BackendActivity>) -> ConnectionView {
    let stats = &session.stats;
    let instance = session.instance();
    let state = activity.map_or_else(|| stats.state_name(), BackendActivity::name);
    ConnectionView {
        id: session.id.0,
        peer: session.peer.to_string(),
        tls: session.tls.map(str::to_owned),
        user: session.user.clone(),
        instance: instance.map(|instance| instance.name.to_string()),
        database: session.database.clone(),
        role: instance.map(|instance| instance.role.clone()),
        application_name: session.application_name.clone(),
        state: state.to_owned(),
        connected_at: session.connected_at,
        idle_seconds: stats.idle_for().as_secs(),
        client_bytes: stats.from_client_bytes(),
        backend_bytes: stats.from_backend_bytes(),
    }
}

/// The activities of the sessions that are active by their bytes. Each Postgres is asked once; the
/// sessions of a Postgres that does not answer are left out, and count as active.
async fn activities_of_active(
    sessions: &[Session],
    probe: &dyn ServerProbe,
) -> HashMap<ConnectionId, BackendActivity> {
    let active = |session: &&Session| session.stats.state() == SessionState::Active;
    let mut servers: HashMap<&Endpoint, Vec<(&InstanceTarget, &Session)>> = HashMap::new();
    for session in sessions.iter().filter(active) {
        if let Some(instance) = session.instance() {
            let of_server = servers.entry(&instance.server.endpoint).or_default();
            of_server.push((instance, session));
        }
    }
    let asked = servers.into_values().map(|sessions| async move {
        let process_ids = sessions.iter().map(|(_, session)| session.cancel_key.0);
        let process_ids: Vec<i32> = process_ids.collect();
        let (one, _) = sessions.first()?;
        let asked = probe.backend_activities(&one.server, &process_ids);
        let known = asked.await.ok()?;
        let known = sessions
            .into_iter()
            .map(|(_, session)| session)
            .filter_map(move |session| Some((session.id, *known.get(&session.cancel_key.0)?)));
        Some(known.collect::<Vec<_>>())
    });
    let answers = futures_util::stream::iter(asked).buffer_unordered(SERVERS_AT_A_TIME);
    let answers: Vec<_> = answers.collect().await;
    answers.into_iter().flatten().flatten().collect()
}
