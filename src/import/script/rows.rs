//! The rows of `COPY … FROM stdin`, which are passed on as they are.

use memchr::{memchr_iter, memmem};

use super::splitter::{Piece, Splitter};

/// The position of the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Script,
    /// Behind the semicolon of a COPY, on its line.
    AfterCopy,
    /// In a table's rows, at the start of a line.
    RowStart,
    /// In a table's rows, inside a line.
    Row,
}

/// The marks of the end, each on a line of its own.
const END_MARKS: [&[u8]; 2] = [b"\\.\n", b"\\.\r\n"];

impl Splitter {
    /// Takes rows off the input, or their end. `None` once the input is used up.
    pub(super) fn rows<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        if !self.held.is_empty() {
            return self.rows_after_held(input);
        }
        let bytes = *input;
        let mut at = 0;
        loop {
            if self.position == Position::RowStart {
                let rest = &bytes[at..];
                if let Some(mark) = END_MARKS.iter().find(|mark| rest.starts_with(mark)) {
                    return Some(self.pass_or_end(input, at, mark.len()));
                }
                if END_MARKS.iter().any(|mark| mark.starts_with(rest)) {
                    // Possibly the beginning of the mark: the next bytes decide.
                    self.held = rest.to_vec();
                    *input = &[];
                    return self.pass(&bytes[..at]);
                }
            }
            // The mark follows a line feed, so both are searched for at once.
            match memmem::find(&bytes[at..], b"\n\\") {
                Some(found) => {
                    at += found + 1;
                    self.position = Position::RowStart;
                }
                None => {
                    self.position = match bytes.ends_with(b"\n") {
                        true => Position::RowStart,
                        false => Position::Row,
                    };
                    *input = &[];
                    return self.pass(bytes);
                }
            }
            // Anything else than the mark is part of a row.
            let rest = &bytes[at..];
            let may_be_mark = END_MARKS
                .iter()
                .any(|mark| rest.starts_with(mark) || mark.starts_with(rest));
            if !may_be_mark {
                self.position = Position::Row;
            }
        }
    }

    /// Goes on where the bytes that are held may begin the mark.
    fn rows_after_held<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        while let Some((byte, rest)) = input.split_first() {
            self.held.push(*byte);
            *input = rest;
            if END_MARKS.contains(&self.held.as_slice()) {
                self.held.clear();
                self.line_feeds += 1;
                self.position = Position::Script;
                return Some(Piece::EndOfRows);
            }
            if !END_MARKS.iter().any(|mark| mark.starts_with(&self.held)) {
                let held = std::mem::take(&mut self.held);
                self.position = match held.ends_with(b"\n") {
                    true => Position::RowStart,
                    false => Position::Row,
                };
                self.line_feeds += memchr_iter(b'\n', &held).count() as u64;
                return Some(Piece::HeldRows(held));
            }
        }
        None
    }

    fn pass_or_end<'a>(&mut self, input: &mut &'a [u8], at: usize, mark: usize) -> Piece<'a> {
        let bytes = *input;
        if at > 0 {
            *input = &bytes[at..];
            self.line_feeds += memchr_iter(b'\n', &bytes[..at]).count() as u64;
            return Piece::Rows(&bytes[..at]);
        }
        *input = &bytes[mark..];
        self.line_feeds += 1;
        self.position = Position::Script;
        Piece::EndOfRows
    }

    fn pass<'a>(&mut self, rows: &'a [u8]) -> Option<Piece<'a>> {
        self.line_feeds += memchr_iter(b'\n', rows).count() as u64;
        (!rows.is_empty()).then_some(Piece::Rows(rows))
    }
}
