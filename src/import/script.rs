//! SQL scripts: their parts, and the adaptation to the cluster that multidb has prepared.
//!
//! [`Splitter`] tells statements, psql commands, comments and rows apart; [`Adapter`] plans the run of each
//! statement; [`Entry`] remembers the facts about it in the comments of pg_dump. A long statement is in memory only
//! with its beginning, and rows are not kept at all.

use std::collections::BTreeMap;

mod adapter;
mod command;
mod entry;
mod keywords;
mod primary_keys;
mod rows;
mod splitter;
mod statement;
mod statement_text;
#[cfg(test)]
mod tests;
mod variables;

pub(super) use self::adapter::{
    Adapter, Kind, Plan, Run, SameName, created_database, literal, with_locale,
};
pub(super) use self::command::Command;
pub(super) use self::entry::Entry;
pub(super) use self::primary_keys::{KeyReader, PrimaryKeys, name_end};
pub(super) use self::splitter::{Piece, Splitter};
pub(super) use self::statement::sets_backslash_literals;
pub(super) use self::statement_text::{StatementText, nameless_file};

/// The most of a statement that is kept in memory and looked at. The statements of pg_dump that have to be looked at
/// are shorter.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// The longest psql command and tag of a dollar quote.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// The most bytes that are kept of a comment.
const COMMENT_BYTES_MAX: usize = 8 << 10;

/// The properties of the restore that the adapter needs.
#[derive(Debug, Clone)]
pub(super) struct ScriptTarget {
    /// The project's database, which exists already.
    pub(super) database: String,
    /// The database of the dump, if it is of one alone, which is to be the project's.
    pub(super) source_database: Option<Vec<u8>>,
    /// The other databases that get another name, and that name.
    pub(super) renamed: BTreeMap<String, String>,
    /// The superuser by which the restore runs.
    pub(super) superuser: String,
    /// The project's role, which exists already.
    pub(super) role: String,
    /// The server's major.
    pub(super) postgres_major: u16,
}

/// The error of a dump that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It ends early.
    #[error("the dump is truncated: {missing}")]
    Truncated {
        /// The missing part.
        missing: &'static str,
    },
    /// It has a token that no program has written.
    #[error(
        "line {line}: a psql command or the tag of a dollar quote is longer than {bytes_max} bytes"
    )]
    TokenTooLong {
        /// The line, counted from 1.
        line: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// It has a psql command that pg_dump does not write.
    #[error("line {line}: the dump has the psql command \"{command}\", which is not run")]
    MetaCommand {
        /// The line, counted from 1.
        line: u64,
        /// Its first word.
        command: String,
    },
    /// A variable of psql is used in a way that is not followed.
    #[error("line {line}: the psql variable \"{name}\" is not expanded: {problem}")]
    Variable {
        /// The line, counted from 1.
        line: u64,
        /// Its name.
        name: String,
        /// The reason.
        problem: &'static str,
    },
    /// A statement that is too long for memory could not be kept in a file.
    #[error("cannot keep a long statement in a temporary file: {error}")]
    LongStatement {
        /// The error.
        error: String,
    },
}
