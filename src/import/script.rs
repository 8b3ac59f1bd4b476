//! Rewrites an SQL dump on its way to psql, so that it restores deterministically and completely.
//!
//! - Each table's rows come in a transaction of their own, with `FREEZE` where that is legal:
//!   psql itself decides, by a query just before.
//! - Roles that the dump names and that do not exist are made before their first use.
//! - What the import did already (the database, its roles) is left out.
//! - psql stays in its restricted mode (`\restrict`, CVE-2025-8714) for every line of the dump;
//!   only our own commands lift it.
//!
//! A line of the dump stays one line, so that the line numbers in psql's messages are the dump's.
//! Rows pass untouched. No more than one line is ever held.

mod lexer;
mod statement;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashSet;

use memchr::{memchr, memchr_iter, memmem};

use lexer::{Lexer, Line, LineEnd};
use statement::{Name, Subject};
use text::{
    FREEZE_QUERY_HEAD, FREEZE_QUERY_TAIL, create_role, is_database, is_token, is_unwanted, literal,
    newline, table_name,
};

/// What the rewriter must know about where the script goes.
#[derive(Debug, Clone)]
pub(super) struct ScriptTarget {
    /// The database that exists already.
    pub(super) database: String,
    /// The roles that exist already.
    pub(super) roles: Vec<String>,
    /// The server's major version.
    pub(super) postgres_major: u16,
    /// How psql is kept from the dump's own commands.
    pub(super) restriction: Restriction,
}

/// How psql is kept from running commands that a dump holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Restriction {
    /// psql knows `\restrict`; this is our token, for dumps that do not bring one.
    Psql(String),
    /// It does not: the rewriter refuses what it sees.
    Rewriter,
}

/// Why a dump is not restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It ends too early.
    #[error("the dump is truncated: {missing}")]
    Truncated {
        /// What is missing.
        missing: &'static str,
    },
    /// It has a command to psql that no dump needs.
    #[error(
        "line {line}: the dump has a backslash command for psql, which could run programs: \
         remove it"
    )]
    MetaCommand {
        /// The line, counted from 1.
        line: u64,
    },
}

/// Whose token holds psql in its restricted mode now.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Guard {
    /// None: nothing but comments and `\connect` may pass.
    Lifted,
    /// The dump's own.
    Dump(Vec<u8>),
    /// Ours, for a dump of an older pg_dump.
    Ours(Vec<u8>),
}

/// Where in the script the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Script,
    /// In a table's rows, at the start of a line.
    RowStart,
    /// In a table's rows, inside a line.
    Row,
}

/// The rewriter. Feed it the dump in pieces of any size.
#[derive(Debug)]
pub(super) struct Rewriter {
    target: ScriptTarget,
    lexer: Lexer,
    place: Place,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    line: u64,
    guard: Guard,
    known_roles: HashSet<Name>,
    /// The `SET SESSION AUTHORIZATION` in force, to put back after making a role.
    session_authorization: Option<Vec<u8>>,
    /// The last comment announced a table's data.
    data_announced: bool,
    /// Our transaction around a table's data is open.
    framed: bool,
    /// It is to be committed before the next line.
    commit_due: bool,
    /// A blank line that may be needed to lift the guard.
    blank: Option<Vec<u8>>,
    dump_open: bool,
    cluster_dump_open: bool,
}

impl Rewriter {
    pub(super) fn new(target: ScriptTarget) -> Self {
        let known_roles = target
            .roles
            .iter()
            .map(|r| r.clone().into_bytes())
            .collect();
        Self {
            target,
            lexer: Lexer::new(),
            place: Place::Script,
            partial: Vec::new(),
            line: 0,
            guard: Guard::Lifted,
            known_roles,
            session_authorization: None,
            data_announced: false,
            framed: false,
            commit_due: false,
            blank: None,
            dump_open: false,
            cluster_dump_open: false,
        }
    }

