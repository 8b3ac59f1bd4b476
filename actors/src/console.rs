//! The console's language: its statements, their parameters, and the values of its answers. Pure.
//!
//! | module | owns |
//! | --- | --- |
//! | `lexer` | the words of a text |
//! | `parser` | the statements that they form |
//! | `drivers` | the requests of drivers at their start: settings, functions about the session |
//! | `value` | columns and values in the forms of the protocol |
//! | `error` | why a statement is not carried out |
//!
//! The facts about instances, snapshots and so on come through the port [`Console`](crate::ports::Console).

use std::borrow::Cow;

use multidb_store::{InstanceName, ProjectName};

use crate::request::{RequestError, Source};

mod drivers;
mod error;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;
mod value;

pub use self::drivers::{
    Function, SERVER_VERSION, SelectItem, Session, SessionSetting, reported_settings,
};
pub use self::error::ConsoleError;
pub use self::parser::parse;
pub use self::value::{Column, ColumnType, TEXT_OID, Value};

/// The database that is the console, where no instance is named.
pub const DATABASE: &str = "multidb";

/// The statements, as `SHOW HELP` explains them.
pub const HELP: [(&str, &str); 15] = [
    ("SHOW INSTANCES", "the instances that you may see"),
    (
        "SHOW INSTANCE name",
        "one instance, with what keeps it awake",
    ),
    ("SHOW SNAPSHOTS", "the snapshots, and why each is kept"),
    ("SHOW CONNECTIONS", "the open sessions"),
    ("SHOW JOBS", "imports, refreshes and de-duplications"),
    ("SHOW STATUS", "the daemon, its disk and its refreshes"),
    ("SHOW LIMITS", "the limits of the configuration"),
    (
        "EXPLAIN GITREF 'ref' [PROJECT name]",
        "the choice of a snapshot for a revision, snapshot by snapshot",
    ),
    ("START INSTANCE name", "start its Postgres"),
    (
        "STOP INSTANCE name",
        "end its sessions and stop its Postgres",
    ),
    (
        "RESET INSTANCE name",
        "end its sessions and give it a fresh clone of its snapshot",
    ),
    ("DROP INSTANCE name", "end its sessions and delete it"),
    ("PIN INSTANCE name", "exempt it from expiry"),
    ("UNPIN INSTANCE name", "let it expire again"),
    ("SHOW HELP", "these statements"),
];

/// A list that the console shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// The instances.
    Instances,
    /// The snapshots.
    Snapshots,
    /// The open sessions.
    Connections,
    /// The jobs.
    Jobs,
    /// The daemon's status, in one row.
    Status,
    /// The limits of the configuration.
    Limits,
}

/// A command of the console for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceCommand {
    /// Its Postgres is started.
    Start,
    /// Its Postgres is stopped.
    Stop,
    /// It gets a fresh clone.
    Reset,
    /// It is deleted.
    Drop,
    /// It is exempt from expiry.
    Pin,
    /// It may expire again.
    Unpin,
}

impl InstanceCommand {
    /// The command of this keyword.
    fn of_keyword(keyword: &str) -> Option<Self> {
        Some(match keyword {
            "START" => Self::Start,
            "STOP" => Self::Stop,
            "RESET" => Self::Reset,
            "DROP" => Self::Drop,
            "PIN" => Self::Pin,
            "UNPIN" => Self::Unpin,
            _ => return None,
        })
    }

    /// The command tag that its client gets once it is done.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Start => "START INSTANCE",
            Self::Stop => "STOP INSTANCE",
            Self::Reset => "RESET INSTANCE",
            Self::Drop => "DROP INSTANCE",
            Self::Pin => "PIN INSTANCE",
            Self::Unpin => "UNPIN INSTANCE",
        }
    }
}

/// A request to the service behind the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleRequest {
    /// A list.
    List(Listing),
    /// One instance.
    ShowInstance(InstanceName),
    /// The choice of a snapshot for a revision.
    Explain {
        /// The revision.
        gitref: String,
        /// The project; without one, that of the client or the only one.
        project: Option<ProjectName>,
    },
    /// A change of an instance.
    Command(InstanceCommand, InstanceName),
}

impl ConsoleRequest {
    /// Whether it changes anything. Once begun, such a request is completed even if its client leaves.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Command(..))
    }
}

