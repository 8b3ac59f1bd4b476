//! The SQLSTATEs that multidb itself sends, each with the meaning that clients rely on.

use std::fmt;

/// A five-character SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(&'static str);

impl SqlState {
    /// The five characters.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The class: the first two characters.
    pub fn class(self) -> &'static str {
        self.0.get(..2).unwrap_or_default()
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// `successful_completion`: what a NOTICE carries.
pub const SUCCESSFUL_COMPLETION: SqlState = SqlState("00000");
/// `connection_failure`: the instance's Postgres went away while the client logged in.
pub const CONNECTION_FAILURE: SqlState = SqlState("08006");
/// `protocol_violation`: a malformed or oversized message.
pub const PROTOCOL_VIOLATION: SqlState = SqlState("08P01");
/// `feature_not_supported`: a protocol version or an encryption that multidb does not speak.
pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState("0A000");
/// `invalid_parameter_value`: the user name, the options or a value in them.
pub const INVALID_PARAMETER_VALUE: SqlState = SqlState("22023");
/// `idle_in_transaction_session_timeout`: as Postgres says when it ends such a session.
pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: SqlState = SqlState("25P03");
/// `invalid_catalog_name`: no such database; here also no such instance, project or snapshot.
pub const INVALID_CATALOG_NAME: SqlState = SqlState("3D000");
/// `invalid_authorization_specification`: TLS is missing, or a role or project is not the user's.
pub const INVALID_AUTHORIZATION_SPECIFICATION: SqlState = SqlState("28000");
/// `invalid_password`: wrong, or the user does not exist.
pub const INVALID_PASSWORD: SqlState = SqlState("28P01");
/// `disk_full`: no room for a clone.
pub const DISK_FULL: SqlState = SqlState("53100");
/// `too_many_connections`: of clients, or of running instances.
pub const TOO_MANY_CONNECTIONS: SqlState = SqlState("53300");
/// `configuration_limit_exceeded`: a user's own limit of instances.
pub const CONFIGURATION_LIMIT_EXCEEDED: SqlState = SqlState("53400");
/// `object_not_in_prerequisite_state`: no snapshot fits the revision.
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: SqlState = SqlState("55000");
/// `query_canceled`: what Postgres says when a login takes too long.
pub const QUERY_CANCELED: SqlState = SqlState("57014");
/// `admin_shutdown`: ended by an administrator, or with the daemon.
pub const ADMIN_SHUTDOWN: SqlState = SqlState("57P01");
/// `cannot_connect_now`: still starting; trying again later helps.
pub const CANNOT_CONNECT_NOW: SqlState = SqlState("57P03");
/// `idle_session_timeout`: the session waited for its client for too long.
pub const IDLE_SESSION_TIMEOUT: SqlState = SqlState("57P05");
/// `system_error`: something outside Postgres failed.
pub const SYSTEM_ERROR: SqlState = SqlState("58000");
/// `internal_error`: a fault of multidb itself.
pub const INTERNAL_ERROR: SqlState = SqlState("XX000");
/// `data_corrupted`: a snapshot is not what its manifest says.
pub const DATA_CORRUPTED: SqlState = SqlState("XX001");
