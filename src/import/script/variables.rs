//! The variables of psql that a script sets itself, by `\set` with constant values.

use std::collections::HashMap;

use super::{ScriptError, TOKEN_BYTES_MAX};

/// The variables that are set.
#[derive(Debug, Default)]
pub(in crate::import) struct Variables(HashMap<Vec<u8>, Vec<u8>>);

/// How a statement names a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `:name`: its value is code.
    Plain,
    /// `:'name'`
    Literal,
    /// `:"name"`
    Identifier,
    /// `:{?name}`: whether it is set.
    Test,
}

/// The beginning of a mention that asks whether a variable is set.
pub(super) const TEST: &[u8] = b":{?";

/// The variables that psql itself sets at its start, by the source of psql 18 (`startup.c`, `command.c`).
const OF_PSQL: [&[u8]; 38] = [
    b"AUTOCOMMIT",
    b"COMP_KEYWORD_CASE",
    b"DBNAME",
    b"ECHO",
    b"ECHO_HIDDEN",
    b"ENCODING",
    b"ERROR",
    b"FETCH_COUNT",
    b"HIDE_TABLEAM",
    b"HIDE_TOAST_COMPRESSION",
    b"HISTCONTROL",
    b"HISTSIZE",
    b"HOST",
    b"IGNOREEOF",
    b"LAST_ERROR_MESSAGE",
    b"LAST_ERROR_SQLSTATE",
    b"ON_ERROR_ROLLBACK",
    b"ON_ERROR_STOP",
    b"PORT",
    b"PROMPT1",
    b"PROMPT2",
    b"PROMPT3",
    b"QUIET",
    b"ROW_COUNT",
    b"SERVER_VERSION_NAME",
    b"SERVER_VERSION_NUM",
    b"SERVICE",
    b"SHOW_ALL_RESULTS",
    b"SHOW_CONTEXT",
    b"SINGLELINE",
    b"SINGLESTEP",
    b"SQLSTATE",
    b"USER",
    b"VERBOSITY",
    b"VERSION",
    b"VERSION_NAME",
    b"VERSION_NUM",
    b"WATCH_INTERVAL",
];

/// Whether psql itself sets a variable of this name, whose value belongs to a session of psql, which does not exist
/// here.
pub(super) fn is_of_psql(name: &[u8]) -> bool {
    OF_PSQL.contains(&name)
}

/// Whether the name of a variable can contain this byte.
pub(super) fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Form {
    /// The form with this quote after its colon.
    pub(super) fn of_quote(byte: u8) -> Option<Self> {
        match byte {
            b'\'' => Some(Self::Literal),
            b'"' => Some(Self::Identifier),
            _ => None,
        }
    }

    /// The byte that ends it.
    pub(super) fn end(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Literal => Some(b'\''),
            Self::Identifier => Some(b'"'),
            Self::Test => Some(b'}'),
        }
    }

    /// The bytes of a mention beside the name.
    pub(super) fn bytes_around(self) -> usize {
        match self {
            Self::Plain => b":".len(),
            Self::Literal | Self::Identifier => b":''".len(),
            Self::Test => TEST.len() + b"}".len(),
        }
    }

    fn write(self, value: &[u8]) -> Vec<u8> {
        let quote = match self {
            Self::Plain => return value.to_vec(),
            Self::Test => return b"TRUE".to_vec(),
            Self::Literal => b'\'',
            Self::Identifier => b'"',
        };
        let has_backslash = self == Self::Literal && value.contains(&b'\\');
        let mut text = match has_backslash {
            true => b" E'".to_vec(),
            false => vec![quote],
        };
        for &byte in value {
            if byte == quote || (has_backslash && byte == b'\\') {
                text.push(byte);
            }
            text.push(byte);
        }
        text.push(quote);
        text
    }
}

impl Variables {
    /// The text that stands for a variable in this form, if there is one.
    pub(super) fn text(&self, name: &[u8], form: Form) -> Option<Vec<u8>> {
        match self.0.get(name) {
            Some(value) => Some(form.write(value)),
            None if form == Form::Test && !name.is_empty() => Some(b"FALSE".to_vec()),
            None => None,
        }
    }

    /// Whether only psql knows the value of a variable.
    pub(super) fn is_unknown(&self, name: &[u8]) -> bool {
        is_of_psql(name) && !self.0.contains_key(name)
    }

