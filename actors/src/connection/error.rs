//! Why a login is refused, and why a session is terminated.

use std::time::Duration;

use multidb_store::InstanceName;
use serde::Serialize;

use crate::auth::AuthenticationError;
use crate::instance::{InstanceError, OverLimit};
use crate::request::RequestError;
use crate::sessions::EndingCommand;
use crate::supervisor::AcquireError;
use crate::wire::WireError;

/// Why a login is refused.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RefusalReason {
    /// The configuration requires TLS, and the client does not use it.
    #[error("TLS is required")]
    TlsRequired,
    /// The client did not authenticate within `login_timeout`.
    #[error("login timeout")]
    LoginTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The client was evicted as the oldest unauthenticated connection.
    #[error("too many unauthenticated connections")]
    Evicted,
    /// All sessions that `max_connections` allows are open.
    #[error("too many connections")]
    TooManyConnections {
        /// The limit.
        max: usize,
    },
    /// The client sent a message that is not part of a login.
    #[error("unexpected message \"{}\" during the login", char::from(*.tag).escape_default())]
    UnexpectedMessage {
        /// The message's tag.
        tag: u8,
    },
    /// The instance was deleted again and again while the client waited.
    #[error("instance \"{instance}\" was deleted again and again")]
    InstanceKeepsVanishing {
        /// The instance.
        instance: InstanceName,
    },
    /// The instance's Postgres closed the connection during the login, again and again.
    #[error("Postgres of instance \"{instance}\" closed the connection during the login")]
    BackendLost {
        /// The instance.
        instance: InstanceName,
    },
    /// The instance did not serve the client.
    #[error("instance \"{instance}\" is not available")]
    #[serde(untagged)]
    Instance {
        /// The instance.
        instance: InstanceName,
        /// Why.
        #[serde(flatten)]
        #[source]
        error: InstanceError,
    },
    /// The client's bytes are not the protocol.
    #[error(transparent)]
    #[serde(untagged)]
    Wire(#[from] WireError),
    /// The user name or the options are wrong.
    #[error(transparent)]
    #[serde(untagged)]
    Request(#[from] RequestError),
    /// The client is not authenticated.
    #[error(transparent)]
    #[serde(untagged)]
    Authentication(#[from] AuthenticationError),
    /// The client gets no instance.
    #[error(transparent)]
    #[serde(untagged)]
    Acquire(#[from] AcquireError),
}

impl RefusalReason {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TlsRequired => "tls_required",
            Self::LoginTimeout { .. } => "login_timeout",
            Self::Evicted => "evicted",
            Self::TooManyConnections { .. } => "too_many_connections",
            Self::UnexpectedMessage { .. } => "unexpected_message",
            Self::InstanceKeepsVanishing { .. } => "instance_keeps_vanishing",
            Self::BackendLost { .. } => "backend_lost",
            Self::Instance { error, .. } => error.code(),
            Self::Wire(error) => error.code(),
            Self::Request(error) => error.code(),
            Self::Authentication(error) => error.code(),
            Self::Acquire(error) => error.code(),
        }
    }
}

/// Why multidb terminates a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum TerminationReason {
    /// The session was idle outside any transaction for `session_idle_timeout`.
    #[error("idle-session timeout")]
    IdleSession {
        /// The limit.
        limit: Duration,
    },
    /// The session listened, and did nothing else, for `listen_idle_timeout`.
    #[error("idle-session timeout of a listener")]
    IdleListener {
        /// The limit.
        limit: Duration,
    },
    /// A COPY waited for its client for `copy_idle_timeout`.
    #[error("idle-session timeout in COPY")]
    IdleInCopy {
        /// The limit.
        limit: Duration,
    },
    /// The session was idle inside a transaction for `transaction_idle_timeout`.
    #[error("idle-in-transaction timeout")]
    IdleInTransaction {
        /// The limit.
        limit: Duration,
    },
    /// An administrator killed the connection.
    #[error("administrator command")]
    Killed,
    /// The daemon is shutting down.
    #[error("the daemon is shutting down")]
    ShuttingDown,
    /// The instance may not take more of the disk.
    #[error("the instance may not take more disk space")]
    OverLimit(OverLimit),
    /// A command stops, resets or removes its instance.
    #[error("a command ends the sessions of the instance")]
    Commanded(EndingCommand),
}

impl TerminationReason {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::IdleSession { .. } => "idle_session",
            Self::IdleListener { .. } => "idle_listener",
            Self::IdleInCopy { .. } => "idle_in_copy",
            Self::IdleInTransaction { .. } => "idle_in_transaction",
            Self::Killed => "killed",
            Self::ShuttingDown => "shutting_down",
            Self::OverLimit(_) => "over_limit",
            Self::Commanded(_) => "commanded",
        }
    }
}
