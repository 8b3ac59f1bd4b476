//! The primary keys of a dump's tables, by the statements that add them.

use std::collections::HashMap;
use std::path::Path;

use super::{Piece, ScriptError, Splitter, sets_backslash_literals};

/// The columns of the primary keys, by table. Names are as in statements, so quoted where they need to be.
#[derive(Debug, Default)]
pub(in crate::import) struct PrimaryKeys(HashMap<Vec<u8>, Vec<Vec<u8>>>);

impl PrimaryKeys {
    /// Takes note of the key that a statement adds, if it does.
    pub(in crate::import) fn learn(&mut self, statement: &[u8]) {
        if let Some((table, columns)) = added_key(statement) {
            self.0.insert(table.to_owned(), columns);
        }
    }

    /// The places of the key's columns among the columns of a COPY, in the order of the key. `None`
    /// without a key, and if one of its columns is not among them.
    pub(in crate::import) fn places(&self, table: &[u8], columns: &[u8]) -> Option<Vec<usize>> {
        let key = self.0.get(table)?;
        let columns = names(columns.strip_prefix(b"(")?.strip_suffix(b")")?);
        let place = |name: &Vec<u8>| columns.iter().position(|column| column == name);
        key.iter().map(place).collect()
    }
}

/// Finds the keys in a script.
pub(in crate::import) struct KeyReader {
    splitter: Splitter,
    pub(in crate::import) keys: PrimaryKeys,
}

impl KeyReader {
    /// Long statements are kept in files of this directory.
    pub(in crate::import) fn new(directory: &Path) -> Self {
        Self {
            splitter: Splitter::new(directory),
            keys: PrimaryKeys::default(),
        }
    }

    /// Reads the next piece of the script.
    pub(in crate::import) fn push(&mut self, chunk: &[u8]) -> Result<(), ScriptError> {
        let mut input = chunk;
        while let Some(piece) = self.splitter.next(&mut input)? {
            if let Piece::Statement(statement) = piece {
                if let Some(is_off) = sets_backslash_literals(&statement.head) {
                    self.splitter.set_backslash_literals(is_off);
                }
                self.keys.learn(&statement.head);
            }
        }
        Ok(())
    }
}

/// The table and the columns of `ALTER TABLE ONLY t ADD CONSTRAINT k PRIMARY KEY (a, b);`.
fn added_key(statement: &[u8]) -> Option<(&[u8], Vec<Vec<u8>>)> {
    let rest = statement.strip_prefix(b"ALTER TABLE ONLY ")?;
    let (table, rest) = rest.split_at(name_end(rest, b"\n "));
    let rest = rest.trim_ascii_start().strip_prefix(b"ADD CONSTRAINT ")?;
    let rest = &rest[name_end(rest, b" ")..];
    let rest = rest.strip_prefix(b" PRIMARY KEY (")?;
    Some((table, names(&rest[..name_end(rest, b")")])))
}

/// The length of a name, which ends before one of these bytes.
pub(in crate::import) fn name_end(text: &[u8], ends: &[u8]) -> usize {
    let mut quoted = false;
    let end = text.iter().position(|byte| {
        quoted ^= *byte == b'"';
        !quoted && ends.contains(byte)
    });
    end.unwrap_or(text.len())
}

/// The names of a list. That of a period that may not overlap has more after it.
fn names(list: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (item, after) = rest.split_at(name_end(rest, b","));
        let item = item.trim_ascii();
        names.push(item[..name_end(item, b" ")].to_owned());
        rest = after.get(1..).unwrap_or_default();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_the_statements_of_pg_restore() {
        let mut keys = PrimaryKeys::default();
        for statement in [
            "ALTER TABLE ONLY public.one\n    ADD CONSTRAINT one_pkey PRIMARY KEY (id);",
            "ALTER TABLE ONLY \"My \"\"Sche\nma\".\"A, B (c)\"\n    ADD CONSTRAINT \"k PRIMARY KEY (x)\" PRIMARY KEY (\"b, )\", a) INCLUDE (c);",
            "ALTER TABLE ONLY public.bookings\n    ADD CONSTRAINT k PRIMARY KEY (room, during WITHOUT OVERLAPS);",
            "ALTER TABLE ONLY public.other\n    ADD CONSTRAINT other_key UNIQUE (id);",
            "ALTER TABLE public.other OWNER TO app;",
        ] {
            keys.learn(statement.as_bytes());
        }
        let places = |table: &str, columns: &str| keys.places(table.as_bytes(), columns.as_bytes());
        assert_eq!(places("public.one", "(name, id)"), Some(vec![1]));
        let quoted = "\"My \"\"Sche\nma\".\"A, B (c)\"";
        assert_eq!(places(quoted, "(a, \"c, a\", \"b, )\")"), Some(vec![2, 0]));
        assert_eq!(
            places("public.bookings", "(during, room)"),
            Some(vec![1, 0])
        );
        assert_eq!(
            places("public.one", "(name)"),
            None,
            "a generated key is not in the rows"
        );
        assert_eq!(places("public.one", ""), None);
        assert_eq!(places("public.other", "(id)"), None);
    }
}
