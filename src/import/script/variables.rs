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

    /// Its quote.
    pub(super) fn quote(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Literal => Some(b'\''),
            Self::Identifier => Some(b'"'),
        }
    }

    fn write(self, value: &[u8]) -> Vec<u8> {
        let Some(quote) = self.quote() else {
            return value.to_vec();
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
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text that stands for a variable in this form, if it is set.
    pub(super) fn text(&self, name: &[u8], form: Form) -> Option<Vec<u8>> {
        self.0.get(name).map(|value| form.write(value))
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
                b':' => rest = self.expand(rest, &mut value),
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

    /// Appends the value of the variable that is named here after a colon, or the colon.
    fn expand<'a>(&self, text: &'a [u8], value: &mut Vec<u8>) -> &'a [u8] {
        let form = text.first().and_then(|byte| Form::of_quote(*byte));
        let form = form.unwrap_or(Form::Plain);
        let begin = usize::from(form.quote().is_some());
        let length = text[begin..]
            .iter()
            .take_while(|byte| is_of_name(**byte))
            .count();
        let end = begin + length;
        let is_closed = form
            .quote()
            .is_none_or(|quote| text.get(end) == Some(&quote));
        match self.text(&text[begin..end], form) {
            Some(expanded) if is_closed => {
                value.extend(expanded);
                &text[end + begin..]
            }
            _ => {
                value.push(b':');
                text
            }
        }
    }
}

/// Appends a text in single quotes, and returns what follows it.
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
