//! The tokens of a statement.

use super::Name;
use crate::import::script::lexer::{is_word, is_word_start};

/// A token of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a [u8]),
    Quoted(Name),
    Literal(Name),
    Symbol(u8),
}

impl Token<'_> {
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    pub(super) fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    /// The token as a name.
    pub(super) fn name(&self) -> Option<Name> {
        match self {
            Self::Word(word) => Some(word.to_ascii_lowercase()),
            Self::Quoted(name) | Self::Literal(name) => Some(name.clone()),
            Self::Symbol(_) => None,
        }
    }

    /// The token as a role, unless that is a predefined one.
    pub(super) fn role(&self) -> Option<Name> {
        const PREDEFINED: [&str; 7] = [
            "public",
            "current_user",
            "current_role",
            "session_user",
            "none",
            "default",
            "all",
        ];
        if self.is_any(&PREDEFINED) {
            return None;
        }
        self.name().filter(|name| !name.starts_with(b"pg_"))
    }
}

/// The tokens of a line, up to a comment.
pub(super) fn tokens(line: &[u8]) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_ascii_start();
    while let Some(&byte) = rest.first() {
        let after = match byte {
            b'"' | b'\'' => {
                let (text, after) = quoted(rest, byte);
                tokens.push(match byte {
                    b'"' => Token::Quoted(text),
                    _ => Token::Literal(text),
                });
                after
            }
            b'-' if rest.get(1) == Some(&b'-') => break,
            _ if is_word_start(byte) => {
                let length = rest.iter().take_while(|b| is_word(**b)).count();
                tokens.push(Token::Word(&rest[..length]));
                &rest[length..]
            }
            _ => {
                tokens.push(Token::Symbol(byte));
                &rest[1..]
            }
        };
        rest = after.trim_ascii_start();
    }
    tokens
}

/// Reads a quoted text up to its closing quote or the end of the line. A doubled quote in it stands
/// for a single one.
fn quoted(text: &[u8], quote: u8) -> (Name, &[u8]) {
    let mut name = Vec::new();
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte == quote {
            if text.get(at) != Some(&quote) {
                break;
            }
            at += 1;
        }
        name.push(byte);
    }
    (name, &text[at..])
}
