//! The syntax of Postgres' configuration files, as `guc-file.l` has it.

/// An entry of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A setting; its name in lower case.
    Setting(String, String),
    /// The path of another file.
    Include(Include, String),
    /// A server refuses the file because of it.
    Invalid,
}

/// The kinds of an include.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// The file must exist.
    File,
    /// The file may be missing.
    FileIfExists,
    /// All files of a directory whose names end in `.conf`.
    Directory,
}

/// The entries of a file, with the numbers of their lines.
pub fn parse(text: &str) -> impl Iterator<Item = (usize, Entry)> {
    let lines = text.split('\n').enumerate();
    lines.filter_map(|(index, line)| Some((index + 1, parse_line(line)?)))
}

/// A setting as a line. The last one of a name wins.
pub fn line(name: &str, value: &str) -> String {
    format!("{name} = {}\n", quoted(value))
}

/// Whether a setting may have this name: an identifier, or two of them with a dot between.
pub fn is_name(name: &str) -> bool {
    let is_identifier = |part: &str| {
        let part = part.as_bytes();
        part.first().is_some_and(|first| is_letter(*first))
            && part.iter().all(|b| is_letter(*b) || b.is_ascii_digit())
    };
    match name.split_once('.') {
        Some((class, name)) => is_identifier(class) && is_identifier(name),
        None => is_identifier(name),
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

/// `None` for a line without an entry.
fn parse_line(line: &str) -> Option<Entry> {
    let line = line.trim_start_matches(is_space);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    Some(parse_entry(line).unwrap_or(Entry::Invalid))
}

fn parse_entry(line: &str) -> Option<Entry> {
    let name_end = line.find(|c| is_space(c) || matches!(c, '=' | '\'' | '#'))?;
    let (name, rest) = line.split_at(name_end);
    let rest = rest.trim_start_matches(is_space);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let (value, rest) = parse_value(rest.trim_start_matches(is_space))?;
    let rest = rest.trim_start_matches(is_space);
    if !is_name(name) || !(rest.is_empty() || rest.starts_with('#')) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    Some(match name.as_str() {
        "include" => Entry::Include(Include::File, value),
        "include_if_exists" => Entry::Include(Include::FileIfExists, value),
        "include_dir" => Entry::Include(Include::Directory, value),
        _ => Entry::Setting(name, value),
    })
}

/// The value at the beginning of a text, and the rest of the text.
fn parse_value(text: &str) -> Option<(String, &str)> {
    if let Some(text) = text.strip_prefix('\'') {
        return parse_string(text);
    }
    let is_part = |c: char| {
        c.is_alphanumeric() || !c.is_ascii() || matches!(c, '-' | '+' | '.' | '_' | ':' | '/')
    };
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    (!value.is_empty()).then(|| (value.to_owned(), rest))
}

/// A string after its first quote: quotes are doubled, and a backslash escapes as in C.
fn parse_string(text: &str) -> Option<(String, &str)> {
    let mut value = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1).copied()) {
            (b'\'', Some(b'\'')) => {
                value.push(b'\'');
                at += 2;
            }
            (b'\'', _) => {
                let value = String::from_utf8(value).ok()?;
                // No text of Postgres has the character that would end it.
                return (!value.contains('\0')).then(|| (value, text.get(at + 1..).unwrap_or("")));
            }
            (b'\\', escaped) => {
                let (byte, length) = unescape(escaped?, bytes.get(at + 1..)?);
                value.push(byte);
                at += 1 + length;
            }
            (byte, _) => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

/// The byte that an escape stands for, and the length of its part after the backslash.
fn unescape(escaped: u8, rest: &[u8]) -> (u8, usize) {
    match escaped {
        b'b' => (8, 1),
        b'f' => (12, 1),
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'0'..=b'7' => {
            let digits = rest.iter().take(3);
            let digits: Vec<u8> = digits
                .copied()
                .take_while(|b| (b'0'..=b'7').contains(b))
                .collect();
            let add = |sum: u8, digit: &u8| sum.wrapping_mul(8).wrapping_add(digit - b'0');
            (digits.iter().fold(0, add), digits.len())
        }
        other => (other, 1),
    }
}

/// A value in single quotes, with quotes doubled and backslashes escaped.
fn quoted(value: &str) -> String {
    let escaped = value
        .replace('\\', "\\\\")
        .replace('\'', "''")
        .replace('\n', "\\n");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Option<Entry> {
        let mut entries = parse(text).map(|(_, entry)| entry);
        let entry = entries.next();
        assert_eq!(entries.next(), None, "{text}");
        entry
    }

    #[test]
    fn settings_are_read_as_postgres_reads_them() {
        for (text, name, value) in [
            ("work_mem = 4MB", "work_mem", "4MB"),
            ("work_mem 4MB # comment", "work_mem", "4MB"),
            ("\t DateStyle='ISO, DMY'\r", "datestyle", "ISO, DMY"),
            ("TimeZone=Europe/Berlin#x", "timezone", "Europe/Berlin"),
            (
                "a.b = 'it''s \\'so\\' \\\\ \\101\\n'",
                "a.b",
                "it's 'so' \\ A\n",
            ),
            ("port=-1", "port", "-1"),
            ("seq_page_cost = 1.5e-3", "seq_page_cost", "1.5e-3"),
            ("x'y'", "x", "y"),
            ("search_path = ''", "search_path", ""),
        ] {
            let expected = Entry::Setting(name.to_owned(), value.to_owned());
            assert_eq!(entry(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn lines_that_a_server_refuses_are_known() {
        for text in [
            "<<<<<<< HEAD",
            "fsync",
            "a = ",
            "a = b c",
            "a = 'open",
            "a = 'x' y",
            "a = b=c",
            "1a = b",
            "a.b.c = d",
            "a = '\\000'",
            "root:*:19000:0:99999:7:::",
        ] {
            assert_eq!(entry(text), Some(Entry::Invalid), "{text}");
        }
        assert_eq!(entry("  # a = b\n\n"), None);
    }

    #[test]
    fn includes_have_paths() {
        let include = |kind, path: &str| Some(Entry::Include(kind, path.to_owned()));
        assert_eq!(entry("include 'a.conf'"), include(Include::File, "a.conf"));
        let optional = include(Include::FileIfExists, "a");
        assert_eq!(entry("INCLUDE_IF_EXISTS = 'a'"), optional);
        assert_eq!(
            entry("include_dir = conf.d"),
            include(Include::Directory, "conf.d")
        );
    }

    #[test]
    fn lines_are_counted_and_what_is_written_is_read() {
        let values = ["64MB", r"a'b\c", "x\nfsync = off", "ä\t#", ""];
        let mut text = "# a comment\n".to_owned();
        for value in values {
            text.push_str(&line("a.b", value));
        }
        let read: Vec<_> = parse(&text).collect();
        assert_eq!(read.len(), values.len());
        for (index, (number, entry)) in read.into_iter().enumerate() {
            let expected = Entry::Setting("a.b".to_owned(), values[index].to_owned());
            assert_eq!((number, entry), (index + 2, expected));
        }
    }
}