    /// Rewrites the next piece of the dump and appends it to `out`.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), ScriptError> {
        let mut rest = piece;
        while !rest.is_empty() {
            if self.place != Place::Script && self.partial.is_empty() {
                rest = self.rows(rest, out);
                continue;
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.partial.extend_from_slice(rest);
                return Ok(());
            };
            let (tail, after) = rest.split_at(end + 1);
            rest = after;
            if self.partial.is_empty() {
                self.whole_line(tail, out)?;
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(tail);
                self.whole_line(&line, out)?;
                if line.capacity() <= 64 * 1024 {
                    line.clear();
                    self.partial = line;
                }
            }
        }
        Ok(())
    }

    /// Ends the script, if the dump is complete.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ScriptError> {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.whole_line(&line, out)?;
        }
        let missing = if self.place != Place::Script {
            Some("it ends within a table's rows")
        } else if !self.lexer.at_statement_start() {
            Some("it ends within a statement")
        } else if self.dump_open {
            Some("its last line, \"PostgreSQL database dump complete\", is missing")
        } else if self.cluster_dump_open {
            Some("its last line, \"PostgreSQL database cluster dump complete\", is missing")
        } else {
            None
        };
        if let Some(missing) = missing {
            return Err(ScriptError::Truncated { missing });
        }
        self.give_blank(out);
        if std::mem::take(&mut self.commit_due) {
            out.extend_from_slice(b"COMMIT;\n");
        }
        Ok(())
    }

    /// Passes rows on, up to the line that ends them; returns what it did not take.
    fn rows<'a>(&mut self, piece: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut at = 0;
        loop {
            if self.place == Place::RowStart {
                let rest = &piece[at..];
                if rest.starts_with(b"\\.\n") || rest.starts_with(b"\\.\r\n") {
                    break;
                }
                if b"\\.\r".starts_with(rest) {
                    // Too short to tell (or empty): the next piece decides.
                    self.pass(&piece[..at], out);
                    self.partial.extend_from_slice(rest);
                    return &[];
                }
            }
            // The end marker can only follow a line feed, so search for both at once.
            match memmem::find(&piece[at..], b"\n\\.") {
                Some(found) => {
                    at += found + 1;
                    self.place = Place::RowStart;
                }
                None => {
                    self.pass_rest(&piece[at..]);
                    let kept = self.partial.len();
                    self.pass(&piece[..piece.len() - kept], out);
                    return &[];
                }
            }
        }
        self.pass(&piece[..at], out);
        let end = memchr(b'\n', &piece[at..]).map_or(piece.len(), |end| at + end + 1);
        self.end_rows(&piece[at..end], out);
        &piece[end..]
    }

    fn pass(&mut self, rows: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(rows);
        self.line += memchr_iter(b'\n', rows).count() as u64;
    }

    /// Notes where the rows stand after a piece without an end marker, keeping its undecided end.
    fn pass_rest(&mut self, rest: &[u8]) {
        if rest.ends_with(b"\n") {
            self.place = Place::RowStart;
        } else if rest.ends_with(b"\n\\") {
            self.place = Place::RowStart;
            self.partial.push(b'\\');
        } else if !rest.is_empty() {
            self.place = Place::Row;
        }
    }

    fn end_rows(&mut self, marker: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(marker);
        self.line += 1;
        self.place = Place::Script;
        self.commit_due = std::mem::take(&mut self.framed);
    }

    /// A line that is complete: of the script, or the first of rows that a piece's end had cut.
    fn whole_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), ScriptError> {
        if self.place != Place::Script {
            if self.place == Place::RowStart && matches!(line, b"\\.\n" | b"\\.\r\n" | b"\\.") {
                self.end_rows(line, out);
            } else {
                self.pass(line, out);
                self.place = Place::RowStart;
            }
            return Ok(());
        }
        self.line += 1;
        if std::mem::take(&mut self.commit_due) {
            out.extend_from_slice(b"COMMIT; ");
        }
        let starts_statement = self.lexer.at_statement_start();
        if starts_statement && self.guard != Guard::Lifted && line.trim_ascii().is_empty() {
            self.give_blank(out);
            self.blank = Some(line.to_vec());
            return Ok(());
        }
        if starts_statement && line.starts_with(b"\\") && self.own_command(line, out) {
            return Ok(());
        }
        let scanned = self.lexer.scan(line);
        if scanned.meta_command && self.target.restriction == Restriction::Rewriter {
            return Err(ScriptError::MetaCommand { line: self.line });
        }
        if scanned.code && self.guard == Guard::Lifted {
            self.begin_guard(out);
        }
        if starts_statement && !scanned.code {
            self.comment(line);
        }
        match self.framed_head(line, starts_statement, scanned) {
            Some(head) => self.frame_copy(line, head, out),
            None => {
                self.give_blank(out);
                if starts_statement && scanned.code {
                    self.statement(line, out);
                } else {
                    out.extend_from_slice(line);
                }
            }
        }
        if scanned.end == LineEnd::CopyData {
            self.place = Place::RowStart;
        }
        Ok(())
    }

    /// The only commands that a dump may give to psql. False for all others.
    fn own_command(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let mut words = line.trim_ascii_end().splitn(2, |b| *b == b' ');
        let command = words.next().unwrap_or_default();
        let argument = words.next().unwrap_or_default().trim_ascii();
        let psql_restricts = matches!(self.target.restriction, Restriction::Psql(_));
        match command {
            b"\\restrict" if is_token(argument) => {
                // Under our own token the dump's is not trusted: it came too late to be pg_dump's.
                self.give_blank(out);
                if psql_restricts && self.guard == Guard::Lifted {
                    self.guard = Guard::Dump(argument.to_vec());
                    out.extend_from_slice(line);
                } else {
                    out.extend_from_slice(newline(line));
                }
            }
            b"\\unrestrict" if is_token(argument) => match &self.guard {
                Guard::Dump(token) if token == argument => {
                    self.give_blank(out);
                    self.guard = Guard::Lifted;
                    out.extend_from_slice(line);
                }
                Guard::Dump(_) => return false,
                Guard::Lifted | Guard::Ours(_) => {
                    self.give_blank(out);
                    out.extend_from_slice(newline(line));
                }
            },
            b"\\connect" | b"\\c" if is_database(argument) => match &self.guard {
                Guard::Lifted => out.extend_from_slice(line),
                Guard::Ours(_) => {
                    let token = self.lift(out);
                    let text = [b"\\connect ", argument, b" \\\\ \\restrict ", &token];
                    out.extend_from_slice(&text.concat());
                    out.extend_from_slice(newline(line));
                }
                Guard::Dump(_) => return false,
            },
            _ => return false,
        }
        true
    }

    fn begin_guard(&mut self, out: &mut Vec<u8>) {
        if let Restriction::Psql(token) = &self.target.restriction {
            out.extend_from_slice(b"\\restrict ");
            out.extend_from_slice(token.as_bytes());
            out.extend_from_slice(b" \\\\ ");
            self.guard = Guard::Ours(token.clone().into_bytes());
        }
    }

    fn comment(&mut self, line: &[u8]) {
        match line.trim_ascii_end() {
            b"-- PostgreSQL database dump" => self.dump_open = true,
            b"-- PostgreSQL database dump complete" => self.dump_open = false,
            b"-- PostgreSQL database cluster dump" => self.cluster_dump_open = true,
            b"-- PostgreSQL database cluster dump complete" => self.cluster_dump_open = false,
            comment if comment.starts_with(b"-- Data for Name: ") => {
                self.data_announced = memmem::find(comment, b"; Type: TABLE DATA;").is_some();
            }
            _ => {}
        }
    }

    /// A line that begins a statement.
    fn statement(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let one_line = self.lexer.at_statement_start();
        self.data_announced = false;
        match line.trim_ascii_end() {
            b"SET standard_conforming_strings = off;" => self.lexer.set_backslash_literals(true),
            b"SET standard_conforming_strings = on;" => self.lexer.set_backslash_literals(false),
            text if one_line && is_unwanted(text, self.target.postgres_major) => {
                out.extend_from_slice(newline(line));
                return;
            }
            _ => {}
        }
        match statement::subject(line) {
            None => out.extend_from_slice(line),
            Some(subject) => self.about(subject, line, one_line, out),
        }
    }

    fn about(&mut self, subject: Subject, line: &[u8], one_line: bool, out: &mut Vec<u8>) {
        match subject {
            Subject::Roles(roles) => {
                for role in roles {
                    self.ensure_role(role, out);
                }
            }
            Subject::CreateRole(role) => {
                self.ensure_role(role, out);
                out.extend_from_slice(newline(line));
                return;
            }
            Subject::CreateRoleWith(role) => {
                if !self.known_roles.insert(role) {
                    out.extend_from_slice(b"ALTER");
                    out.extend_from_slice(line.trim_ascii_start().get(6..).unwrap_or_default());
                    return;
                }
            }
            Subject::Database(name, owner) => {
                let exists = name == self.target.database.as_bytes()
                    || matches!(name.as_slice(), b"postgres" | b"template1" | b"template0");
                if exists && one_line {
                    out.extend_from_slice(newline(line));
                    return;
                }
                if let Some(owner) = owner {
                    self.ensure_role(owner, out);
                }
            }
            Subject::SessionAuthorization(None) => self.session_authorization = None,
            Subject::SessionAuthorization(Some(role)) => {
                self.ensure_role(role, out);
                self.session_authorization = Some(line.trim_ascii_end().to_vec());
            }
        }
        out.extend_from_slice(line);
    }

    /// Makes a role at its first use, on the same line.
    fn ensure_role(&mut self, role: Name, out: &mut Vec<u8>) {
        if !self.known_roles.insert(role.clone()) {
            return;
        }
        if self.session_authorization.is_some() {
            out.extend_from_slice(b"RESET SESSION AUTHORIZATION; ");
        }
        out.extend_from_slice(&create_role(&role));
        if let Some(statement) = &self.session_authorization {
            out.extend_from_slice(statement);
            out.push(b' ');
        }
    }

    /// What stands before `FROM stdin` in a line that begins a table's data, as pg_dump writes it.
    fn framed_head<'a>(&self, line: &'a [u8], starts: bool, scanned: Line) -> Option<&'a [u8]> {
        let is_data = starts && scanned.end == LineEnd::CopyData;
        if !is_data || !self.data_announced || self.lexer.in_transaction() {
            return None;
        }
        let head = line.trim_ascii_end().strip_suffix(b" FROM stdin;")?;
        head.starts_with(b"COPY ").then_some(head)
    }

    /// Puts a table's data into a transaction, with FREEZE where the table allows it.
    fn frame_copy(&mut self, line: &[u8], head: &[u8], out: &mut Vec<u8>) {
        self.data_announced = false;
        let token = match self.guard {
            Guard::Lifted => None,
            Guard::Dump(_) | Guard::Ours(_) => Some(self.lift(out)),
        };
        out.extend_from_slice(FREEZE_QUERY_HEAD.as_bytes());
        out.extend_from_slice(&literal(table_name(&head[b"COPY ".len()..])));
        out.extend_from_slice(FREEZE_QUERY_TAIL.as_bytes());
        if let Some(token) = token {
            out.extend_from_slice(&[b"\\restrict ", token.as_slice(), b" \\\\ "].concat());
        }
        out.extend_from_slice(b"BEGIN; :multidb_prepare ");
        out.extend_from_slice(head);
        out.extend_from_slice(b" FROM stdin :multidb_options;");
        out.extend_from_slice(newline(line));
        self.framed = true;
    }

    /// Passes on a blank line that was held back.
    fn give_blank(&mut self, out: &mut Vec<u8>) {
        if let Some(blank) = self.blank.take() {
            out.extend_from_slice(&blank);
        }
    }

    /// Lifts the guard for what follows on the next line, and returns its token.
    ///
    /// psql takes the whole line for `\unrestrict`'s argument (since 15.20), so it needs a line of
    /// its own: the blank one that pg_dump leaves before a command of this kind, else a new one.
    fn lift(&mut self, out: &mut Vec<u8>) -> Vec<u8> {
        let token = match &self.guard {
            Guard::Dump(token) | Guard::Ours(token) => token.clone(),
            Guard::Lifted => Vec::new(),
        };
        out.extend_from_slice(&[b"\\unrestrict ", token.as_slice()].concat());
        out.extend_from_slice(&self.blank.take().unwrap_or_else(|| b"\n".to_vec()));
        token
    }
}
