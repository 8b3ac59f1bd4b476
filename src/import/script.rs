//! The rewriter of SQL dumps, which makes their restore deterministic and complete.
//!
//! - The rows of each table get a transaction of their own, with `FREEZE` where that is legal; psql
//!   finds that out by a query just before.
//! - Roles that the dump names and that do not exist are created before their first use.
//! - The database and the roles that the import has created are not created again.
//! - psql stays in its restricted mode (`\restrict`, CVE-2025-8714) for every line of the dump;
//!   only commands of the rewriter lift it.
//!
//! A line of the dump stays one line, so that the line numbers in psql's messages are those of the
//! dump. Rows are not changed. At most [`LINE_BYTES_MAX`] of a line are buffered: rows are not buffered at
//! all, and a longer line of the script, such as an INSERT with a large value, is passed on in parts, as
//! it is. How long a line may be is psql's and Postgres' affair: a gigabyte.

mod guard;
mod lexer;
mod long_line;
mod objects;
mod rewriter;
mod rows;
mod statement;
mod table_data;
#[cfg(test)]
mod tests;
mod text;

pub(super) use self::rewriter::Rewriter;

/// The longest line of a script that is looked at as a whole. Those of pg_dump that need to be are shorter:
/// a COPY names 1,600 columns at most.
const LINE_BYTES_MAX: usize = 1 << 20;
/// What is kept of a longer line until more of it has come, and so the longest token.
const LOOKAHEAD_BYTES: usize = 64 << 10;

/// The properties of the restore that the rewriter needs.
#[derive(Debug, Clone)]
pub(super) struct ScriptTarget {
    /// The database that exists already.
    pub(super) database: String,
    /// The roles that exist already.
    pub(super) roles: Vec<String>,
    /// The server's major.
    pub(super) postgres_major: u16,
    /// How psql is kept from running commands that the dump contains.
    pub(super) restriction: Restriction,
}

/// How psql is kept from running commands that a dump contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Restriction {
    /// By psql's `\restrict`; the token is for dumps without one of their own.
    Psql(String),
    /// By the rewriter, which refuses them: psql has no `\restrict`.
    Rewriter,
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
    #[error("line {line}: a word or a psql command is longer than {bytes_max} bytes")]
    TokenTooLong {
        /// The line, counted from 1.
        line: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// It has a psql command that pg_dump does not write.
    #[error("line {line}: the dump has a psql command, which could run programs")]
    MetaCommand {
        /// The line, counted from 1.
        line: u64,
    },
}
