//! The splitter of a script: it tells statements, psql commands, comments and rows apart, as psql does, and expands
//! the variables that the script has set.
//!
//! It takes the script in pieces of any size, and follows psql's own scanner in quoting and in the bodies of
//! functions. So text in a function or in a row is never taken for a statement.

mod expansion;
mod literal;

use std::path::{Path, PathBuf};

use memchr::{memchr, memchr_iter, memchr2};

use self::expansion::Expansion;
use self::literal::{Gap, literal};
use super::keywords::{Words, is_word, is_word_start};
use super::rows::Position;
use super::statement_text::StatementText;
use super::variables::{Form, Variables};
use super::{COMMENT_BYTES_MAX, ScriptError, TOKEN_BYTES_MAX};

/// A part of a script.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::import) enum Piece<'a> {
    /// A comment up to the end of its line, outside of statements.
    Comment(Vec<u8>),
    /// A psql command, with its backslash, and its line.
    Command(Vec<u8>, u64),
    /// A statement, with its semicolon.
    Statement(StatementText),
    /// Some rows of the `COPY … FROM stdin` before.
    Rows(&'a [u8]),
    /// Some rows that were held back.
    HeldRows(Vec<u8>),
    /// The end of the rows.
    EndOfRows,
}

/// The lexical state of the splitter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// Statements, or between them.
    Code,
    /// A word, or a number, which ends before the next byte that is no part of one.
    Word(Vec<u8>),
    /// After `-`, which may begin a comment.
    Dash,
    /// After `/`, which may begin a comment.
    Slash,
    /// `-- …`, with its text if it is outside of statements.
    LineComment(Vec<u8>),
    /// `/* … */`, which nests; with the last byte, if it may be half of a mark.
    BlockComment(u32, u8),
    /// `'…'`, or `E'…'`, in which a backslash escapes the next byte.
    Literal { escapes: bool, escaped: bool },
    /// After the quote at the end of a literal, with its `escapes`: it may go on.
    AfterLiteral(bool, Gap),
    /// After `U&`, which may begin a literal without escapes, or an identifier.
    UnicodePrefix,
    /// After `:`, which may begin the name of a variable.
    Colon,
    /// After `:{`.
    ColonBrace,
    /// The name of a variable so far.
    Variable(Form, Vec<u8>),
    /// `"…"`.
    Identifier,
    /// `$tag` so far, in code.
    Tag(Vec<u8>),
    /// `$tag$ … $tag$`, with the tag, and how much of it the last bytes are.
    Dollar(Vec<u8>, usize),
    /// A psql command.
    Command(Vec<u8>),
    /// The name of one within a statement, which would end it, and send it where the command says.
    CommandInStatement(Vec<u8>),
}

/// The splitter.
#[derive(Debug)]
pub(in crate::import) struct Splitter {
    directory: PathBuf,
    mode: Mode,
    words: Words,
    /// The statement so far, from its first byte of code on.
    statement: Option<StatementText>,
    pub(super) position: Position,
    /// Bytes of rows that may begin the mark of their end.
    pub(super) held: Vec<u8>,
    /// The number of line feeds before the next byte.
    pub(super) line_feeds: u64,
    /// `standard_conforming_strings` is off.
    backslash_literals: bool,
    /// The variables that the script has set.
    pub(in crate::import) variables: Variables,
    /// The name of a variable and its value, which is read before the script goes on.
    expanded: Option<(Vec<u8>, Vec<u8>)>,
    /// Such a value is being read.
    in_expansion: bool,
    /// pg_dump's first comment has come, its last one has not.
    dump_open: bool,
    /// The same of pg_dumpall.
    cluster_dump_open: bool,
}

