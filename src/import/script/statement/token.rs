//! The tokens of a statement.

use std::ops::Range;

use memchr::memmem;

use super::Name;
use crate::import::script::keywords::{is_word, is_word_start};

/// A token of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::import::script) enum Token<'a> {
    Word(&'a [u8]),
    Quoted(Name),
    Literal(Name),
    Symbol(u8),
}

/// A token, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::import::script) struct Placed<'a> {
    pub(in crate::import::script) token: Token<'a>,
    pub(in crate::import::script) at: Range<usize>,
}

impl Token<'_> {
    pub(in crate::import::script) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    pub(in crate::import::script) fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    /// The token as a name.
    pub(in crate::import::script) fn name(&self) -> Option<Name> {
        match self {
            Self::Word(word) => Some(word.to_ascii_lowercase()),
            Self::Quoted(name) | Self::Literal(name) => Some(name.clone()),
            Self::Symbol(_) => None,
        }
    }

    /// The token as a role, unless that is a predefined one.
    pub(in crate::import::script) fn role(&self) -> Option<Name> {
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
        // No role can have these names, quoted or not.
        let is_reserved = |name: &Name| matches!(name.as_slice(), b"public" | b"none");
        self.name()
            .filter(|name| !name.starts_with(b"pg_") && !is_reserved(name))
    }
}

/// The tokens of a statement, without comments.
pub(in crate::import::script) fn placed_tokens(text: &[u8]) -> Vec<Placed<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let (token, length) = match byte {
            _ if byte.is_ascii_whitespace() => (None, 1),
            b'"' => {
                let (name, length) = quoted(rest, byte);
                (Some(Token::Quoted(name)), length)
            }
            b'\'' => {
                let (name, length) = quoted(rest, byte);
                (Some(Token::Literal(name)), length)
            }
            b'-' if rest.starts_with(b"--") => {
                let end = memchr::memchr(b'\n', rest);
                (None, end.unwrap_or(rest.len()))
            }
            b'/' if rest.starts_with(b"/*") => {
                let end = memmem::find(rest, b"*/").map(|end| end + 2);
                (None, end.unwrap_or(rest.len()))
            }
            b'$' => match dollar_quoted(rest) {
                Some((body, length)) => (Some(Token::Literal(body.to_vec())), length),
                None => (Some(Token::Symbol(byte)), 1),
            },
            _ if is_word_start(byte) => {
                let length = rest.iter().take_while(|b| is_word(**b)).count();
                (Some(Token::Word(&rest[..length])), length)
            }
            _ => (Some(Token::Symbol(byte)), 1),
        };
        let range = at..at + length;
        at = range.end;
        tokens.extend(token.map(|token| Placed { token, at: range }));
    }
    tokens
}

/// Reads a quoted text up to its closing quote or the end of the text, and its length. A doubled quote in it stands
/// for a single one.
fn quoted(text: &[u8], quote: u8) -> (Name, usize) {
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
    (name, at)
}

/// The body of `$tag$ … $tag$`, and the length of it all.
fn dollar_quoted(text: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'$', text.get(1..)?)? + 2;
    let tag = &text[..end];
    let inner = &tag[1..end - 1];
    let is_tag = inner.first().is_none_or(|first| is_word_start(*first))
        && inner.iter().all(|byte| is_word(*byte) && *byte != b'$');
    let length = memmem::find(&text[end..], tag).filter(|_| is_tag)?;
    Some((&text[end..end + length], end + length + tag.len()))
}
