//! Errors of statements of the console.

use multidb_store::InstanceName;

use super::ClientError;
use crate::console::ConsoleError;
use crate::instance::InstanceError;
use crate::ports::CloneError;
use crate::wire::sqlstate;

/// The hint of a text that is no statement.
const SHOW_HELP: &str = "SHOW HELP lists the statements.";

/// The message where a file or the disk failed; the log has paths.
const DISK: &str = "the disk cannot be read";

impl From<&ConsoleError> for ClientError {
    fn from(error: &ConsoleError) -> Self {
        let message = error.to_string();
        match error {
            ConsoleError::Syntax { .. } | ConsoleError::Unterminated { .. } => {
                Self::new(sqlstate::SYNTAX_ERROR, message).hint(SHOW_HELP)
            }
            ConsoleError::NoTables => Self::new(sqlstate::SYNTAX_ERROR, message)
                .detail("It answers statements about multidb and has no catalog, so commands such as psql's \\d, and tools that browse schemas, do not work here.")
                .hint(SHOW_HELP),
            ConsoleError::SeveralStatements => Self::new(sqlstate::SYNTAX_ERROR, message)
                .hint("Prepare one statement at a time, or send them by the simple protocol."),
            ConsoleError::NoParameter { .. } => Self::new(sqlstate::UNDEFINED_PARAMETER, message),
            ConsoleError::NullParameter { .. } | ConsoleError::NoTextParameter { .. } => {
                Self::new(sqlstate::INVALID_PARAMETER_VALUE, message)
                    .hint("Names and revisions are texts.")
            }
            ConsoleError::ParameterCount { .. } | ConsoleError::FormatCount { .. } => {
                Self::new(sqlstate::PROTOCOL_VIOLATION, message)
            }
            ConsoleError::FixedSetting { .. } | ConsoleError::FunctionCall => {
                Self::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
            }
            ConsoleError::NoStatement { .. } => {
                Self::new(sqlstate::INVALID_SQL_STATEMENT_NAME, message)
            }
            ConsoleError::StatementExists { .. } => {
                Self::new(sqlstate::DUPLICATE_PREPARED_STATEMENT, message)
            }
            ConsoleError::NoPortal { .. } => Self::new(sqlstate::INVALID_CURSOR_NAME, message),
            ConsoleError::PortalExists { .. } => Self::new(sqlstate::DUPLICATE_CURSOR, message),
            ConsoleError::PortalDone { .. } => {
                Self::new(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
            }
            ConsoleError::TooMany { max, .. } => {
                Self::new(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, message)
                    .detail(format!("A session of the console has at most {max}."))
            }
            ConsoleError::Cancelled { goes_on } => {
                let cancelled = Self::new(sqlstate::QUERY_CANCELED, message);
                if *goes_on {
                    cancelled.detail("The command was begun, and is completed.")
                } else {
                    cancelled
                }
            }
            ConsoleError::Request(error) => error.into(),
            ConsoleError::NoSuchInstance { .. } => {
                Self::new(sqlstate::INVALID_CATALOG_NAME, message)
                    .hint("SHOW INSTANCES lists those that you may see.")
            }
            ConsoleError::Project(error) => {
                Self::of_project(error, "Name one: EXPLAIN GITREF 'ref' PROJECT name.")
            }
            ConsoleError::Denied { .. } => {
                Self::new(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
            }
            ConsoleError::Instance { instance, error } => of_command(instance, error),
            ConsoleError::Choose(error) => error.into(),
            ConsoleError::Storage(CloneError::Disk(error)) => Self::of_disk(DISK, error),
            ConsoleError::Storage(_) => Self::new(sqlstate::SYSTEM_ERROR, DISK),
            ConsoleError::Internal => Self::internal(),
        }
    }
}

/// The error of a command for an instance, which is the error of a client that waits for it. Only an instance that was
/// deleted meanwhile does not exist for the command.
fn of_command(instance: &InstanceName, error: &InstanceError) -> ClientError {
    match error {
        InstanceError::Deleted => {
            let instance = instance.clone();
            ClientError::from(&ConsoleError::NoSuchInstance { instance })
        }
        InstanceError::Stopped => ClientError::new(
            sqlstate::ADMIN_SHUTDOWN,
            format!("instance \"{instance}\" was stopped meanwhile"),
        ),
        InstanceError::Stop(_) => ClientError::new(
            sqlstate::SYSTEM_ERROR,
            format!("could not stop Postgres of instance \"{instance}\", retrying"),
        ),
        error => ClientError::of_instance(instance, error),
    }
}