impl Splitter {
    /// Long statements are kept in files of this directory.
    pub(in crate::import) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            mode: Mode::Code,
            words: Words::default(),
            statement: None,
            position: Position::Script,
            held: Vec::new(),
            line_feeds: 0,
            backslash_literals: false,
            variables: Variables::default(),
            expanded: None,
            in_expansion: false,
            dump_open: false,
            cluster_dump_open: false,
        }
    }

    /// The line of the next byte, counted from 1.
    pub(in crate::import) fn line(&self) -> u64 {
        self.line_feeds + 1
    }

    /// Whether rows follow.
    pub(in crate::import) fn in_rows(&self) -> bool {
        self.position != Position::Script
    }

    /// Whether this is in a dump of pg_dump alone, and so of one database.
    pub(in crate::import) fn in_dump_of_one_database(&self) -> bool {
        self.dump_open && !self.cluster_dump_open
    }

    /// Sets whether a backslash escapes in `'…'`: `standard_conforming_strings` is off.
    pub(in crate::import) fn set_backslash_literals(&mut self, backslash_literals: bool) {
        self.backslash_literals = backslash_literals;
    }

    /// Takes the next part off the input. `None` once the input is used up.
    pub(in crate::import) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, ScriptError> {
        loop {
            if let Some(piece) = self.next_of_expansion()? {
                return Ok(Some(piece));
            }
            let next = self.scan(input)?;
            if next.is_some() || self.expanded.is_none() {
                return Ok(next);
            }
        }
    }

    /// Takes the next part off these bytes. `None` once they are used up, or a variable is expanded in them.
    fn scan<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, ScriptError> {
        let bytes = *input;
        let mut at = 0;
        // Where the bytes begin that belong to the statement and are not in it yet.
        let mut begin = 0;
        while at < bytes.len() {
            if self.position == Position::AfterCopy {
                let found = memchr(b'\n', &bytes[at..]);
                at += found.map_or(bytes.len() - at, |feed| feed + 1);
                if found.is_some() {
                    self.line_feeds += 1;
                    self.position = Position::RowStart;
                }
                continue;
            }
            if self.in_rows() {
                *input = &bytes[at..];
                return Ok(self.rows(input));
            }
            let skipped = self.skip(&bytes[at..]);
            if skipped > 0 {
                self.line_feeds += memchr_iter(b'\n', &bytes[at..at + skipped]).count() as u64;
                at += skipped;
                continue;
            }
            let byte = bytes[at];
            let was_outside = self.statement.is_none();
            let step = self.step(byte)?;
            if was_outside && self.statement.is_some() {
                begin = at;
            }
            if let Step::Expand(expansion) = step {
                at += usize::from(expansion.takes_byte);
                let is_code = expansion.is_code;
                self.expand(&bytes[begin..at], expansion)?;
                begin = at;
                if is_code {
                    *input = &bytes[at..];
                    return Ok(None);
                }
                continue;
            }
            if step == Step::Again {
                continue;
            }
            at += 1;
            self.line_feeds += u64::from(byte == b'\n');
            let piece = match step {
                Step::Again | Step::Next | Step::Expand(_) => continue,
                Step::EndOfStatement => self.end_statement(&bytes[begin..at])?,
                Step::EndOfLine(piece) => piece,
            };
            *input = &bytes[at..];
            return Ok(Some(piece));
        }
        if let Some(statement) = &mut self.statement {
            statement.push(&bytes[begin..], &self.directory)?;
        }
        *input = &[];
        Ok(None)
    }

    fn end_statement(&mut self, rest: &[u8]) -> Result<Piece<'static>, ScriptError> {
        let mut statement = self.statement.take().unwrap_or_default();
        statement.push(rest, &self.directory)?;
        if std::mem::take(&mut self.words).is_copy_from_stdin() {
            self.position = Position::AfterCopy;
        }
        Ok(Piece::Statement(statement))
    }

    /// How many of these bytes change nothing.
    fn skip(&self, bytes: &[u8]) -> usize {
        let found = match &self.mode {
            Mode::Literal { escapes: false, .. } => memchr(b'\'', bytes),
            Mode::Literal { escaped: true, .. } => return 0,
            Mode::Literal { .. } => memchr2(b'\'', b'\\', bytes),
            Mode::Identifier => memchr(b'"', bytes),
            Mode::BlockComment(_, 0) => memchr2(b'*', b'/', bytes),
            Mode::Dollar(_, 0) => memchr(b'$', bytes),
            Mode::LineComment(_) if self.statement.is_some() => memchr(b'\n', bytes),
            _ => return 0,
        };
        found.unwrap_or(bytes.len())
    }

    fn step(&mut self, byte: u8) -> Result<Step, ScriptError> {
        let mode = std::mem::replace(&mut self.mode, Mode::Code);
        let (mode, step) = match mode {
            Mode::Code => return self.code(byte),
            Mode::Word(word) => self.word(word, byte),
            Mode::Dash | Mode::Slash => self.may_be_comment(&mode, byte),
            Mode::LineComment(text) => self.line_comment(text, byte),
            Mode::BlockComment(depth, last) => (block_comment(depth, last, byte), Step::Next),
            Mode::Literal { escapes, escaped } => (literal(escapes, escaped, byte), Step::Next),
            Mode::AfterLiteral(escapes, gap) => self.after_literal(escapes, gap, byte),
            Mode::UnicodePrefix => self.unicode(byte),
            Mode::Colon => self.colon(byte),
            Mode::ColonBrace => self.colon_brace(byte),
            Mode::Variable(form, name) => self.variable(form, name, byte)?,
            Mode::CommandInStatement(text) => return self.command_in_statement(text, byte),
            Mode::Identifier if byte == b'"' => (Mode::Code, Step::Next),
            Mode::Identifier => (Mode::Identifier, Step::Next),
            Mode::Tag(tag) => self.tag(tag, byte)?,
            Mode::Dollar(tag, matched) => (dollar(tag, matched, byte), Step::Next),
            Mode::Command(text) => self.command(text, byte)?,
        };
        self.mode = mode;
        Ok(step)
    }

    fn word(&mut self, mut word: Vec<u8>, byte: u8) -> (Mode, Step) {
        if is_word(byte) {
            if word.len() < TOKEN_BYTES_MAX {
                word.push(byte);
            }
            return (Mode::Word(word), Step::Next);
        }
        self.words.word(&word);
        let mode = match (byte, word.as_slice()) {
            (b'\'', b"E" | b"e") => literal(true, false, 0),
            // Bits, in which nothing is escaped.
            (b'\'', b"B" | b"b" | b"X" | b"x") => literal(false, false, 0),
            (b'&', b"U" | b"u") => Mode::UnicodePrefix,
            _ => return (Mode::Code, Step::Again),
        };
        (mode, Step::Next)
    }

    /// After a dash or a slash. A comment that it begins is of no statement, if nothing has come before.
    fn may_be_comment(&mut self, mode: &Mode, byte: u8) -> (Mode, Step) {
        let comment = match (mode, byte) {
            (Mode::Dash, b'-') => Mode::LineComment(b"--".to_vec()),
            (Mode::Slash, b'*') => Mode::BlockComment(1, 0),
            _ => {
                self.words.symbol(b'-');
                return (Mode::Code, Step::Again);
            }
        };
        if self.words.is_empty() {
            self.statement = None;
        }
        (comment, Step::Next)
    }

    fn command(&mut self, mut text: Vec<u8>, byte: u8) -> Result<(Mode, Step), ScriptError> {
        if byte == b'\n' {
            let command = Piece::Command(text, self.line());
            return Ok((Mode::Code, Step::EndOfLine(command)));
        }
        if text.len() >= TOKEN_BYTES_MAX {
            return Err(self.token_too_long());
        }
        text.push(byte);
        Ok((Mode::Command(text), Step::Next))
    }

    /// A byte of code, or between statements.
    fn code(&mut self, byte: u8) -> Result<Step, ScriptError> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'\x0b' | b'\x0c') {
            return Ok(Step::Next);
        }
        if byte == b'\\' {
            if self.statement.is_some() {
                self.mode = Mode::CommandInStatement(vec![byte]);
                return Ok(Step::Next);
            }
            self.mode = Mode::Command(vec![byte]);
            return Ok(Step::Next);
        }
        if self.statement.is_none() {
            if byte == b';' {
                // An empty statement.
                return Ok(Step::Next);
            }
            self.statement = Some(StatementText::at(self.line()));
        }
        match byte {
            b'-' => self.mode = Mode::Dash,
            b'/' => self.mode = Mode::Slash,
            _ if is_word_start(byte) || byte.is_ascii_digit() => {
                self.mode = Mode::Word(vec![byte]);
                return Ok(Step::Next);
            }
            b'\'' => {
                self.mode = Mode::Literal {
                    escapes: self.backslash_literals,
                    escaped: false,
                }
            }
            b'"' => self.mode = Mode::Identifier,
            b':' => {
                self.mode = Mode::Colon;
                return Ok(Step::Next);
            }
            b'$' => self.mode = Mode::Tag(vec![byte]),
            b';' if self.words.is_end() => return Ok(Step::EndOfStatement),
            _ => {}
        }
        if !matches!(byte, b'-' | b'/') {
            self.words.symbol(byte);
        }
        Ok(Step::Next)
    }

    fn tag(&self, mut tag: Vec<u8>, byte: u8) -> Result<(Mode, Step), ScriptError> {
        if byte == b'$' {
            tag.push(byte);
            return Ok((Mode::Dollar(tag, 0), Step::Next));
        }
        let may_follow = match tag.len() {
            1 => is_word_start(byte),
            _ => is_word(byte),
        };
        if !may_follow {
            return Ok((Mode::Code, Step::Again));
        }
        if tag.len() >= TOKEN_BYTES_MAX {
            return Err(self.token_too_long());
        }
        tag.push(byte);
        Ok((Mode::Tag(tag), Step::Next))
    }

    fn line_comment(&mut self, mut text: Vec<u8>, byte: u8) -> (Mode, Step) {
        if byte != b'\n' {
            if self.statement.is_none() && text.len() < COMMENT_BYTES_MAX {
                text.push(byte);
            }
            return (Mode::LineComment(text), Step::Next);
        }
        if self.statement.is_some() {
            return (Mode::Code, Step::Next);
        }
        let text = text.trim_ascii_end().to_vec();
        self.note_comment(&text);
        (Mode::Code, Step::EndOfLine(Piece::Comment(text)))
    }

    /// Reads the comments at the beginning and at the end of a dump.
    fn note_comment(&mut self, text: &[u8]) {
        match text {
            b"-- PostgreSQL database dump" => self.dump_open = true,
            b"-- PostgreSQL database dump complete" => self.dump_open = false,
            b"-- PostgreSQL database cluster dump" => self.cluster_dump_open = true,
            b"-- PostgreSQL database cluster dump complete" => self.cluster_dump_open = false,
            _ => {}
        }
    }

    /// Ends the script, if the dump is complete. Its last line may have no line feed.
    pub(in crate::import) fn finish(&mut self) -> Result<Option<Piece<'static>>, ScriptError> {
        let mut last = None;
        let held = std::mem::take(&mut self.held);
        if self.position == Position::RowStart && matches!(held.as_slice(), b"\\." | b"\\.\r") {
            self.position = Position::Script;
            last = Some(Piece::EndOfRows);
        }
        match &self.mode {
            Mode::LineComment(_) | Mode::Command(_) | Mode::CommandInStatement(_) => {
                if let Step::EndOfLine(piece) = self.step(b'\n')? {
                    last = Some(piece);
                }
            }
            _ => {}
        }
        let missing = if self.in_rows() {
            "it ends within a table's rows"
        } else if self.statement.is_some() || self.mode != Mode::Code {
            "it ends within a statement"
        } else if self.dump_open {
            "its last line, \"PostgreSQL database dump complete\", is missing"
        } else if self.cluster_dump_open {
            "its last line, \"PostgreSQL database cluster dump complete\", is missing"
        } else {
            return Ok(last);
        };
        Err(ScriptError::Truncated { missing })
    }

    fn token_too_long(&self) -> ScriptError {
        ScriptError::TokenTooLong {
            line: self.line(),
            bytes_max: TOKEN_BYTES_MAX,
        }
    }
}

fn block_comment(depth: u32, last: u8, byte: u8) -> Mode {
    match (last, byte) {
        (b'/', b'*') => Mode::BlockComment(depth.saturating_add(1), 0),
        (b'*', b'/') if depth == 1 => Mode::Code,
        (b'*', b'/') => Mode::BlockComment(depth - 1, 0),
        (_, b'*' | b'/') => Mode::BlockComment(depth, byte),
        _ => Mode::BlockComment(depth, 0),
    }
}

fn dollar(tag: Vec<u8>, matched: usize, byte: u8) -> Mode {
    let matched = match byte {
        byte if tag.get(matched) == Some(&byte) => matched + 1,
        b'$' => 1,
        _ => 0,
    };
    if matched == tag.len() {
        return Mode::Code;
    }
    Mode::Dollar(tag, matched)
}

/// The next step after a byte.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The same byte is looked at again, in another mode.
    Again,
    /// The next byte.
    Next,
    /// The statement ends with this byte.
    EndOfStatement,
    /// A line ends that is no statement.
    EndOfLine(Piece<'static>),
    /// A variable is expanded.
    Expand(Expansion),
}
