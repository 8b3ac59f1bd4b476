//! The limits that the actors keep, as the configuration sets them.

use std::time::Duration;

/// How long a fast shutdown may take before Postgres is made to quit at once. Postgres then
/// recovers from its write-ahead log at the next start, so nothing is lost, only time.
pub const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// The `[limits]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For how long sessions may do nothing, where nobody else says so.
    pub idle: IdleLimits,
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

/// For how long one session may do nothing. Nothing is done while no byte passes in either direction.
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
    /// While a query runs; without an end where it is none.
    pub active: Option<Duration>,
    /// While it replicates; without an end where it is none.
    pub replication: Option<Duration>,
}

/// The limits that somebody sets: the configuration, a project or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdleTimeouts {
    pub(crate) session: Option<Duration>,
    pub(crate) transaction: Option<Duration>,
    pub(crate) listen: Option<Duration>,
    pub(crate) copy: Option<Duration>,
    pub(crate) active: Option<Duration>,
    pub(crate) replication: Option<Duration>,
}

impl IdleTimeouts {
    /// Their names, wherever they are set.
    pub const KEYS: [&str; 6] = [
        "session_idle_timeout",
        "transaction_idle_timeout",
        "listen_idle_timeout",
        "copy_idle_timeout",
        "active_timeout",
        "replication_timeout",
    ];

    /// Those that `time` knows by their [`KEYS`](Self::KEYS).
    ///
    /// # Errors
    ///
    /// The first of `time`.
    pub fn read<E>(
        mut time: impl FnMut(&'static str) -> Result<Option<Duration>, E>,
    ) -> Result<Self, E> {
        let [session, transaction, listen, copy, active, replication] = Self::KEYS;
        Ok(Self {
            session: time(session)?,
            transaction: time(transaction)?,
            listen: time(listen)?,
            copy: time(copy)?,
            active: time(active)?,
            replication: time(replication)?,
        })
    }
}

impl IdleLimits {
    /// These, but for what somebody else sets, who knows better.
    #[must_use]
    pub fn but(self, set: IdleTimeouts) -> Self {
        Self {
            session: set.session.unwrap_or(self.session),
            transaction: set.transaction.unwrap_or(self.transaction),
            listen: set.listen.or(self.listen),
            copy: set.copy.or(self.copy),
            active: set.active.or(self.active),
            replication: set.replication.or(self.replication),
        }
    }
}

impl Default for IdleLimits {
    fn default() -> Self {
        Self {
            session: Duration::from_secs(15 * 60),
            transaction: Duration::from_secs(60 * 60),
            listen: None,
            copy: None,
            active: None,
            replication: None,
        }
    }
}
