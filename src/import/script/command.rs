//! The psql commands of scripts. None of them can run a program or read a file.

use super::ScriptError;
use super::variables::{Variables, is_of_name};

/// A psql command, as far as one is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::import) enum Command {
    /// `\connect`, to this database of the same server.
    Connect(Vec<u8>),
    /// `\encoding`, to this one.
    Encoding(String),
    /// `\set`, of this variable to this constant value.
    Set(Vec<u8>, Vec<u8>),
    /// `\unset`
    Unset(Vec<u8>),
    /// A command that matters to psql alone, such as `\restrict`, which keeps it from running others.
    Nothing,
}

impl Command {
    /// Reads a command, with its backslash.
    pub(in crate::import) fn parse(
        text: &[u8],
        line: u64,
        variables: &Variables,
    ) -> Result<Self, ScriptError> {
        const OF_PSQL: [&[u8]; 9] = [
            b"\\restrict",
            b"\\unrestrict",
            b"\\echo",
            b"\\qecho",
            b"\\warn",
            b"\\pset",
            b"\\timing",
            b"\\x",
            b"\\a",
        ];
        let text = text.trim_ascii();
        let end = text.iter().position(u8::is_ascii_whitespace);
        let (command, argument) = text.split_at(end.unwrap_or(text.len()));
        let argument = argument.trim_ascii();
        let refused = || ScriptError::MetaCommand {
            line,
            command: String::from_utf8_lossy(command).into_owned(),
        };
        match command {
            b"\\set" => set(argument, line, variables)?.ok_or_else(refused),
            b"\\unset" if is_variable(argument) => Ok(Self::Unset(argument.to_vec())),
            // Backquotes run programs, and a second command may follow.
            _ if argument.iter().any(|byte| matches!(byte, b'`' | b'|'))
                || (!is_connect(command) && argument.contains(&b'\\')) =>
            {
                Err(refused())
            }
            _ if is_connect(command) => database(argument).map(Self::Connect).ok_or_else(refused),
            b"\\encoding" => {
                let is_name =
                    |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                if argument.is_empty() || !argument.iter().all(is_name) {
                    return Err(refused());
                }
                Ok(Self::Encoding(
                    String::from_utf8_lossy(argument).into_owned(),
                ))
            }
            _ if OF_PSQL.contains(&command) => Ok(Self::Nothing),
            _ => Err(refused()),
        }
    }
}

/// A `\set`, if its value is constant and psql would not run the script otherwise because of it.
fn set(argument: &[u8], line: u64, variables: &Variables) -> Result<Option<Command>, ScriptError> {
    // Variables with which psql would act otherwise than multidb, unless they are as without the
    // command.
    const BEHAVIOUR: [(&[u8], &[&[u8]]); 3] = [
        (b"AUTOCOMMIT", &[b"", b"on", b"true", b"1"]),
        (b"SINGLELINE", &[b"off", b"false", b"0"]),
        (b"SINGLESTEP", &[b"off", b"false", b"0"]),
    ];
    let end = argument.iter().position(u8::is_ascii_whitespace);
    let (name, rest) = argument.split_at(end.unwrap_or(argument.len()));
    if !is_variable(name) {
        return Ok(None);
    }
    let Some(value) = variables.value(rest, line)? else {
        return Ok(None);
    };
    let is_as_usual = BEHAVIOUR
        .iter()
        .find(|(known, _)| *known == name)
        .is_none_or(|(_, usual)| usual.contains(&value.to_ascii_lowercase().as_slice()));
    Ok(is_as_usual.then(|| Command::Set(name.to_vec(), value)))
}

/// Whether a variable can have this name.
fn is_variable(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().copied().all(is_of_name)
}

fn is_connect(command: &[u8]) -> bool {
    matches!(command, b"\\connect" | b"\\c")
}

/// The database in the argument of `\connect`, if it is one of the same server and nothing else.
fn database(argument: &[u8]) -> Option<Vec<u8>> {
    // As pg_dump writes names that psql would take for more.
    let quoted = argument
        .strip_prefix(b"-reuse-previous=on \"dbname='")
        .and_then(|rest| rest.strip_suffix(b"'\""));
    if let Some(quoted) = quoted {
        return unescaped(quoted);
    }
    if let [b'"', name @ .., b'"'] = argument {
        // psql takes a name with these characters for a connection string.
        let plain =
            !name.is_empty() && !name.iter().any(|b| matches!(b, b'"' | b'=' | b':' | b'\\'));
        return plain.then(|| name.to_vec());
    }
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || *b >= 0x80;
    let is_name = !argument.is_empty() && !argument.starts_with(b"-") && argument.iter().all(plain);
    is_name.then(|| argument.to_vec())
}

/// A value of a connection string within the double quotes of psql. Nothing may follow it.
fn unescaped(value: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => name.push(*bytes.next()?),
            b'"' if bytes.next() != Some(&b'"') => return None,
            b'\'' => return None,
            byte => name.push(byte),
        }
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_dumps_are_followed_and_all_others_refused() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let connect = |name: &str| Some(Command::Connect(bytes(name)));
        let set = |name: &str, value: &str| Some(Command::Set(bytes(name), bytes(value)));
        for (text, expected) in [
            ("\\connect proj", connect("proj")),
            ("\\c proj\r", connect("proj")),
            ("\\connect \"a b\"", connect("a b")),
            (
                "\\connect -reuse-previous=on \"dbname='a=b,\\'\\\\'\"",
                connect("a=b,'\\"),
            ),
            (
                "\\encoding LATIN1",
                Some(Command::Encoding("LATIN1".to_owned())),
            ),
            ("\\restrict abc", Some(Command::Nothing)),
            ("\\unrestrict abc", Some(Command::Nothing)),
            ("\\set ON_ERROR_STOP on", set("ON_ERROR_STOP", "on")),
            ("\\set a 'b c' d", set("a", "b cd")),
            ("\\set AUTOCOMMIT on", set("AUTOCOMMIT", "on")),
            ("\\set AUTOCOMMIT off", None),
            ("\\set a 1 \\! id", None),
            ("\\set a-b 1", None),
            ("\\set", None),
            ("\\unset a", Some(Command::Unset(b"a".to_vec()))),
            ("\\if true", None),
            ("\\gset", None),
            ("\\echo hello", Some(Command::Nothing)),
            ("\\set x `id`", None),
            ("\\echo `id`", None),
            ("\\echo x \\! id", None),
            ("\\! id", None),
            ("\\i /etc/passwd", None),
            ("\\copy t from '/etc/passwd'", None),
            ("\\connect host=evil", None),
            ("\\connect \"host=evil\"", None),
            ("\\connect proj other", None),
            ("\\connect -reuse-previous=on \"dbname='a' host='b'\"", None),
            ("\\gexec", None),
        ] {
            let command = Command::parse(text.as_bytes(), 1, &Variables::default());
            assert_eq!(command.ok(), expected, "{text}");
        }
    }
}
