//! The words of a text: quoted and bare ones, parameters, and single characters.

use super::ConsoleError;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword or a name without quotes, as it was written.
    Bare(String),
    /// A text in single or double quotes, without them.
    Quoted(String),
    /// `$1`.
    Parameter(u16),
    /// Any other character.
    Symbol(char),
}

impl Token {
    /// The keyword that it is, in upper case; none if it is quoted.
    pub(super) fn keyword(&self) -> Option<String> {
        match self {
            Self::Bare(word) => Some(word.to_ascii_uppercase()),
            Self::Quoted(_) | Self::Parameter(_) | Self::Symbol(_) => None,
        }
    }

    /// As it is named in an error.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Bare(word) | Self::Quoted(word) => word.clone(),
            Self::Parameter(number) => format!("${number}"),
            Self::Symbol(symbol) => symbol.to_string(),
        }
    }
}

/// Splits a text into words. Comments count as white space.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ConsoleError> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if next.is_whitespace() {
            rest = rest.trim_start();
        } else if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if rest.starts_with("/*") {
            rest = after_comment(rest)?;
        } else if next == '\'' || next == '"' {
            let (token, after) = quoted(rest, next)?;
            found.push(token);
            rest = after;
        } else if let Some((token, after)) = parameter(rest) {
            found.push(token);
            rest = after;
        } else if next.is_alphanumeric() || next == '_' {
            let (word, after) = rest.split_at(bare_length(rest));
            found.push(Token::Bare(word.to_owned()));
            rest = after;
        } else {
            found.push(Token::Symbol(next));
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        }
    }
    Ok(found)
}

/// Comments are nested.
fn after_comment(text: &str) -> Result<&str, ConsoleError> {
    let mut depth = 0_usize;
    let mut rest = text;
    loop {
        if let Some(inner) = rest.strip_prefix("/*") {
            depth += 1;
            rest = inner;
        } else if let Some(outer) = rest.strip_prefix("*/") {
            depth -= 1;
            rest = outer;
            if depth == 0 {
                return Ok(rest);
            }
        } else {
            let mut chars = rest.chars();
            if chars.next().is_none() {
                return Err(ConsoleError::Unterminated { what: "comment" });
            }
            rest = chars.as_str();
        }
    }
}

/// A doubled quote is one of the text.
fn quoted(text: &str, quote: char) -> Result<(Token, &str), ConsoleError> {
    let mut value = String::new();
    let mut chars = text.chars();
    chars.next();
    while let Some(next) = chars.next() {
        if next != quote {
            value.push(next);
        } else if let Some(after) = chars.as_str().strip_prefix(quote) {
            value.push(quote);
            chars = after.chars();
        } else {
            return Ok((Token::Quoted(value), chars.as_str()));
        }
    }
    let what = if quote == '"' {
        "quoted name"
    } else {
        "quoted string"
    };
    Err(ConsoleError::Unterminated { what })
}

fn parameter(text: &str) -> Option<(Token, &str)> {
    let digits = text.strip_prefix('$')?;
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = digits.split_at(length);
    Some((Token::Parameter(number.parse().ok()?), rest))
}

/// The bytes of a bare word: the characters of names, up to a comment.
fn bare_length(text: &str) -> usize {
    let end = text.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '-'));
    let end = end.unwrap_or(text.len());
    let comment = text.find("--").unwrap_or(end);
    end.min(comment)
}