/// A value in a statement, or the parameter that brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument<T> {
    /// It is in the text.
    Given(T),
    /// It is the parameter of this number, from 1 on.
    Parameter(u16),
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `SHOW INSTANCES` and its like.
    List(Listing),
    /// `SHOW INSTANCE name`.
    ShowInstance(Argument<InstanceName>),
    /// `EXPLAIN GITREF 'ref' [PROJECT name]`.
    Explain {
        /// The revision.
        gitref: Argument<String>,
        /// The project.
        project: Option<Argument<ProjectName>>,
    },
    /// `START INSTANCE name` and its like.
    Command(InstanceCommand, Argument<InstanceName>),
    /// `SHOW HELP`.
    Help,
    /// `SHOW` of a setting of the session.
    ShowSetting(SessionSetting),
    /// `SELECT` of functions about the session.
    Select(Vec<SelectItem>),
    /// `BEGIN`.
    Begin,
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`.
    Rollback,
    /// `SET` of a setting: its name in lower case, and its value.
    Set(String, String),
    /// `DEALLOCATE` of one prepared statement, or of all.
    Deallocate(Option<String>),
    /// `DISCARD ALL`.
    DiscardAll,
    /// A statement that leaves nothing to be done here, and the command tag that its client gets.
    Nothing(&'static str),
}

impl Statement {
    /// The highest number of a parameter.
    pub fn parameters(&self) -> u16 {
        fn number<T>(argument: &Argument<T>) -> u16 {
            match argument {
                Argument::Given(_) => 0,
                Argument::Parameter(number) => *number,
            }
        }
        match self {
            Self::ShowInstance(name) | Self::Command(_, name) => number(name),
            Self::Explain { gitref, project } => {
                number(gitref).max(project.as_ref().map_or(0, number))
            }
            _ => 0,
        }
    }

    /// The request that it makes, with these parameters; none if it is the session's own.
    ///
    /// # Errors
    ///
    /// A parameter is missing, or breaks the rule of its kind.
    pub fn request(
        &self,
        parameters: &[Option<String>],
    ) -> Result<Option<ConsoleRequest>, ConsoleError> {
        let name = |argument| resolve(argument, parameters, instance_name);
        Ok(Some(match self {
            Self::List(listing) => ConsoleRequest::List(*listing),
            Self::ShowInstance(argument) => ConsoleRequest::ShowInstance(name(argument)?),
            Self::Command(command, argument) => ConsoleRequest::Command(*command, name(argument)?),
            Self::Explain { gitref, project } => ConsoleRequest::Explain {
                gitref: resolve(gitref, parameters, revision)?,
                project: project
                    .as_ref()
                    .map(|argument| resolve(argument, parameters, project_name))
                    .transpose()?,
            },
            _ => return Ok(None),
        }))
    }

    /// The command tag that a client gets at its end, after so many rows.
    pub fn tag(&self, rows: usize) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::List(_) | Self::ShowInstance(_) | Self::Help | Self::ShowSetting(_) => "SHOW",
            Self::Explain { .. } => "EXPLAIN",
            Self::Command(command, _) => command.tag(),
            Self::Select(_) => return format!("SELECT {rows}").into(),
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
            Self::Set(..) => "SET",
            Self::Deallocate(Some(_)) => "DEALLOCATE",
            Self::Deallocate(None) => "DEALLOCATE ALL",
            Self::DiscardAll => "DISCARD ALL",
            Self::Nothing(tag) => tag,
        })
    }
}

fn resolve<T: Clone>(
    argument: &Argument<T>,
    parameters: &[Option<String>],
    read: fn(&str) -> Result<T, RequestError>,
) -> Result<T, ConsoleError> {
    let number = match argument {
        Argument::Given(value) => return Ok(value.clone()),
        Argument::Parameter(number) => *number,
    };
    let index = usize::from(number).checked_sub(1);
    match index.and_then(|index| parameters.get(index)) {
        Some(Some(value)) => Ok(read(value)?),
        Some(None) => Err(ConsoleError::NullParameter { number }),
        None => Err(ConsoleError::NoParameter { number }),
    }
}

fn instance_name(text: &str) -> Result<InstanceName, RequestError> {
    Ok(text.parse::<InstanceName>()?)
}

fn project_name(text: &str) -> Result<ProjectName, RequestError> {
    Ok(text.parse::<ProjectName>()?)
}

/// A revision, by the rules of user names.
fn revision(text: &str) -> Result<String, RequestError> {
    Source::parse("gitref", text).map(|_| text.to_owned())
}
