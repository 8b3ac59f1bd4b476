//! The rewriter: it splits a dump into lines and dispatches them.

use std::collections::HashSet;

use memchr::{memchr, memmem};

use super::guard::Guard;
use super::lexer::{Lexer, LineEnd};
use super::rows::Position;
use super::statement::Name;
use super::{Restriction, ScriptError, ScriptTarget};

/// The line buffer is kept for the next line up to this capacity.
const LINE_BYTES_KEPT: usize = 64 * 1024;

/// The rewriter. It takes a dump in chunks of any size.
#[derive(Debug)]
pub(in crate::import) struct Rewriter {
    pub(super) target: ScriptTarget,
    pub(super) lexer: Lexer,
    pub(super) position: Position,
    /// The beginning of an incomplete line.
    pub(super) partial: Vec<u8>,
    /// Parts of the current line were passed on, and this is what they said of the next line.
    pub(super) long_line: Option<LineEnd>,
    /// The number of complete lines.
    pub(super) line: u64,
    pub(super) guard: Guard,
    pub(super) known_roles: HashSet<Name>,
    /// The `SET SESSION AUTHORIZATION` in force, to restore after creating a role.
    pub(super) session_authorization: Option<Vec<u8>>,
    /// The last comment announced the data of a table.
    pub(super) data_announced: bool,
    /// The rewriter has begun a transaction for the data of a table.
    pub(super) in_transaction: bool,
    /// This transaction is to be committed before the next line.
    pub(super) commit_due: bool,
    /// A blank line that is held back, since lifting the guard may need it.
    pub(super) blank: Option<Vec<u8>>,
    /// pg_dump's first comment has come, its last one has not.
    pub(super) dump_open: bool,
    /// The same of pg_dumpall.
    pub(super) cluster_dump_open: bool,
}

impl Rewriter {
    pub(in crate::import) fn new(target: ScriptTarget) -> Self {
        let known_roles = target
            .roles
            .iter()
            .map(|r| r.clone().into_bytes())
            .collect();
        Self {
            target,
            lexer: Lexer::new(),
            position: Position::Script,
            partial: Vec::new(),
            long_line: None,
            line: 0,
            guard: Guard::Lifted,
            known_roles,
            session_authorization: None,
            data_announced: false,
            in_transaction: false,
            commit_due: false,
            blank: None,
            dump_open: false,
            cluster_dump_open: false,
        }
    }

    /// Rewrites the next chunk of the dump and appends it to `out`.
    pub(in crate::import) fn push(
        &mut self,
        chunk: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.position != Position::Script && self.partial.is_empty() {
                rest = self.pass_rows(rest, out);
                continue;
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.partial.extend_from_slice(rest);
                return match self.position {
                    Position::Script => self.long_line(out),
                    Position::RowStart | Position::Row => {
                        self.pass_unless_end_marker(out);
                        Ok(())
                    }
                };
            };
            let (tail, after) = rest.split_at(end + 1);
            rest = after;
            if self.partial.is_empty() {
                self.whole_line(tail, out)?;
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(tail);
                self.whole_line(&line, out)?;
                if line.capacity() <= LINE_BYTES_KEPT {
                    line.clear();
                    self.partial = line;
                }
            }
        }
        Ok(())
    }

    /// Ends the script, if the dump is complete.
    pub(in crate::import) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ScriptError> {
        if !self.partial.is_empty() || self.long_line.is_some() {
            let line = std::mem::take(&mut self.partial);
            self.whole_line(&line, out)?;
        }
        let missing = if self.position != Position::Script {
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
        self.flush_blank(out);
        if std::mem::take(&mut self.commit_due) {
            out.extend_from_slice(b"COMMIT;\n");
        }
        Ok(())
    }

    /// Handles a complete line: of the script, or a row that was split between two chunks.
    fn whole_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), ScriptError> {
        if let Some(end) = self.long_line.take() {
            self.end_long_line(line, end, out)
        } else if self.position == Position::Script {
            self.script_line(line, out)
        } else {
            self.row_line(line, out);
            Ok(())
        }
    }

    fn script_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), ScriptError> {
        self.line += 1;
        if std::mem::take(&mut self.commit_due) {
            out.extend_from_slice(b"COMMIT; ");
        }
        let starts_statement = self.lexer.at_statement_start();
        if starts_statement && self.guard != Guard::Lifted && line.trim_ascii().is_empty() {
            self.flush_blank(out);
            self.blank = Some(line.to_vec());
            return Ok(());
        }
        if starts_statement && line.starts_with(b"\\") && self.pg_dump_command(line, out) {
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
        match self.announced_copy(line, starts_statement, scanned) {
            Some(head) => self.wrap_copy(line, head, out),
            None => {
                self.flush_blank(out);
                if starts_statement && scanned.code {
                    self.statement(line, out);
                } else {
                    out.extend_from_slice(line);
                }
            }
        }
        if scanned.end == LineEnd::CopyData {
            self.position = Position::RowStart;
        }
        Ok(())
    }

    /// Reads the comments of pg_dump and pg_dumpall.
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
}
