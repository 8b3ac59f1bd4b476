//! The lexer of SQL scripts: it tells code from literals, comments and COPY data.
//!
//! It follows psql's own scanner in quoting, and knows no grammar beyond the first word of a
//! statement. So text in the body of a function or in a row is never taken for a statement.

mod part;
mod scan;

use memchr::{memchr, memchr2, memmem};

use self::scan::{comment, dollar_tag};
pub(super) use self::scan::{is_word, is_word_start};

/// The construct that the lexer is in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// Statements.
    Code,
    /// `'…'`; with backslash escapes or without.
    Literal(Escapes),
    /// `"…"`.
    Identifier,
    /// `$tag$…$tag$`, with the tag and its dollars.
    Dollar(Vec<u8>),
    /// `/* … */`, which nests.
    Comment(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Backslash,
    None,
}

/// The kind of a statement, by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Copy,
    Other,
}

/// The kind of the line after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// More of the script.
    Script,
    /// The rows of a `COPY … FROM stdin`.
    CopyData,
}

/// The properties of a scanned line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// The kind of the line after it.
    pub(super) end: LineEnd,
    /// It has a backslash outside of quotes, which begins a psql command.
    pub(super) meta_command: bool,
    /// It has more than whitespace and comments.
    pub(super) code: bool,
}

/// The lexer. It takes complete lines, and keeps no text but the tag of a dollar quote.
#[derive(Debug)]
pub(super) struct Lexer {
    mode: Mode,
    /// The first word of the statement, once it has come.
    verb: Option<Verb>,
    /// The open parentheses in this statement.
    depth: u32,
    /// The last word was `FROM`, outside parentheses.
    after_from: bool,
    /// The statement is a `COPY … FROM stdin`.
    from_stdin: bool,
    /// The script has begun a transaction.
    in_transaction: bool,
    /// `standard_conforming_strings` is off.
    backslash_literals: bool,
    /// The rest of the line is a comment, or the arguments of a psql command.
    rest_is_skipped: bool,
}

