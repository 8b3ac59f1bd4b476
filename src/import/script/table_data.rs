//! The data of a table, which gets a transaction of its own.

use super::guard::Guard;
use super::lexer::{Line, LineEnd};
use super::rewriter::Rewriter;
use super::text::{FREEZE_QUERY_HEAD, FREEZE_QUERY_TAIL, literal, newline, table_name};

impl Rewriter {
    /// The part before `FROM stdin` of a line that begins the data of a table, as pg_dump writes it.
    pub(super) fn announced_copy<'a>(
        &self,
        line: &'a [u8],
        starts_statement: bool,
        scanned: Line,
    ) -> Option<&'a [u8]> {
        let is_data = starts_statement && scanned.end == LineEnd::CopyData;
        if !is_data || !self.data_announced || self.lexer.in_transaction() {
            return None;
        }
        let head = line.trim_ascii_end().strip_suffix(b" FROM stdin;")?;
        head.starts_with(b"COPY ").then_some(head)
    }

    /// Begins a transaction for the data of a table, with FREEZE where the table allows it.
    pub(super) fn wrap_copy(&mut self, line: &[u8], head: &[u8], out: &mut Vec<u8>) {
        self.data_announced = false;
        let token = match self.guard {
            Guard::Lifted => None,
            Guard::Dump(_) | Guard::Rewriter(_) => Some(self.lift_guard(out)),
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
        self.in_transaction = true;
    }
}
