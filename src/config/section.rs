//! Reads the keys of a section, and records faults and origins.

use serde::Serialize;

use super::fault::Fault;
use super::lines::Lines;
use super::value::Value;

/// The keys of the file that are in no section. Beside them it has only sections.
pub(super) const TOP_KEYS: [&str; 3] = ["listen", "root", "admin_socket"];

/// How alike a key is to the one that was meant, by Jaro and Winkler, from 0 to 1. clap uses 0.7 for commands and
/// options; keys are longer and often begin alike.
pub(super) const SIMILAR_MIN: f64 = 0.85;

/// The origin of an effective value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The file does not set it.
    Default,
    /// The file sets it.
    File,
    /// An option of the command line, or its environment variable, sets it.
    Option,
}

impl Origin {
    /// The name, as in the serialized form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Option => "option",
        }
    }
}

/// One setting, for `multidb config show`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The key with its sections.
    pub key: String,
    /// The effective value.
    pub value: toml::Value,
    /// Its origin.
    pub origin: Origin,
}

/// The result of reading beside the values.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) faults: Vec<Fault>,
    /// Valid settings that are probably mistakes.
    pub(super) warnings: Vec<Fault>,
    pub(super) settings: Vec<Setting>,
    /// The keys that were asked for, with their sections.
    #[cfg(test)]
    pub(super) accepted: Vec<String>,
}

impl Report {
    pub(super) fn fault(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault::new(key, message));
    }

    pub(super) fn warning(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Fault::new(key, message));
    }

    /// Adds the line to each fault and warning.
    pub(super) fn locate(&mut self, lines: &Lines) {
        for fault in self.faults.iter_mut().chain(&mut self.warnings) {
            fault.line = lines.line(&fault.key);
        }
    }

    pub(super) fn setting(&mut self, key: &str, value: toml::Value, origin: Origin) {
        self.settings.push(Setting {
            key: key.to_owned(),
            value,
            origin,
        });
    }
}

/// A key whose name the user chooses.
pub(super) struct Entry {
    /// The name with those of its sections.
    pub(super) key: String,
    pub(super) name: String,
    pub(super) value: toml::Value,
}

/// A section. Keys are removed as they are read, so the rest is unknown.
#[derive(Debug)]
pub(super) struct Section {
    path: String,
    table: toml::Table,
    known: Vec<&'static str>,
}

impl Section {
    /// The whole file.
    pub(super) fn top(table: toml::Table) -> Self {
        Self::at(String::new(), table)
    }

    pub(super) fn at(path: String, table: toml::Table) -> Self {
        Self {
            path,
            table,
            known: Vec::new(),
        }
    }

    /// The full name of a key of this section.
    pub(super) fn key(&self, name: &str) -> String {
        full_key(&self.path, name)
    }

    /// A section in this one; empty if it is missing.
    pub(super) fn section(&mut self, name: &'static str, report: &mut Report) -> Section {
        self.known.push(name);
        let key = self.key(name);
        match self.table.remove(name) {
            None => Self::at(key, toml::Table::new()),
            Some(value) => Self::from_value(key, value, report),
        }
    }

    /// Whether the value of a key is a section.
    pub(super) fn is_section(&self, name: &str) -> bool {
        self.table.get(name).is_some_and(toml::Value::is_table)
    }

    /// Whether it sets a key.
    pub(super) fn sets(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// A section in this one, if it exists.
    pub(super) fn existing_section(
        &mut self,
        name: &'static str,
        report: &mut Report,
    ) -> Option<Section> {
        let value = self.take(name)?;
        Some(Self::from_value(self.key(name), value, report))
    }

    fn from_value(key: String, value: toml::Value, report: &mut Report) -> Section {
        match value {
            toml::Value::Table(table) => Self::at(key, table),
            other => {
                let message = format!("is {}, but must be a section", kind(&other));
                report.fault(&key, message);
                Self::at(key, toml::Table::new())
            }
        }
    }

    /// All keys, for a section with names of the user's choice.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        let Self { path, table, .. } = self;
        let names = Self::at(path, toml::Table::new());
        let entries = table.into_iter();
        entries
            .map(|(name, value)| Entry {
                key: names.key(&name),
                name,
                value,
            })
            .collect()
    }

    /// All sections in this one, for names of the user's choice.
    pub(super) fn into_sections(self, report: &mut Report) -> Vec<(String, Section)> {
        let entries = self.into_entries().into_iter();
        entries
            .map(|Entry { key, name, value }| (name, Self::from_value(key, value, report)))
            .collect()
    }

    /// Removes a key and returns its value.
    pub(super) fn take(&mut self, name: &'static str) -> Option<toml::Value> {
        self.known.push(name);
        self.table.remove(name)
    }

    /// Its name with those of its parents.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value of a key with a default.
    pub(super) fn get<T: Value>(
        &mut self,
        name: &'static str,
        default: T,
        report: &mut Report,
    ) -> T {
        let key = self.key(name);
        match self.optional(name, report) {
            Some(value) => value,
            None => {
                report.setting(&key, default.show(), Origin::Default);
                default
            }
        }
    }

    /// The value of a mandatory key.
    pub(super) fn required<T: Value>(
        &mut self,
        name: &'static str,
        report: &mut Report,
    ) -> Option<T> {
        if !self.sets(name) {
            self.known.push(name);
            report.fault(self.key(name), "is missing");
            return None;
        }
        self.optional(name, report)
    }

    /// The value of a key, if it exists and is valid.
    pub(super) fn optional<T: Value>(
        &mut self,
        name: &'static str,
        report: &mut Report,
    ) -> Option<T> {
        let key = self.key(name);
        match T::read(&self.take(name)?) {
            Ok(value) => {
                report.setting(&key, value.show(), Origin::File);
                Some(value)
            }
            Err(message) => {
                report.fault(key, message);
                None
            }
        }
    }

    /// Reports the keys that were not read.
    pub(super) fn close(self, report: &mut Report) {
        #[cfg(test)]
        report
            .accepted
            .extend(self.known.iter().map(|name| self.key(name)));
        for name in self.table.keys() {
            report.fault(self.key(name), self.unknown(name));
        }
    }
}

impl Section {
    /// The message about a key that nothing reads.
    fn unknown(&self, name: &str) -> String {
        if !self.path.is_empty() && TOP_KEYS.contains(&name) {
            let section = &self.path;
            return format!(
                "belongs to no section, but TOML counts it to [{section}], which begins above it: \
                 move the line before the first section"
            );
        }
        let similar = |known: &&&str| strsim::jaro_winkler(known, name) >= SIMILAR_MIN;
        let likeness = |known: &&&str| (strsim::jaro_winkler(known, name) * 1e6) as u64;
        let best = self.known.iter().filter(similar).max_by_key(likeness);
        match best {
            Some(best) => format!("is not a known key; did you mean {best}?"),
            None => format!("is not a known key; valid keys: {}", self.known.join(", ")),
        }
    }
}

/// A key with its section, in TOML syntax.
pub(super) fn full_key(section: &str, name: &str) -> String {
    let name = if is_bare(name) {
        name.to_owned()
    } else {
        toml::Value::from(name).to_string()
    };
    if section.is_empty() {
        name
    } else {
        format!("{section}.{name}")
    }
}

/// Whether a key needs no quotes in TOML.
fn is_bare(name: &str) -> bool {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty() && name.chars().all(bare)
}

/// The type of a value, for messages.
pub(super) fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) => "an integer",
        toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a date or time",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a section",
    }
}