    /// Sets a variable.
    pub(in crate::import) fn set(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.0.insert(name, value);
    }

    pub(in crate::import) fn unset(&mut self, name: &[u8]) {
        self.0.remove(name);
    }

    /// The value of the arguments of `\set`, which stand for one text, as psql reads them. `None` where they are no
    /// constants: they run a program, or another command follows.
    pub(super) fn value(
        &self,
        arguments: &[u8],
        line: u64,
    ) -> Result<Option<Vec<u8>>, ScriptError> {
        let mut value = Vec::new();
        let mut rest = arguments;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'`' | b'\\' => return Ok(None),
                b'\'' => match quoted(rest, &mut value) {
                    Some(after) => rest = after,
                    None => return Ok(None),
                },
                b'"' => {
                    let end = rest.iter().position(|byte| *byte == b'"');
                    let (quoted, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
                    value.push(byte);
                    value.extend_from_slice(quoted);
                    rest = after;
                }
                b':' => match self.expand(rest, &mut value) {
                    Some(after) => rest = after,
                    None => return Ok(None),
                },
                _ if byte.is_ascii_whitespace() => {}
                _ => value.push(byte),
            }
            if value.len() > TOKEN_BYTES_MAX {
                return Err(ScriptError::TokenTooLong {
                    line,
                    bytes_max: TOKEN_BYTES_MAX,
                });
            }
        }
        Ok(Some(value))
    }

    /// Appends the value of the variable that is named here after a colon, or the colon. `None` where only psql knows it.
    fn expand<'a>(&self, text: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
        let (form, begin) = match text.first() {
            Some(b'{') if text.get(1) == Some(&b'?') => (Form::Test, 2),
            Some(byte) => match Form::of_quote(*byte) {
                Some(form) => (form, 1),
                None => (Form::Plain, 0),
            },
            None => (Form::Plain, 0),
        };
        let length = text[begin..]
            .iter()
            .take_while(|byte| is_of_name(**byte))
            .count();
        let end = begin + length;
        let is_closed = form.end().is_none_or(|last| text.get(end) == Some(&last));
        let name = &text[begin..end];
        if is_closed && self.is_unknown(name) {
            return None;
        }
        match self.text(name, form) {
            Some(expanded) if is_closed => {
                value.extend(expanded);
                Some(&text[end + usize::from(form.end().is_some())..])
            }
            _ => {
                value.push(b':');
                Some(text)
            }
        }
    }
}

/// Appends a text in single quotes, and returns the rest behind it.
fn quoted<'a>(text: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = text;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match (byte, rest) {
            (b'\'', [b'\'', after @ ..]) => {
                value.push(b'\'');
                rest = after;
            }
            (b'\'', _) => return Some(rest),
            (b'\\', [escaped, after @ ..]) => {
                rest = after;
                value.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'b' => b'\x08',
                    b'r' => b'\r',
                    b'f' => b'\x0c',
                    // The code of a byte.
                    b'0'..=b'9' | b'x' => return None,
                    other => *other,
                });
            }
            _ => value.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_psql_reads_them() {
        let mut variables = Variables::default();
        variables.set(b"a".to_vec(), b"x'y".to_vec());
        for (arguments, expected) in [
            ("", Some("")),
            ("1", Some("1")),
            ("one two  three", Some("onetwothree")),
            ("'one two' 'it''s' '\\n\\\\'", Some("one twoit's\n\\")),
            ("\"A b\" 'q r'", Some("\"A b\"q r")),
            ("x'y z'w", Some("xy zw")),
            (":a :b :'a' :\"a\" ::a", Some("x'y:b'x''y'\"x'y\":x'y")),
            (":{?a} :{?b} :{?} :{?a", Some("TRUEFALSE:{?}:{?a")),
            (":USER", None),
            (":{?USER}", None),
            ("`id`", None),
            ("1 \\! id", None),
            ("'open", None),
        ] {
            let value = variables.value(arguments.as_bytes(), 1).unwrap();
            let value = value.map(|value| String::from_utf8(value).unwrap());
            assert_eq!(value.as_deref(), expected, "{arguments}");
        }
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        variables.value(long.as_bytes(), 1).unwrap_err();
    }
}
