//! The limits that the actors enforce, from the configuration.

use std::time::Duration;

/// The limit for a fast shutdown, followed by an immediate one. Postgres then recovers from its write-ahead
/// log at the next start, so nothing is lost but time.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The `[limits]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The idle limits of sessions whose project and client set none.
    pub idle: IdleLimits,
    /// An instance without sessions is stopped after this time.
    pub instance_idle_timeout: Duration,
    /// An instance that was unused for this observed time is marked as expired.
    pub retention: Duration,
    /// A marked instance that is unused for this observed time is deleted.
    pub expiry_grace: Duration,
    /// A client waits this long for a slot to run in, and again for Postgres to start.
    pub start_timeout: Duration,
    /// A client has this long to send its startup packet and to authenticate.
    pub login_timeout: Duration,
    /// Running queries get this long to end when the daemon is told to stop.
    pub shutdown_grace: Duration,
    /// The most instances that run at the same time.
    pub max_running: usize,
    /// No instance starts while more of the memory is used, in percent.
    pub memory_high_water: Option<u8>,
    /// The most sessions at the same time, including authenticated clients whose instance still starts.
    pub max_connections: usize,
    /// The most unauthenticated connections at the same time.
    pub max_unauthenticated: usize,
}

impl Limits {
    /// The hour in which at most a tenth of the instances expires, and for which the clocks must have agreed. No longer
    /// than the retention, where that is shorter.
    pub fn expiry_window(&self) -> Duration {
        const HOUR: Duration = Duration::from_secs(3600);
        HOUR.min(self.retention)
    }
}

/// The idle limits of one session. A session is idle while no byte passes in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleLimits {
    /// Outside any transaction.
    pub session: Duration,
    /// Inside a transaction.
    pub transaction: Duration,
    /// While it listens for notifications. `None` lets it stay while other sessions do more than listen.
    pub listen: Option<Duration>,
    /// In a COPY that waits for its client. `None` is no limit.
    pub copy: Option<Duration>,
    /// While a query runs. `None` is no limit.
    pub active: Option<Duration>,
    /// While it replicates. `None` is no limit.
    pub replication: Option<Duration>,
}

/// The idle limits that one source sets: the configuration, a project or a client.
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
    /// Their names in the configuration and in user names.
    pub const KEYS: [&str; 6] = [
        "session_idle_timeout",
        "transaction_idle_timeout",
        "listen_idle_timeout",
        "copy_idle_timeout",
        "active_timeout",
        "replication_timeout",
    ];

    /// Reads each of the [`KEYS`](Self::KEYS) by `time`.
    ///
    /// # Errors
    ///
    /// The first error of `time`.
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
    /// Replaces the limits that a more specific source sets.
    #[must_use]
    pub fn overridden_by(self, set: IdleTimeouts) -> Self {
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
