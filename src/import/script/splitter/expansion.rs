//! The expansion of psql's variables, and the commands of psql within statements.

use super::{Mode, Piece, Splitter, Step};
use crate::import::script::variables::{Form, is_of_name};
use crate::import::script::{ScriptError, TOKEN_BYTES_MAX};

/// A variable that is to be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expansion {
    name: Vec<u8>,
    /// The bytes of its mention.
    mention: usize,
    text: Vec<u8>,
    /// The text is code, and not a literal or an identifier.
    pub(super) is_code: bool,
    /// The byte that was looked at is part of the mention.
    pub(super) takes_byte: bool,
}

impl Splitter {
    /// After a colon in code.
    pub(super) fn colon(&mut self, byte: u8) -> (Mode, Step) {
        if let Some(form) = Form::of_quote(byte) {
            return (Mode::Variable(form, Vec::new()), Step::Next);
        }
        if is_of_name(byte) {
            return (Mode::Variable(Form::Plain, vec![byte]), Step::Next);
        }
        if byte == b'{' {
            return (Mode::ColonBrace, Step::Next);
        }
        self.words.symbol(b':');
        match byte {
            // A cast, or an argument's name.
            b':' | b'=' => (Mode::Code, Step::Next),
            _ => (Mode::Code, Step::Again),
        }
    }

    /// After a colon and a brace in code.
    pub(super) fn colon_brace(&mut self, byte: u8) -> (Mode, Step) {
        if byte == b'?' {
            return (Mode::Variable(Form::Test, Vec::new()), Step::Next);
        }
        self.words.symbol(b':');
        (Mode::Code, Step::Again)
    }

    pub(super) fn variable(
        &mut self,
        form: Form,
        mut name: Vec<u8>,
        byte: u8,
    ) -> Result<(Mode, Step), ScriptError> {
        if is_of_name(byte) && name.len() < TOKEN_BYTES_MAX {
            name.push(byte);
            return Ok((Mode::Variable(form, name), Step::Next));
        }
        let end = form.end();
        let is_closed = end.is_none_or(|end| end == byte);
        if is_closed && self.variables.is_unknown(&name) {
            return Err(ScriptError::Variable {
                line: self.line(),
                name: String::from_utf8_lossy(&name).into_owned(),
                problem: "it is one of psql's own",
            });
        }
        let text = self.variables.text(&name, form).filter(|_| is_closed);
        let Some(text) = text else {
            // No variable: a colon, and then a literal, an identifier or a word.
            self.words.symbol(b':');
            let mode = match form {
                Form::Plain | Form::Test => {
                    self.words.word(&name);
                    Mode::Code
                }
                Form::Literal => Mode::Literal {
                    escapes: self.backslash_literals,
                    escaped: false,
                },
                Form::Identifier => Mode::Identifier,
            };
            return Ok((mode, Step::Again));
        };
        if self.in_expansion {
            return Err(ScriptError::Variable {
                line: self.line(),
                name: String::from_utf8_lossy(&name).into_owned(),
                problem: "it is in the value of another one",
            });
        }
        let expansion = Expansion {
            mention: name.len() + form.bytes_around(),
            name,
            text,
            is_code: form == Form::Plain,
            takes_byte: end.is_some(),
        };
        Ok((Mode::Code, Step::Expand(expansion)))
    }

    /// Puts the text in the place of the mention, with which the statement ends. `rest` is not in the statement yet.
    pub(super) fn expand(&mut self, rest: &[u8], expansion: Expansion) -> Result<(), ScriptError> {
        let statement = self.statement.get_or_insert_default();
        statement.push(rest, &self.directory)?;
        statement.cut(expansion.mention)?;
        if !expansion.is_code {
            self.words.symbol(b'\'');
            return statement.push(&expansion.text, &self.directory);
        }
        if self.words.is_empty() && statement.head.is_empty() {
            self.statement = None;
        }
        self.expanded = Some((expansion.name, expansion.text));
        Ok(())
    }

    /// Takes the next part off the value of a variable, which counts no lines.
    pub(super) fn next_of_expansion(&mut self) -> Result<Option<Piece<'static>>, ScriptError> {
        let Some((name, text)) = self.expanded.take() else {
            return Ok(None);
        };
        let line_feeds = self.line_feeds;
        self.in_expansion = true;
        let mut rest = &text[..];
        let piece = self.scan(&mut rest)?;
        if piece.is_none() {
            self.end_tokens()?;
        }
        self.in_expansion = false;
        self.line_feeds = line_feeds;
        let piece = match piece {
            None => return Ok(None),
            Some(Piece::Statement(statement))
                if !self.in_rows() || rest.trim_ascii().is_empty() =>
            {
                Piece::Statement(statement)
            }
            Some(Piece::Comment(text)) => Piece::Comment(text),
            Some(Piece::Command(..))
            | Some(Piece::Statement(_))
            | Some(Piece::Rows(_))
            | Some(Piece::HeldRows(_))
            | Some(Piece::EndOfRows) => {
                return Err(ScriptError::Variable {
                    line: self.line(),
                    name: String::from_utf8_lossy(&name).into_owned(),
                    problem: "its value has more than statements",
                });
            }
        };
        if !rest.trim_ascii().is_empty() {
            self.expanded = Some((name, rest.to_vec()));
        }
        Ok(Some(piece))
    }

    /// Ends words and mentions of variables, which do not go on after the value of a variable.
    fn end_tokens(&mut self) -> Result<(), ScriptError> {
        self.mode = match std::mem::replace(&mut self.mode, Mode::Code) {
            Mode::Word(word) => {
                self.words.word(&word);
                Mode::Code
            }
            Mode::Colon | Mode::ColonBrace => {
                self.words.symbol(b':');
                Mode::Code
            }
            Mode::Variable(form, name) => self.variable(form, name, b' ')?.0,
            mode => mode,
        };
        Ok(())
    }

    pub(super) fn command_in_statement(
        &mut self,
        mut text: Vec<u8>,
        byte: u8,
    ) -> Result<Step, ScriptError> {
        if byte.is_ascii_alphanumeric() && text.len() < TOKEN_BYTES_MAX {
            text.push(byte);
            self.mode = Mode::CommandInStatement(text);
            return Ok(Step::Next);
        }
        if text.len() == 1 && byte.is_ascii_graphic() {
            text.push(byte);
        }
        Err(ScriptError::MetaCommand {
            line: self.line(),
            command: String::from_utf8_lossy(&text).into_owned(),
        })
    }
}