impl Lexer {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Code,
            verb: None,
            depth: 0,
            after_from: false,
            from_stdin: false,
            in_transaction: false,
            backslash_literals: false,
            rest_is_skipped: false,
        }
    }

    /// Whether the next byte begins a statement, or whitespace or a comment before one.
    pub(super) fn at_statement_start(&self) -> bool {
        self.mode == Mode::Code && self.verb.is_none()
    }

    /// Whether the script has begun a transaction.
    pub(super) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Sets whether `standard_conforming_strings` is off.
    pub(super) fn set_backslash_literals(&mut self, backslash_literals: bool) {
        self.backslash_literals = backslash_literals;
    }

    /// Scans a line, which may end with a line feed.
    pub(super) fn scan(&mut self, line: &[u8]) -> Line {
        let mut result = Line {
            end: LineEnd::Script,
            meta_command: false,
            code: false,
        };
        // Of a line whose beginning was scanned as parts.
        let mut rest = match std::mem::take(&mut self.rest_is_skipped) {
            true => &[],
            false => line,
        };
        while !rest.is_empty() {
            rest = match &mut self.mode {
                Mode::Literal(escapes) => {
                    let escapes = *escapes;
                    self.literal(rest, escapes)
                }
                Mode::Identifier => self.until(rest, b'"'),
                Mode::Dollar(tag) => match memmem::find(rest, tag) {
                    Some(at) => {
                        let after = at + tag.len();
                        self.mode = Mode::Code;
                        &rest[after..]
                    }
                    None => &[],
                },
                Mode::Comment(depth) => match comment(rest, depth) {
                    Some(after) => {
                        self.mode = Mode::Code;
                        after
                    }
                    None => &[],
                },
                Mode::Code => self.code(line, rest, &mut result),
            };
        }
        self.rest_is_skipped = false;
        result
    }

    fn until<'a>(&mut self, rest: &'a [u8], quote: u8) -> &'a [u8] {
        match memchr(quote, rest) {
            Some(at) => {
                self.mode = Mode::Code;
                &rest[at + 1..]
            }
            None => &[],
        }
    }

    /// A doubled quote ends one literal and begins the next, with the same rules.
    fn literal<'a>(&mut self, rest: &'a [u8], escapes: Escapes) -> &'a [u8] {
        if escapes == Escapes::None {
            return self.until(rest, b'\'');
        }
        let mut rest = rest;
        while let Some(at) = memchr2(b'\'', b'\\', rest) {
            if rest[at] == b'\\' {
                rest = rest.get(at + 2..).unwrap_or_default();
            } else if rest.get(at + 1) == Some(&b'\'') {
                rest = &rest[at + 2..];
            } else {
                self.mode = Mode::Code;
                return &rest[at + 1..];
            }
        }
        &[]
    }

    /// Skips a token of code.
    fn code<'a>(&mut self, line: &'a [u8], rest: &'a [u8], result: &mut Line) -> &'a [u8] {
        let byte = rest[0];
        let next = rest.get(1).copied();
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b'\x0b' | b'\x0c' => return &rest[1..],
            b'-' if next == Some(b'-') => {
                // The comment ends with the line.
                self.rest_is_skipped = true;
                return &[];
            }
            b'/' if next == Some(b'*') => {
                self.mode = Mode::Comment(1);
                return &rest[2..];
            }
            _ => result.code = true,
        }
        match byte {
            b'\\' => {
                // The rest of the line is a psql command.
                result.meta_command = true;
                self.rest_is_skipped = true;
                &[]
            }
            b';' => {
                if self.verb == Some(Verb::Copy) && self.from_stdin {
                    result.end = LineEnd::CopyData;
                }
                self.end_statement();
                &rest[1..]
            }
            _ if is_word_start(byte) => {
                let length = rest.iter().take_while(|b| is_word(**b)).count();
                let (word, after) = rest.split_at(length);
                self.word(word);
                if after.first() == Some(&b'\'') && (word == b"E" || word == b"e") {
                    self.mode = Mode::Literal(Escapes::Backslash);
                    return &after[1..];
                }
                after
            }
            _ => {
                self.verb.get_or_insert(Verb::Other);
                self.after_from = false;
                self.symbol(line, rest)
            }
        }
    }

    fn symbol<'a>(&mut self, line: &[u8], rest: &'a [u8]) -> &'a [u8] {
        match rest[0] {
            b'\'' if self.backslash_literals => self.mode = Mode::Literal(Escapes::Backslash),
            b'\'' => self.mode = Mode::Literal(Escapes::None),
            b'"' => self.mode = Mode::Identifier,
            b'(' => self.depth = self.depth.saturating_add(1),
            b')' => self.depth = self.depth.saturating_sub(1),
            b'$' => {
                // `1$a$` begins no quote. `a$1` is a word and does not come here.
                let at = line.len() - rest.len();
                let after_digit = at > 0 && line[at - 1].is_ascii_digit();
                if let (false, Some(tag)) = (after_digit, dollar_tag(rest)) {
                    self.mode = Mode::Dollar(tag.to_vec());
                    return &rest[tag.len()..];
                }
            }
            _ => {}
        }
        &rest[1..]
    }

    fn word(&mut self, word: &[u8]) {
        if self.verb.is_none() {
            let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
            self.verb = Some(if is("copy") { Verb::Copy } else { Verb::Other });
            if is("begin") || is("start") {
                self.in_transaction = true;
            } else if ["commit", "end", "rollback", "abort"].into_iter().any(is) {
                self.in_transaction = false;
            }
        }
        if self.verb == Some(Verb::Copy) && self.depth == 0 {
            if self.after_from && word.eq_ignore_ascii_case(b"stdin") {
                self.from_stdin = true;
            }
            self.after_from = word.eq_ignore_ascii_case(b"from");
        }
    }

    fn end_statement(&mut self) {
        self.verb = None;
        self.depth = 0;
        self.after_from = false;
        self.from_stdin = false;
    }
}

#[cfg(test)]
mod tests;
