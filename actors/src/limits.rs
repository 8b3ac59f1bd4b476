//! The limits that the actors keep, as the configuration sets them.

use std::time::Duration;

/// How long a fast shutdown may take before Postgres is made to quit at once. Postgres then
/// recovers from its write-ahead log at the next start, so nothing is lost, only time.
pub const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// The `[limits]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// An idle session outside any transaction ends after this time.
    pub session_idle_timeout: Duration,
    /// An idle session inside a transaction ends after this time.
    pub transaction_idle_timeout: Duration,
    /// A session that listens for notifications ends after this time; without it, it stays while
    /// its instance runs for others, and then has the limit of other idle sessions.
    pub listen_idle_timeout: Option<Duration>,
    /// A COPY that waits for its client ends after this time; without it, never.
    pub copy_idle_timeout: Option<Duration>,
    /// An instance without sessions is stopped after this time.
    pub instance_idle_timeout: Duration,
    /// An instance that nobody used for this time is deleted.
    pub retention: Duration,
    /// A client waits this long for a place to run in, and again for Postgres to start.
    pub start_timeout: Duration,
    /// A client has this long to send its startup packet and to authenticate.
    pub login_timeout: Duration,
    /// Running queries get this long to end when the daemon is told to stop.
    pub shutdown_grace: Duration,
    /// The instances that run at the same time.
    pub max_running: usize,
    /// The sessions that are open at the same time, with the clients that wait for theirs.
    pub max_connections: usize,
    /// The connections at the same time that have not authenticated.
    pub max_unauthenticated: usize,
}

/// For how long a session may do nothing, where its client or its project says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdleTimeouts {
    /// Outside any transaction.
    pub session: Option<Duration>,
    /// Inside a transaction.
    pub transaction: Option<Duration>,
    /// While it listens for notifications.
    pub listen: Option<Duration>,
    /// In a COPY that waits for its client.
    pub copy: Option<Duration>,
}

/// For how long one session may do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleLimits {
    /// Outside any transaction.
    pub session: Duration,
    /// Inside a transaction.
    pub transaction: Duration,
    /// While it listens for notifications; as long as its instance runs for others where it is none.
    pub listen: Option<Duration>,
    /// In a COPY that waits for its client; without an end where it is none.
    pub copy: Option<Duration>,
}

impl IdleLimits {
    /// What counts: the client's word, then its project's, then the limits of all.
    pub fn of(client: IdleTimeouts, project: IdleTimeouts, limits: &Limits) -> Self {
        let session = client.session.or(project.session);
        let transaction = client.transaction.or(project.transaction);
        Self {
            session: session.unwrap_or(limits.session_idle_timeout),
            transaction: transaction.unwrap_or(limits.transaction_idle_timeout),
            listen: client
                .listen
                .or(project.listen)
                .or(limits.listen_idle_timeout),
            copy: client.copy.or(project.copy).or(limits.copy_idle_timeout),
        }
    }
}
