//! The rows of `COPY … FROM stdin`, which the rewriter does not change.

use memchr::{memchr, memchr_iter, memmem};

use super::rewriter::Rewriter;

/// The position of the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Script,
    /// In a table's rows, at the start of a line.
    RowStart,
    /// In a table's rows, inside a line.
    Row,
}

impl Rewriter {
    /// Passes rows on, up to the line that ends them; returns the rest of the chunk.
    pub(super) fn pass_rows<'a>(&mut self, chunk: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut at = 0;
        loop {
            if self.position == Position::RowStart {
                let rest = &chunk[at..];
                if rest.starts_with(b"\\.\n") || rest.starts_with(b"\\.\r\n") {
                    break;
                }
                if b"\\.\r".starts_with(rest) {
                    // Possibly the beginning of the end marker: the next chunk decides.
                    self.pass(&chunk[..at], out);
                    self.partial.extend_from_slice(rest);
                    return &[];
                }
            }
            // The end marker follows a line feed, so both are searched for at once.
            match memmem::find(&chunk[at..], b"\n\\.") {
                Some(found) => {
                    at += found + 1;
                    self.position = Position::RowStart;
                }
                None => {
                    self.update_position(&chunk[at..]);
                    let kept = self.partial.len();
                    self.pass(&chunk[..chunk.len() - kept], out);
                    return &[];
                }
            }
        }
        self.pass(&chunk[..at], out);
        let end = memchr(b'\n', &chunk[at..]).map_or(chunk.len(), |end| at + end + 1);
        self.end_rows(&chunk[at..end], out);
        &chunk[end..]
    }

    /// Updates the position after rows without an end marker. A backslash at their end may begin
    /// the marker, so it is kept for the next chunk.
    fn update_position(&mut self, rest: &[u8]) {
        if rest.ends_with(b"\n") {
            self.position = Position::RowStart;
        } else if rest.ends_with(b"\n\\") {
            self.position = Position::RowStart;
            self.partial.push(b'\\');
        } else if !rest.is_empty() {
            self.position = Position::Row;
        }
    }

    /// Passes the beginning of a row on, unless it may be that of the end marker.
    pub(super) fn pass_unless_end_marker(&mut self, out: &mut Vec<u8>) {
        if !b"\\.\r\n".starts_with(&self.partial) {
            let row = std::mem::take(&mut self.partial);
            self.pass(&row, out);
            self.position = Position::Row;
        }
    }

    /// Handles a complete line of the rows.
    pub(super) fn row_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let is_end = matches!(line, b"\\.\n" | b"\\.\r\n" | b"\\.");
        if self.position == Position::RowStart && is_end {
            self.end_rows(line, out);
        } else {
            self.pass(line, out);
            self.position = Position::RowStart;
        }
    }

    fn pass(&mut self, rows: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(rows);
        self.line += memchr_iter(b'\n', rows).count() as u64;
    }

    fn end_rows(&mut self, marker: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(marker);
        self.line += 1;
        self.position = Position::Script;
        self.commit_due = std::mem::take(&mut self.in_transaction);
    }
}
