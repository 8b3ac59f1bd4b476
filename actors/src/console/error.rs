//! Why the console does not carry out a statement.

use multidb_store::InstanceName;

use crate::instance::InstanceError;
use crate::ports::CloneError;
use crate::project::ProjectError;
use crate::request::RequestError;
use crate::snapshot_index::ChooseError;
use crate::text::quoted;

/// Why the console does not carry out a statement.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsoleError {
    /// The text is no statement of the console.
    #[error("syntax error at {}", match .near {
        Some(near) => format!("or near {}", quoted(near)),
        None => "end of input".to_owned(),
    })]
    Syntax {
        /// The first word that belongs to no statement; none at the end.
        near: Option<String>,
    },
    /// The text asks for tables, such as those that psql's `\d` reads.
    #[error("the console has no tables")]
    NoTables,
    /// A quotation or a comment has no end.
    #[error("unterminated {what}")]
    Unterminated {
        /// `quoted string`, `quoted name` or `comment`.
        what: &'static str,
    },
    /// A text to be prepared has several statements.
    #[error("cannot insert multiple commands into a prepared statement")]
    SeveralStatements,
    /// The message brings no parameter of this number.
    #[error("there is no parameter ${number}")]
    NoParameter {
        /// The number.
        number: u16,
    },
    /// A parameter is null.
    #[error("parameter ${number} is null")]
    NullParameter {
        /// The number.
        number: u16,
    },
    /// A parameter is no text.
    #[error("parameter ${number} is not a text")]
    NoTextParameter {
        /// The number.
        number: usize,
    },
    /// A portal gets another number of parameters than its statement has.
    #[error("bind message supplies {supplied} parameters, but the statement requires {required}")]
    ParameterCount {
        /// How many came.
        supplied: usize,
        /// How many there are.
        required: usize,
    },
    /// The number of forms fits neither one for all nor one for each.
    #[error("bind message has {supplied} format codes for {count} values")]
    FormatCount {
        /// How many came.
        supplied: usize,
        /// The number of values.
        count: usize,
    },
    /// A setting has one value in the console.
    #[error("{name} is always {value} in the console")]
    FixedSetting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: &'static str,
    },
    /// No statement is prepared under this name.
    #[error("prepared statement {} does not exist", quoted(name))]
    NoStatement {
        /// The name.
        name: String,
    },
    /// A statement is prepared under this name.
    #[error("prepared statement {} already exists", quoted(name))]
    StatementExists {
        /// The name.
        name: String,
    },
    /// No portal has this name.
    #[error("portal {} does not exist", quoted(name))]
    NoPortal {
        /// The name.
        name: String,
    },
    /// A portal has this name.
    #[error("portal {} already exists", quoted(name))]
    PortalExists {
        /// The name.
        name: String,
    },
    /// The portal has been run.
    #[error("portal {} cannot be run again", quoted(name))]
    PortalDone {
        /// The name.
        name: String,
    },
    /// The session has as many prepared statements or portals as it may.
    #[error("too many {what} in this session")]
    TooMany {
        /// `prepared statements` or `portals`.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The message calls a function, or copies.
    #[error("the console has no function calls")]
    FunctionCall,
    /// The client has cancelled the statement.
    #[error("canceling statement due to user request")]
    Cancelled {
        /// Whether its work goes on, since it was begun.
        goes_on: bool,
    },
    /// A name or a revision breaks its rule.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no such instance, or the user may not know of it.
    #[error("instance \"{instance}\" does not exist")]
    NoSuchInstance {
        /// The instance.
        instance: InstanceName,
    },
    /// No project was chosen.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The user has no right to do this.
    #[error("{message}")]
    Denied {
        /// The user and the denied action.
        message: String,
    },
    /// The instance did not carry out its command.
    #[error("instance \"{instance}\" did not carry out the command")]
    Instance {
        /// The instance.
        instance: InstanceName,
        /// Why.
        #[source]
        error: InstanceError,
    },
    /// No snapshot could be chosen.
    #[error(transparent)]
    Choose(#[from] ChooseError),
    /// A file could not be read or measured.
    #[error(transparent)]
    Storage(#[from] CloneError),
    /// A part of the daemon ended by a defect; the log has the cause.
    #[error("internal error")]
    Internal,
}
