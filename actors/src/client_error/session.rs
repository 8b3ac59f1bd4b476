//! Sessions that multidb terminates. The texts are those of Postgres where it has one.

use super::ClientError;
use crate::connection::TerminationReason;
use crate::sessions::{EndingCommand, InstanceThen};
use crate::text;
use crate::wire::sqlstate;

impl ClientError {
    /// The end of a health check, which has been answered and has no session.
    pub(crate) fn health_check() -> Self {
        Self::new(
            sqlstate::INVALID_PARAMETER_VALUE,
            "user \"healthcheck\" is for health checks alone",
        )
        .hint("To reach an instance, connect as user \"instance:NAME\".")
    }
}

impl From<&TerminationReason> for ClientError {
    fn from(reason: &TerminationReason) -> Self {
        match reason {
            TerminationReason::IdleSession { limit } => Self::new(
                sqlstate::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
            )
            .detail(format!(
                "The session was idle for {} (session_idle_timeout).",
                text::duration(*limit)
            )),
            TerminationReason::IdleListener { limit } => Self::new(
                sqlstate::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
            )
            .detail(format!(
                "The session listened and did nothing else for {} (listen_idle_timeout).",
                text::duration(*limit)
            )),
            TerminationReason::IdleInCopy { limit } => Self::new(
                sqlstate::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout in COPY",
            )
            .detail(format!(
                "A COPY waited for its client for {} (copy_idle_timeout) and is rolled back.",
                text::duration(*limit)
            )),
            // Postgres has a SQLSTATE of its own for this, 25P03, and clients tell the two apart:
            // work is lost here, and none with 57P05.
            TerminationReason::IdleInTransaction { limit } => Self::new(
                sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            )
            .detail(format!(
                "The transaction was idle for {} (transaction_idle_timeout) and is rolled back.",
                text::duration(*limit)
            )),
            TerminationReason::Killed => Self::new(
                sqlstate::ADMIN_SHUTDOWN,
                "terminating connection due to administrator command",
            ),
            TerminationReason::ShuttingDown => Self::shutting_down(),
            TerminationReason::OverLimit(over) => Self::terminated_over_limit(over),
            TerminationReason::Commanded(command) => Self::commanded(command),
        }
    }
}

impl ClientError {
    /// The end of a session whose instance is stopped, reset or removed.
    fn commanded(command: &EndingCommand) -> Self {
        let EndingCommand { instance, then, by } = command;
        let (done, detail, hint) = match then {
            InstanceThen::Stopped => (
                "stopped",
                "all that was committed is kept",
                "Connect again: that starts it.".to_owned(),
            ),
            InstanceThen::Reset => (
                "reset",
                "it gets a fresh clone of its snapshot, and all that was written in it goes",
                "Connect again to reach the fresh clone.".to_owned(),
            ),
            InstanceThen::Removed => (
                "removed",
                "its data goes with it",
                format!(
                    "To make it anew, connect as \"instance:{instance}\" with gitref, snapshot or asof."
                ),
            ),
        };
        Self::new(
            sqlstate::ADMIN_SHUTDOWN,
            format!("terminating connection because instance \"{instance}\" is {done}"),
        )
        .detail(format!("The command was given by {by}; {detail}."))
        .hint(hint)
    }

    /// The daemon is shutting down, for logins and sessions alike.
    pub(super) fn shutting_down() -> Self {
        Self::new(sqlstate::ADMIN_SHUTDOWN, "the daemon is shutting down")
            .hint("Connect again when it is back; the data of all instances is kept.")
    }
}
