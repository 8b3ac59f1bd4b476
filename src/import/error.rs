//! The errors of an import, each with its hint.

use std::io;
use std::path::{Path, PathBuf};

use multidb_actors::ports::{CloneError, RuntimeError, StartError};
use multidb_store::manifest::ManifestError;
use multidb_store::{DiskFault, SnapshotId, error_chain};
use tokio::task::JoinError;

use super::script::ScriptError;
use crate::fsutil::beneath::TreeError;

/// The error of an import. Nothing of the import is left.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The id is taken.
    #[error("snapshot \"{id}\" already exists")]
    Exists {
        /// The id.
        id: SnapshotId,
    },
    /// An import of this id is running or being cleaned up.
    #[error("an import of snapshot \"{id}\" is already running")]
    InProgress {
        /// The id.
        id: SnapshotId,
    },
    /// The source cannot be imported.
    #[error("cannot import {}: {problem}", .path.display())]
    Refused {
        /// The data directory or the dump.
        path: PathBuf,
        /// The reason.
        problem: String,
        /// The remedy.
        hint: String,
    },
    /// A running server could not be copied, or a command gave no dump.
    #[error("cannot copy from {from}: {message}")]
    Source {
        /// The server's URL without a secret, or the command.
        from: String,
        /// The kind of the fault, as a stable word.
        code: &'static str,
        /// The message, in one line.
        message: String,
        /// The remedy.
        hint: String,
    },
    /// pg_restore or initdb failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Its error output, in one line.
        message: String,
    },
    /// The dump is damaged.
    #[error("cannot import {}", .path.display())]
    Script {
        /// The dump.
        path: PathBuf,
        /// The damage.
        #[source]
        source: ScriptError,
    },
    /// A statement of the dump failed.
    #[error("cannot restore {}: {}", .0.place, .0.message)]
    Statement(Box<StatementError>),
    /// The applied migrations could not be read.
    #[error("cannot read the applied migrations from database \"{database}\": {problem}")]
    Migrations {
        /// The database.
        database: String,
        /// The reason.
        problem: String,
        /// The remedy.
        hint: String,
    },
    /// A preparation failed.
    #[error("preparation {number} ({name}) failed: {problem}")]
    Preparation {
        /// Its place in the order, from 1.
        number: usize,
        /// The command or script that it runs: `sql /etc/multidb/mask.sql`.
        name: String,
        /// The reason.
        problem: String,
        /// The last lines that it printed, or more about the error.
        detail: Option<String>,
    },
    /// The server of the import failed a statement.
    #[error("cannot {action}: {message}")]
    Server {
        /// The purpose of the statement.
        action: String,
        /// The message of Postgres.
        message: String,
    },
    /// The server of the import did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A tree of files could not be created or removed.
    #[error(transparent)]
    Clone(#[from] CloneError),
    /// The manifest could not be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file could not be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The failed operation.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A dump that a client sends ended before the client said so.
    #[error("cannot import {}: the dump ended early, since the client disconnected", .path.display())]
    CutOff {
        /// The dump, by its name at the client.
        path: PathBuf,
    },
    /// The caller cancelled it or has gone, or the daemon stops.
    #[error("the import was cancelled")]
    Cancelled,
    /// A task of the import panicked; the log has the panic.
    #[error("the import failed unexpectedly")]
    Panicked,
}

/// The error of a statement of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementError {
    /// Where it is: `line 12, TABLE public.polls`, or `archive entry 3344, TABLE public.polls`.
    pub place: String,
    /// Its beginning, on one line.
    pub statement: String,
    /// The message of Postgres.
    pub message: String,
    /// The detail of that message.
    pub detail: Option<String>,
    /// The SQLSTATE.
    pub sqlstate: String,
    /// It is a CREATE EXTENSION.
    pub is_extension: bool,
}

impl StatementError {
    fn hint(&self) -> String {
        const INVALID_SCHEMA_NAME: &str = "3F000";
        const GO_ON: &str = "with --keep-going the import goes on past errors and lists them";
        if self.sqlstate == INVALID_SCHEMA_NAME {
            return format!(
                "Create the schema at the beginning of the dump, as its source had it before, and import again; {GO_ON}."
            );
        }
        if lacks_collation(&self.sqlstate, &self.message) {
            return format!(
                "Install that locale where Postgres runs (on Debian the package locales-all, or an image that has it as \
                 runtime.image), and import again; {GO_ON}."
            );
        }
        if self.is_extension {
            return format!(
                "Install the extension where Postgres runs (a package, or an image that has it as runtime.image), or make \
                 the dump without it, if it belongs to a cloud; {GO_ON}."
            );
        }
        format!("Correct the dump, or make it again; {GO_ON}.")
    }

