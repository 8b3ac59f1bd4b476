//! The description of each setting: the one table behind `docs/reference/settings.md` and the package's `multidb.toml`.
//!
//! The parser gives the defaults, so that they are written once. A test holds the table against the
//! parser: each key that it accepts is here, and no other.

mod daemon_rows;
mod markdown;
mod project_rows;
#[cfg(test)]
mod tests;
mod toml_file;

use std::collections::HashMap;

use super::section::Origin;
use super::{ConfigFaults, Loaded};

pub use self::markdown::settings_page;
pub use self::toml_file::commented_file;

/// The part of a section's path that stands for a name of the user's choice.
const NAME: &str = "NAME";

/// One section of the file.
struct SectionRows {
    /// Its path, empty for the keys above the first section; [`NAME`] is a name of the user's choice.
    path: &'static str,
    /// The name in place of [`NAME`] in an example.
    example_name: &'static str,
    /// How a file begins it.
    kind: SectionKind,
    /// A sentence about all of it.
    about: &'static str,
    /// Its keys, in the order of the documentation.
    rows: &'static [Row],
}

/// How a file begins a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SectionKind {
    /// It has only defaults, so a file may begin it and set nothing.
    Plain,
    /// It has mandatory keys.
    OnDemand,
    /// One of several in a list, `[[path]]`.
    Item,
}

/// One key of a section.
struct Row {
    /// The key within the section, dotted where it is in a table of its own; [`NAME`] is a name of the user's choice.
    key: &'static str,
    /// Its type, for people.
    kind: &'static str,
    /// What holds without it.
    absent: Absent,
    /// A value in TOML.
    example: &'static str,
    /// Whether it cannot stand beside the other keys of the section.
    is_alternative: bool,
    /// What it is, in full sentences.
    text: &'static str,
}

/// What holds without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// The parser's default.
    Default,
    /// What these words say.
    Words(&'static str),
    /// The section is refused.
    Required,
}

/// A key with a default of the parser.
const fn setting(key: &'static str, kind: &'static str, text: &'static str) -> Row {
    Row {
        key,
        kind,
        absent: Absent::Default,
        example: "",
        is_alternative: false,
        text,
    }
}

impl Row {
    /// Sets an example, and what holds without the key.
    const fn else_(mut self, example: &'static str, words: &'static str) -> Self {
        self.example = example;
        self.absent = Absent::Words(words);
        self
    }

    /// Sets an example of a mandatory key.
    const fn required(mut self, example: &'static str) -> Self {
        self.example = example;
        self.absent = Absent::Required;
        self
    }

    /// Marks it as one that cannot stand beside the others.
    const fn alternative(mut self) -> Self {
        self.is_alternative = true;
        self
    }
}

impl SectionRows {
    /// A key with its section.
    fn full_key(&self, row: &Row) -> String {
        match self.path {
            "" => row.key.to_owned(),
            path => format!("{path}.{}", row.key),
        }
    }

    /// The line that begins it in an example; none for the keys above the first section.
    fn example_header(&self) -> Option<String> {
        let path = self.path.replace(NAME, self.example_name);
        match (self.path, self.kind) {
            ("", _) => None,
            (_, SectionKind::Item) => Some(format!("[[{path}]]")),
            _ => Some(format!("[{path}]")),
        }
    }

    /// A line that sets a key, in an example.
    fn example_line(&self, row: &Row, defaults: &Defaults) -> String {
        let value = match row.absent {
            Absent::Default => defaults.toml(self, row),
            _ => row.example.to_owned(),
        };
        let key = match row.key {
            NAME => "shared_buffers".to_owned(),
            key => key.replace(NAME, "mathspace_production"),
        };
        format!("{key} = {value}")
    }
}

/// All sections.
fn sections() -> impl Iterator<Item = &'static SectionRows> {
    daemon_rows::SECTIONS.iter().chain(project_rows::SECTIONS)
}

/// The parser's defaults, by full key.
struct Defaults(HashMap<String, toml::Value>);

impl Defaults {
    /// Parses a file that has each section, with its mandatory keys alone.
    fn read() -> Result<Self, ConfigFaults> {
        let mut text = String::new();
        for section in sections().filter(|section| section.kind == SectionKind::OnDemand) {
            text.push_str(&format!("[{}]\n", section.path));
            for row in section.rows {
                // Without a key of its own, a refresh and its `keep` have nothing to do.
                let is_needed =
                    row.absent == Absent::Required || matches!(row.key, "source" | "keep.last");
                if is_needed && !row.is_alternative {
                    text.push_str(&format!("{} = {}\n", row.key, row.example));
                }
            }
        }
        let loaded = Loaded::parse(None, &text)?;
        let settings = loaded.settings.into_iter();
        let defaults = settings.filter(|setting| setting.origin == Origin::Default);
        Ok(Self(
            defaults
                .map(|setting| (setting.key, setting.value))
                .collect(),
        ))
    }

    /// A default in TOML.
    fn toml(&self, section: &SectionRows, row: &Row) -> String {
        let value = self.0.get(&section.full_key(row));
        value.map(ToString::to_string).unwrap_or_default()
    }
}
