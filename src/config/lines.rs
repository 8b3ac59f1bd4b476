//! The line of each key in the file.

use std::collections::HashMap;

use toml::de::{DeTable, DeValue};

use super::section::full_key;

/// The lines of a file's keys.
#[derive(Debug, Default)]
pub(super) struct Lines(HashMap<String, usize>);

impl Lines {
    /// The lines of the keys in a text; none if it is not TOML.
    pub(super) fn of(text: &str) -> Self {
        let mut lines = Self::default();
        if let Ok(table) = DeTable::parse(text) {
            lines.add(text, "", table.get_ref());
        }
        lines
    }

    fn add(&mut self, text: &str, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = full_key(path, name.get_ref());
            let before = text.get(..name.span().start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            match value.get_ref() {
                DeValue::Table(below) => self.add(text, &key, below),
                // Sections of a list are numbered from 1.
                DeValue::Array(items) => {
                    for (number, item) in (1..).zip(items) {
                        if let DeValue::Table(below) = item.get_ref() {
                            self.add_item(text, &format!("{key}[{number}]"), below);
                        }
                    }
                }
                _ => {}
            }
            self.0.insert(key, line);
        }
    }

    /// A section of a list: its own line is that of its first key.
    fn add_item(&mut self, text: &str, key: &str, table: &DeTable<'_>) {
        self.add(text, key, table);
        let lines = table.keys().filter_map(|name| {
            let key = full_key(key, name.get_ref());
            self.0.get(&key).copied()
        });
        if let Some(first) = lines.min() {
            self.0.insert(key.to_owned(), first);
        }
    }

    /// The line of a key; of a missing key, the line of its section.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.0.get(key) {
                return Some(*line);
            }
            (key, _) = key.rsplit_once('.')?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_sections_inline_tables_and_quotes() {
        let text = "root = \"/r\"\n\n[limits]\nretention = \"1d\"\n\n[project.\"a.b\"]\n\
            migrations = { query = \"select 1\" }\n";
        let lines = Lines::of(text);
        for (key, line) in [
            ("root", Some(1)),
            ("limits", Some(3)),
            ("limits.retention", Some(4)),
            ("project.\"a.b\".migrations.query", Some(7)),
            ("project.\"a.b\".git", Some(6)),
            ("listen", None),
        ] {
            assert_eq!(lines.line(key), line, "{key}");
        }
    }

    #[test]
    fn a_text_that_is_not_toml_has_no_lines() {
        assert_eq!(Lines::of("root = [").line("root"), None);
    }
}
