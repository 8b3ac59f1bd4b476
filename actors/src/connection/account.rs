//! The data of a session that is kept for its end: one line in the log, and its counts.

use std::sync::Arc;

use super::{ConnectionDeps, End};
use crate::metrics::labels::SessionEnd;
use crate::metrics::{Label, LoginTimes, Metrics};
use crate::sessions::Session;

/// The account of one session. Its drop closes it, however the session ended.
pub(super) struct Account {
    session: Session,
    /// How long the login took; none for the console.
    times: Option<LoginTimes>,
    end: Option<SessionEnd>,
    metrics: Arc<Metrics>,
}

impl Account {
    /// Opens the account of a session that begins.
    pub(super) fn open(session: Session, times: Option<LoginTimes>, deps: &ConnectionDeps) -> Self {
        if let Some(times) = &times {
            deps.metrics.logged_in(times);
        }
        Self {
            session,
            times,
            end: None,
            metrics: deps.metrics.clone(),
        }
    }

    /// Notes why the session is being ended. The first reason counts.
    pub(super) fn ends_by(&mut self, end: SessionEnd) {
        self.end.get_or_insert(end);
    }

    /// Notes how its relay ended.
    pub(super) fn ended(&mut self, ended: &std::io::Result<End>) {
        self.ends_by(match ended {
            Ok(End::Closed) => SessionEnd::Closed,
            Ok(End::Ended(reason)) => SessionEnd::from(reason),
            Err(_) => SessionEnd::Disconnected,
        });
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Its connection was closed without a word.
        let end = self.end.unwrap_or(SessionEnd::Disconnected);
        self.metrics.session_ends.count(end);
        let session = &self.session;
        let ms = |time: std::time::Duration| time.as_millis() as u64;
        let times = self.times.as_ref();
        let phase = |of: fn(&LoginTimes) -> Option<std::time::Duration>| times.and_then(of).map(ms);
        tracing::info!(
            id = %session.id,
            peer = %session.peer,
            user = session.user,
            instance = session.instance().map(|instance| instance.name.as_str()),
            end = end.name(),
            duration_ms = ms(session.stats.age()),
            login_ms = phase(|times| Some(times.total)),
            authenticate_ms = phase(|times| Some(times.authenticate)),
            choose_ms = phase(|times| times.choose),
            fetch_ms = phase(|times| times.fetch),
            clone_ms = phase(|times| times.clone),
            start_ms = phase(|times| times.start),
            connect_ms = phase(|times| Some(times.connect)),
            from_client_bytes = session.stats.from_client_bytes(),
            to_client_bytes = session.stats.from_backend_bytes(),
            "session ended"
        );
    }
}
