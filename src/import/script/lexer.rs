//! Where in an SQL script a line stands: in code, in a literal, in a comment, in COPY's data.
//!
//! It knows exactly what psql's own scanner knows about quoting, and nothing of grammar beyond a
//! statement's first word, so that text inside a function's body or a row is never taken for a
//! statement.

use memchr::{memchr, memchr2, memmem};

/// What a scanner is inside of.
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

/// What a statement's first word makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Copy,
    Other,
}

/// What a line ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// More of the script.
    Script,
    /// The rows of a `COPY … FROM stdin`.
    CopyData,
}

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// What follows it.
    pub(super) end: LineEnd,
    /// It has a backslash outside all quotes: a command to psql.
    pub(super) meta_command: bool,
    /// It has more than white space and comments.
    pub(super) code: bool,
}

/// The scanner. It is fed whole lines, and holds no text but a dollar quote's tag.
#[derive(Debug)]
pub(super) struct Lexer {
    mode: Mode,
    /// The statement's first word, once it was met.
    verb: Option<Verb>,
    /// Parentheses that are open in this statement.
    depth: u32,
    /// The last word was `FROM`, outside parentheses.
    after_from: bool,
    /// The statement is a `COPY … FROM stdin`.
    from_stdin: bool,
    /// The script opened a transaction of its own.
    in_transaction: bool,
    /// `standard_conforming_strings` is off.
    backslash_literals: bool,
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
        }
    }

    /// Whether the next byte begins a statement (or white space, or a comment before one).
    pub(super) fn at_statement_start(&self) -> bool {
        self.mode == Mode::Code && self.verb.is_none()
    }

    /// Whether the script opened a transaction of its own.
    pub(super) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Says what `standard_conforming_strings` was set to.
    pub(super) fn set_backslash_literals(&mut self, backslash_literals: bool) {
        self.backslash_literals = backslash_literals;
    }

    /// Moves over one line, which may end in a line feed.
    pub(super) fn scan(&mut self, line: &[u8]) -> Line {
        let mut result = Line {
            end: LineEnd::Script,
            meta_command: false,
            code: false,
        };
        let mut rest = line;
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

    /// Moves over one token of code.
    fn code<'a>(&mut self, line: &'a [u8], rest: &'a [u8], result: &mut Line) -> &'a [u8] {
        let byte = rest[0];
        let next = rest.get(1).copied();
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b'\x0b' | b'\x0c' => return &rest[1..],
            b'-' if next == Some(b'-') => {
                // A comment ends with its line.
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
                // The rest of the line is psql's, not SQL.
                result.meta_command = true;
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
                // `a$1` is a word and never comes here, but `1$a$` could.
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

/// Moves over a comment's text; `None` when the line ended inside it.
fn comment<'a>(rest: &'a [u8], depth: &mut u32) -> Option<&'a [u8]> {
    let mut rest = rest;
    while let Some(at) = memchr2(b'/', b'*', rest) {
        let pair = (rest[at], rest.get(at + 1).copied());
        match pair {
            (b'/', Some(b'*')) => {
                *depth = depth.saturating_add(1);
                rest = &rest[at + 2..];
            }
            (b'*', Some(b'/')) => {
                *depth -= 1;
                rest = &rest[at + 2..];
                if *depth == 0 {
                    return Some(rest);
                }
            }
            _ => rest = &rest[at + 1..],
        }
    }
    None
}

/// `$$` or `$tag$` at the start of `text`.
fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let end = memchr(b'$', &text[1..])? + 1;
    let tag = &text[1..end];
    let valid = match tag.first() {
        None => true,
        Some(first) => is_word_start(*first) && tag.iter().all(|b| is_word(*b)),
    };
    valid.then(|| &text[..=end])
}

pub(super) fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

pub(super) fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans the lines and says, for each, whether the next one begins a statement.
    fn starts(script: &str) -> Vec<bool> {
        let mut lexer = Lexer::new();
        script
            .split_inclusive('\n')
            .map(|line| {
                lexer.scan(line.as_bytes());
                lexer.at_statement_start()
            })
            .collect()
    }

    #[test]
    fn a_statement_ends_at_its_semicolon() {
        assert_eq!(starts("select 1\n;\n-- x\n\n"), [false, true, true, true]);
        assert_eq!(starts("select ';\n';\n"), [false, true]);
        assert_eq!(starts("select \";\n\";\n"), [false, true]);
        assert_eq!(starts("select 'a''b;\n';\n"), [false, true]);
    }

    #[test]
    fn escapes_count_only_where_they_are_escapes() {
        assert_eq!(starts("select '\\';\n"), [true]);
        assert_eq!(starts("select E'\\';\n';\n"), [false, true]);
        assert_eq!(starts("select E'it''s\\\\';\n"), [true]);
        assert_eq!(starts("select E'a\\\n';\n"), [false, true]);
        let mut lexer = Lexer::new();
        lexer.set_backslash_literals(true);
        lexer.scan(b"select '\\';\n");
        assert!(!lexer.at_statement_start());
    }

    #[test]
    fn dollar_quotes_need_their_own_tag() {
        assert_eq!(starts("select $$;\n$a$;\n$$;\n"), [false, false, true]);
        assert_eq!(starts("select $a$;\n$$;\n$a$;\n"), [false, false, true]);
        assert_eq!(starts("select a$b$;\n"), [true], "a name may hold dollars");
        assert_eq!(starts("select $1;\n"), [true], "a parameter is no quote");
    }

    #[test]
    fn comments_nest() {
        assert_eq!(starts("/* ; /* */ ' \n */ select 1;\n"), [false, true]);
        assert_eq!(starts("select 1 -- ';\n;\n"), [false, true]);
    }

    #[test]
    fn copy_from_stdin_is_followed_by_data() {
        let end = |text: &str| Lexer::new().scan(text.as_bytes()).end;
        assert_eq!(end("COPY a.b (c) FROM stdin;\n"), LineEnd::CopyData);
        assert_eq!(
            end("copy a from STDIN with (format csv);\n"),
            LineEnd::CopyData
        );
        assert_eq!(end("COPY a TO stdout;\n"), LineEnd::Script);
        assert_eq!(end("COPY a FROM 'stdin';\n"), LineEnd::Script);
        assert_eq!(end("select 'COPY a FROM stdin;'\n"), LineEnd::Script);
        assert_eq!(end("COPY (select 1 FROM stdin) TO 'x';\n"), LineEnd::Script);
        let mut lexer = Lexer::new();
        lexer.scan(b"COPY \"a\n");
        assert_eq!(lexer.scan(b"b\" FROM stdin;\n").end, LineEnd::CopyData);
    }

    #[test]
    fn commands_to_psql_are_seen_only_outside_quotes() {
        let meta = |text: &str| Lexer::new().scan(text.as_bytes()).meta_command;
        assert!(meta("\\! id\n"));
        assert!(meta("select 1 \\gexec\n"));
        assert!(!meta("select '\\!' -- \\!\n"));
    }
}
