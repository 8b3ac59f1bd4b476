//! Parts of a line that is too long to be kept: a value may have a gigabyte.

use memchr::{memchr2, memmem};

use super::scan::{comment, is_word};
use super::{Escapes, Lexer, Line, LineEnd, Mode};

/// A word, a tag or a psql command that is longer than the part of a line which is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::import::script) struct TooLong;

/// Whether this is `$tag` without the end of the tag.
fn is_begin_of_tag(text: &[u8]) -> bool {
    let tag = text.strip_prefix(b"$");
    tag.is_some_and(|tag| tag.iter().all(|byte| is_word(*byte) && *byte != b'$'))
}

impl Lexer {
    /// Scans the beginning of a line whose end has not come yet, and returns its properties and how many
    /// of its bytes were scanned. The rest, mostly `lookahead` bytes, must be scanned again with what follows
    /// it, since a token may go on there.
    pub(in crate::import::script) fn scan_part(
        &mut self,
        text: &[u8],
        lookahead: usize,
    ) -> Result<(Line, usize), TooLong> {
        let mut result = Line {
            end: LineEnd::Script,
            meta_command: false,
            code: false,
        };
        let limit = text.len().saturating_sub(lookahead);
        let mut at = 0;
        while at < limit || self.is_after_digit(text, at) {
            let rest = &text[at..];
            if self.rest_is_skipped {
                return Ok((result, text.len()));
            }
            let scanned = match &mut self.mode {
                Mode::Literal(Escapes::None) => self.until(rest, b'\'').len(),
                Mode::Identifier => self.until(rest, b'"').len(),
                Mode::Literal(Escapes::Backslash) => match self.escaped_part(rest) {
                    0 => return Ok((result, at)),
                    scanned => rest.len() - scanned,
                },
                Mode::Dollar(tag) => match memmem::find(rest, tag) {
                    Some(found) => {
                        let after = found + tag.len();
                        self.mode = Mode::Code;
                        rest.len() - after
                    }
                    // The tag may have begun at the end.
                    None if tag.len() <= rest.len() => {
                        return Ok((result, text.len() + 1 - tag.len()));
                    }
                    None => return Err(TooLong),
                },
                Mode::Comment(depth) => {
                    let kept = rest.iter().rev().take_while(|b| matches!(b, b'/' | b'*'));
                    let part = &rest[..rest.len() - kept.count()];
                    match comment(part, depth) {
                        Some(after) => {
                            let scanned = part.len() - after.len();
                            self.mode = Mode::Code;
                            rest.len() - scanned
                        }
                        None if part.is_empty() => return Err(TooLong),
                        None => return Ok((result, at + part.len())),
                    }
                }
                Mode::Code => {
                    if !self.is_after_digit(text, at) && is_begin_of_tag(rest) {
                        return Err(TooLong);
                    }
                    let left = self.code(text, rest, &mut result).len();
                    // A word, or a number before what may be a quote, that may go on.
                    if left == 0 && self.mode == Mode::Code && !self.rest_is_skipped {
                        return Err(TooLong);
                    }
                    left
                }
            };
            at = text.len() - scanned;
        }
        Ok((result, at))
    }

    /// A cut behind a digit would make a quote of `1$a$`.
    fn is_after_digit(&self, text: &[u8], at: usize) -> bool {
        let last = at.checked_sub(1).and_then(|last| text.get(last));
        self.mode == Mode::Code && at < text.len() && last.is_some_and(u8::is_ascii_digit)
    }

    /// The bytes of `E'...'` up to its end, or up to what the next byte decides.
    fn escaped_part(&mut self, rest: &[u8]) -> usize {
        let mut at = 0;
        while let Some(found) = memchr2(b'\'', b'\\', &rest[at..]) {
            let special = at + found;
            let Some(next) = rest.get(special + 1) else {
                return special;
            };
            if rest[special] == b'\\' || *next == b'\'' {
                at = special + 2;
            } else {
                self.mode = Mode::Code;
                return special + 1;
            }
        }
        rest.len()
    }
}