    fn detail(&self) -> String {
        let statement = format!("The statement is: {}", self.statement);
        match &self.detail {
            Some(detail) => format!("{detail}\n{statement}"),
            None => statement,
        }
    }
}

/// Whether an error says that a collation, or its locale, is not known here.
pub(super) fn lacks_collation(sqlstate: &str, message: &str) -> bool {
    const UNDEFINED_OBJECT: &str = "42704";
    let of_locale = ["could not create locale", "could not open collator"];
    (sqlstate == UNDEFINED_OBJECT && message.contains("collation \""))
        || of_locale.iter().any(|begin| message.contains(begin))
}

impl From<JoinError> for ImportError {
    /// Tasks are aborted only when the daemon's tokio runtime shuts down.
    fn from(error: JoinError) -> Self {
        if error.is_panic() {
            Self::Panicked
        } else {
            Self::Cancelled
        }
    }
}

impl ImportError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source { code, .. } => code,
            _ => "import_failed",
        }
    }

    /// The remedy, in a sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => {
                Some("Choose another id, or remove that snapshot first.".to_owned())
            }
            Self::InProgress { .. } => {
                Some("Wait until it has ended, or choose another id.".to_owned())
            }
            Self::Source { hint, .. } if self.disk_fault().is_none() => Some(hint.clone()),
            Self::Refused { hint, .. } | Self::Migrations { hint, .. } => Some(hint.clone()),
            Self::Script {
                source: ScriptError::MetaCommand { .. },
                ..
            } => Some("Remove the command from the dump.".to_owned()),
            Self::CutOff { .. } => Some(
                "Import it again; the client must stay until it has sent all of the dump."
                    .to_owned(),
            ),
            Self::Script {
                source: ScriptError::Variable { .. },
                ..
            } => Some("Write the value of the variable into the dump.".to_owned()),
            Self::Statement(error) if self.disk_fault().is_none() => Some(error.hint()),
            Self::Script { .. } => Some("Make the dump again.".to_owned()),
            Self::Preparation { .. } if self.disk_fault().is_none() => Some(
                "Correct the file or the program that [[project.*.prepare]] names, and import again; nothing of this \
                 import was kept."
                    .to_owned(),
            ),
            Self::Clone(CloneError::NoSpace { .. }) => Some(
                "Remove snapshots or instances that are not needed, or lower limits.disk_reserve."
                    .to_owned(),
            ),
            Self::Runtime(RuntimeError {
                hint: Some(hint), ..
            })
            | Self::Start(StartError::Runtime(RuntimeError {
                hint: Some(hint), ..
            })) => Some(hint.clone()),
            _ => self.disk_fault().map(|fault| fault.hint().to_owned()),
        }
    }

    /// The fault of the disk that multidb, or a program of Postgres, met.
    fn disk_fault(&self) -> Option<DiskFault> {
        let log = self.detail().unwrap_or_default();
        DiskFault::in_text(&error_chain(self)).or_else(|| DiskFault::in_text(&log))
    }

    /// The last lines of Postgres' log, if its server failed; the statement of a dump that failed.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Start(StartError::Exited { log, .. }) => Some(log.join("\n")),
            Self::Statement(error) => Some(error.detail()),
            Self::Preparation { detail, .. } => detail.clone(),
            _ => None,
        }
    }
}

/// The error of a tree that another user can write; `source` is the import's source, `root` the top of
/// the tree.
pub(super) fn tree_error(source: &Path, root: &Path, error: TreeError) -> ImportError {
    if let TreeError::Io {
        action,
        path,
        source,
    } = error
    {
        return ImportError::Io {
            action,
            path,
            source,
        };
    }
    // Below the root, where it is in the source too.
    let problem = error
        .to_string()
        .replace(&format!("{}/", root.display()), "");
    refused(
        source,
        problem,
        "Remove it there, or what makes it, and import again.",
    )
}

/// The error of a source that cannot be imported.
pub(super) fn refused(
    path: &Path,
    problem: impl Into<String>,
    hint: impl Into<String>,
) -> ImportError {
    ImportError::Refused {
        path: path.to_owned(),
        problem: problem.into(),
        hint: hint.into(),
    }
}
