//! The SQLSTATEs that multidb itself sends or recognizes, each with the meaning that clients rely on.

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

/// `successful_completion`: the code of a NOTICE.
pub const SUCCESSFUL_COMPLETION: SqlState = SqlState("00000");
/// `connection_failure`: the instance's Postgres closed the connection during the login.
pub const CONNECTION_FAILURE: SqlState = SqlState("08006");
/// `protocol_violation`: a malformed or oversized message.
pub const PROTOCOL_VIOLATION: SqlState = SqlState("08P01");
/// `feature_not_supported`: an unsupported protocol version or encryption.
pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState("0A000");
/// `invalid_parameter_value`: the user name, the options or a value in them.
pub const INVALID_PARAMETER_VALUE: SqlState = SqlState("22023");
/// `idle_in_transaction_session_timeout`: as from Postgres when it ends such a session.
pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: SqlState = SqlState("25P03");
/// `invalid_catalog_name`: no such database; here also no such instance, project or snapshot.
pub const INVALID_CATALOG_NAME: SqlState = SqlState("3D000");
/// `invalid_authorization_specification`: TLS is missing, or a role or project is not allowed.
pub const INVALID_AUTHORIZATION_SPECIFICATION: SqlState = SqlState("28000");
/// `invalid_password`: wrong, or the user does not exist.
pub const INVALID_PASSWORD: SqlState = SqlState("28P01");
/// `invalid_sql_statement_name`: no statement is prepared under this name.
pub const INVALID_SQL_STATEMENT_NAME: SqlState = SqlState("26000");
/// `invalid_cursor_name`: no portal has this name.
pub const INVALID_CURSOR_NAME: SqlState = SqlState("34000");
/// `syntax_error`: no statement of the console.
pub const SYNTAX_ERROR: SqlState = SqlState("42601");
/// `undefined_parameter`: a statement names a parameter that the message does not bring.
pub const UNDEFINED_PARAMETER: SqlState = SqlState("42P02");
/// `duplicate_cursor`: a portal has this name.
pub const DUPLICATE_CURSOR: SqlState = SqlState("42P03");
/// `duplicate_prepared_statement`: a statement is prepared under this name.
pub const DUPLICATE_PREPARED_STATEMENT: SqlState = SqlState("42P05");
/// `disk_full`: no room for a clone, a record, or a start.
pub const DISK_FULL: SqlState = SqlState("53100");
/// `too_many_connections`: of clients, or of running instances.
pub const TOO_MANY_CONNECTIONS: SqlState = SqlState("53300");
/// `configuration_limit_exceeded`: a user's limit of instances is reached.
pub const CONFIGURATION_LIMIT_EXCEEDED: SqlState = SqlState("53400");
/// `object_not_in_prerequisite_state`: no snapshot is compatible with the revision.
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: SqlState = SqlState("55000");
/// `query_canceled`: as from Postgres when a login takes too long.
pub const QUERY_CANCELED: SqlState = SqlState("57014");
/// `duplicate_database`: the database to be created exists.
pub const DUPLICATE_DATABASE: SqlState = SqlState("42P04");
/// `duplicate_object`: the role to be created exists.
pub const DUPLICATE_OBJECT: SqlState = SqlState("42710");
/// `insufficient_privilege`: a session sets a superuser's setting at its login.
pub const INSUFFICIENT_PRIVILEGE: SqlState = SqlState("42501");
/// `undefined_table`: a query names a table that does not exist.
pub const UNDEFINED_TABLE: SqlState = SqlState("42P01");
/// `admin_shutdown`: ended by an administrator, or with the daemon.
pub const ADMIN_SHUTDOWN: SqlState = SqlState("57P01");
/// `cannot_connect_now`: still starting; trying again later helps.
pub const CANNOT_CONNECT_NOW: SqlState = SqlState("57P03");
/// `idle_session_timeout`: the session waited for its client for too long.
pub const IDLE_SESSION_TIMEOUT: SqlState = SqlState("57P05");
/// `system_error`: something outside Postgres failed.
pub const SYSTEM_ERROR: SqlState = SqlState("58000");
/// `io_error`: the disk is read-only, or failed.
pub const IO_ERROR: SqlState = SqlState("58030");
/// `internal_error`: a defect of multidb.
pub const INTERNAL_ERROR: SqlState = SqlState("XX000");
/// `data_corrupted`: a snapshot does not match its manifest.
pub const DATA_CORRUPTED: SqlState = SqlState("XX001");
