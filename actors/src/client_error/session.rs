//! Sessions that multidb ends, and what it tells those that go on.

use std::time::Duration;

use multidb_store::{InstanceName, SnapshotId};

use super::{ClientError, text};
use crate::request::Source;
use crate::wire::sqlstate;

/// What an administrator did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAction {
    /// Stopped the instance.
    Stop,
    /// Gave the instance a fresh clone.
    Reset,
    /// Deleted the instance.
    Remove,
}

/// A NOTICE of ours. The session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientNotice {
    /// What there is to know, without the prefix.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl ClientError {
    /// The session waited for its client outside any transaction for too long.
    pub fn idle_session(limit: Duration) -> Self {
        Self::fatal(
            sqlstate::IDLE_SESSION_TIMEOUT,
            "terminating connection due to idle-session timeout",
        )
        .detail(format!(
            "The session was idle for {} (session_idle_timeout).",
            text::duration(limit)
        ))
    }

    /// The session listened and did nothing else for too long.
    pub fn idle_listener(limit: Duration) -> Self {
        Self::fatal(
            sqlstate::IDLE_SESSION_TIMEOUT,
            "terminating connection due to idle-session timeout",
        )
        .detail(format!(
            "The session listened and did nothing else for {} (listen_idle_timeout).",
            text::duration(limit)
        ))
    }

    /// The session waited for its client in a COPY for too long.
    pub fn idle_in_copy(limit: Duration) -> Self {
        Self::fatal(
            sqlstate::IDLE_SESSION_TIMEOUT,
            "terminating connection due to idle-session timeout in COPY",
        )
        .detail(format!(
            "A COPY waited for its client for {} (copy_idle_timeout) and is rolled back.",
            text::duration(limit)
        ))
    }

    /// The session waited for its client inside a transaction for too long.
    ///
    /// Postgres has a SQLSTATE of its own for this, 25P03, and clients tell the two apart: work
    /// was lost here, and none with 57P05.
    pub fn idle_in_transaction(limit: Duration) -> Self {
        Self::fatal(
            sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            "terminating connection due to idle-in-transaction timeout",
        )
        .detail(format!(
            "The transaction was idle for {} (transaction_idle_timeout) and is rolled back.",
            text::duration(limit)
        ))
    }

    /// An administrator ended the instance that the session is on.
    pub fn instance_ended(instance: &InstanceName, action: AdminAction) -> Self {
        let (done, hint) = match action {
            AdminAction::Stop => ("stopped", "The next connection starts it again."),
            AdminAction::Reset => ("reset", "The next connection gets its fresh data."),
            AdminAction::Remove => (
                "removed",
                "A connection with gitref:, snapshot: or asof: creates it anew.",
            ),
        };
        Self::fatal(
            sqlstate::ADMIN_SHUTDOWN,
            format!(
                "terminating connection because an administrator {done} instance \"{instance}\""
            ),
        )
        .hint(hint)
    }

    /// An administrator ended this connection.
    pub fn connection_killed() -> Self {
        Self::fatal(
            sqlstate::ADMIN_SHUTDOWN,
            "terminating connection due to administrator command",
        )
    }

    /// The daemon stops, or has begun to.
    pub fn shutting_down() -> Self {
        Self::fatal(sqlstate::ADMIN_SHUTDOWN, "the daemon is shutting down")
            .hint("Connect again once it is back; the data of all instances is kept.")
    }
}

impl ClientNotice {
    /// The instance was created for this session.
    pub fn created(instance: &InstanceName, snapshot: &SnapshotId) -> Self {
        Self {
            message: format!("created instance \"{instance}\" from snapshot \"{snapshot}\""),
            detail: None,
            hint: None,
        }
    }

    /// The instance exists already, from another snapshot than the client's source chooses now.
    pub fn other_snapshot(
        instance: &InstanceName,
        snapshot: &SnapshotId,
        source: &Source,
        now: &SnapshotId,
    ) -> Self {
        Self {
            message: format!(
                "instance \"{instance}\" exists already, made from snapshot \"{snapshot}\""
            ),
            detail: Some(format!(
                "\"{source}\" would choose snapshot \"{now}\" today, but only a new instance is made from it."
            )),
            hint: Some("Use another instance name to get one.".to_owned()),
        }
    }

    /// The instance exists already, and what the client's source chooses now cannot be told.
    pub fn source_ignored(instance: &InstanceName, source: &Source) -> Self {
        Self {
            message: format!(
                "instance \"{instance}\" exists already, so \"{source}\" was not looked at"
            ),
            detail: None,
            hint: None,
        }
    }
}
