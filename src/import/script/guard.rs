//! The guard: psql's restricted mode, which the rewriter keeps on for every line of a dump.

use super::Restriction;
use super::rewriter::Rewriter;
use super::text::{is_database, is_token, newline};

/// psql's restricted mode, by the owner of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guard {
    /// Off: only comments and `\connect` may pass.
    Lifted,
    /// On, with the token of the dump.
    Dump(Vec<u8>),
    /// On, with the token of the rewriter, for a dump of an older pg_dump.
    Rewriter(Vec<u8>),
}

impl Rewriter {
    /// Handles the psql commands that pg_dump writes. Returns false for all others.
    pub(super) fn pg_dump_command(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let mut words = line.trim_ascii_end().splitn(2, |b| *b == b' ');
        let command = words.next().unwrap_or_default();
        let argument = words.next().unwrap_or_default().trim_ascii();
        let psql_restricts = matches!(self.target.restriction, Restriction::Psql(_));
        match command {
            b"\\restrict" if is_token(argument) => {
                // After the first statement it is not from pg_dump, so it is not trusted.
                self.flush_blank(out);
                if psql_restricts && self.guard == Guard::Lifted {
                    self.guard = Guard::Dump(argument.to_vec());
                    out.extend_from_slice(line);
                } else {
                    out.extend_from_slice(newline(line));
                }
            }
            b"\\unrestrict" if is_token(argument) => match &self.guard {
                Guard::Dump(token) if token == argument => {
                    self.flush_blank(out);
                    self.guard = Guard::Lifted;
                    out.extend_from_slice(line);
                }
                Guard::Dump(_) => return false,
                Guard::Lifted | Guard::Rewriter(_) => {
                    self.flush_blank(out);
                    out.extend_from_slice(newline(line));
                }
            },
            b"\\connect" | b"\\c" if is_database(argument) => match &self.guard {
                Guard::Lifted => out.extend_from_slice(line),
                Guard::Rewriter(_) => {
                    let token = self.lift_guard(out);
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

    /// Turns the guard on, at the start of a line.
    pub(super) fn begin_guard(&mut self, out: &mut Vec<u8>) {
        if let Restriction::Psql(token) = &self.target.restriction {
            out.extend_from_slice(b"\\restrict ");
            out.extend_from_slice(token.as_bytes());
            out.extend_from_slice(b" \\\\ ");
            self.guard = Guard::Rewriter(token.clone().into_bytes());
        }
    }

    /// Passes on a blank line that was held back.
    pub(super) fn flush_blank(&mut self, out: &mut Vec<u8>) {
        if let Some(blank) = self.blank.take() {
            out.extend_from_slice(&blank);
        }
    }

    /// Lifts the guard for the beginning of the next line, and returns its token.
    ///
    /// psql takes the rest of the line as the argument of `\unrestrict` (since 15.20), so the command
    /// gets a line of its own: the blank line that pg_dump writes before such commands, or a new one.
    pub(super) fn lift_guard(&mut self, out: &mut Vec<u8>) -> Vec<u8> {
        let token = match &self.guard {
            Guard::Dump(token) | Guard::Rewriter(token) => token.clone(),
            Guard::Lifted => Vec::new(),
        };
        out.extend_from_slice(&[b"\\unrestrict ", token.as_slice()].concat());
        out.extend_from_slice(&self.blank.take().unwrap_or_else(|| b"\n".to_vec()));
        token
    }
}
