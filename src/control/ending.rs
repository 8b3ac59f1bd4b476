//! The sessions of an instance that is to stop: they are told why, where Postgres' protocol allows it.

use std::time::Duration;

use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance::lifecycle::Command;
use multidb_actors::sessions::{
    EndConnection, EndReason, EndingCommand, InstanceThen, Session, SessionState,
};

use super::Control;
use super::access::Caller;

/// So long the sessions that wait for their clients have to end before the server is stopped.
const NOTICE_PERIOD: Duration = Duration::from_millis(500);

impl Control {
    /// Tells the sessions of an instance why they end. Returns the sessions that were told.
    pub(super) fn tell_sessions(
        &self,
        status: &InstanceStatus,
        reason: &EndReason,
    ) -> Vec<Session> {
        // By the server, since the instance may have had another name.
        let is_of = |session: &Session| {
            let instance = session.instance();
            instance.is_some_and(|one| Some(&one.server.endpoint) == status.endpoint.as_ref())
        };
        let mut sessions = self.deps.sessions.all();
        sessions.retain(is_of);
        for session in &sessions {
            let end = EndConnection(reason.clone());
            if let Err(error) = session.addr.try_send(end) {
                tracing::debug!(id = %session.id, %error, "a session is not told why it ends");
            }
        }
        sessions
    }

    /// Tells the sessions that a command will end, before it is carried out: Postgres would end them in its own words.
    pub(super) async fn announce(&self, status: &InstanceStatus, command: Command, by: &Caller) {
        let then = match command {
            Command::Stop => InstanceThen::Stopped,
            Command::Reset => InstanceThen::Reset,
            Command::Delete => InstanceThen::Removed,
            Command::Start | Command::Recover | Command::Expire => return,
        };
        let reason = EndReason::Commanded(EndingCommand {
            instance: status.record.name.clone(),
            then,
            by: match by {
                Caller::Administrator => "an administrator".to_owned(),
                Caller::User(_) => by.to_string(),
            },
        });
        let mut count = self.deps.sessions.count();
        let told = self.tell_sessions(status, &reason);
        let is_waiting = |session: &Session| {
            session.stats.state() != SessionState::Active
                && self.deps.sessions.get(session.id).is_some()
        };
        let ended = async {
            while told.iter().any(is_waiting) {
                if count.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(NOTICE_PERIOD, ended).await.is_err() {
            tracing::debug!(instance = %status.record.name, "sessions do not take their last message");
        }
        // Sessions of clients that have come back meanwhile.
        self.tell_sessions(status, &reason);
    }
}
