//! The migrations that a listing defines: pure.
//!
//! A listing has a migration a line, in any form in which the project's tool or its user would write one: the
//! name itself, the path of its file, or a line that the tool prints. A line that is none of these is an error,
//! since a migration that is overlooked would choose an older snapshot without a word.

use std::collections::HashSet;

use encoding_rs::{Encoding, UTF_8};

use crate::config::Preset;

mod directory;

pub(super) use self::directory::Directory;

/// The first line of a pointer that stands for a file in Git LFS
/// (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/";

/// The name of a file of Alembic's by another template than the default one.
const DATED: &str = "a file whose name does not begin with its revision: let the listing be its directory, which is read";

/// A listing with a line that cannot be read as a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotUnderstood {
    /// The number of the first such line, from 1.
    pub(super) line: usize,
    /// Its text.
    pub(super) text: String,
    /// The kind of the line or file, where that is known.
    pub(super) reason: Option<&'static str>,
}

/// The migrations in a listing of this tool; without one, each line is a migration as it stands. Blank lines and
/// comments, which begin with `#`, do not count.
pub(super) fn parse(bytes: &[u8], tool: Option<Preset>) -> Result<HashSet<String>, NotUnderstood> {
    let (encoding, mark) = Encoding::for_bom(bytes).unwrap_or((UTF_8, 0));
    let (text, _) = encoding.decode_without_bom_handling(&bytes[mark..]);
    let text = text.replace("\r\n", "\n");
    let mut reader = Reader {
        tool,
        heading: None,
        defined: HashSet::new(),
    };
    for (number, whole) in text.split(['\n', '\r']).enumerate() {
        let line = without_comment(whole);
        if line.is_empty() {
            continue;
        }
        let mut reason = if line.starts_with(LFS_POINTER) {
            Some("a pointer to Git LFS, not the file itself")
        } else if line.contains(['\0', char::REPLACEMENT_CHARACTER]) {
            Some("not text in UTF-8, nor in UTF-16 with a byte order mark")
        } else {
            None
        };
        if reason.is_some() || reader.read(line).is_none() {
            if reason.is_none() && tool == Some(Preset::Alembic) && line.ends_with(".py") {
                reason = Some(DATED);
            }
            return Err(NotUnderstood {
                line: number + 1,
                text: whole.trim().to_owned(),
                reason,
            });
        }
    }
    Ok(reader.defined)
}

/// The line without white space around it, and without a comment.
fn without_comment(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with('#') {
        return "";
    }
    let comment = [" #", "\t#"]
        .iter()
        .filter_map(|mark| line.find(mark))
        .min();
    comment.map_or(line, |at| line[..at].trim_end())
}

/// The migration of a file, by its path; `None` if it is none of this tool's.
pub(super) fn of_path(tool: Preset, path: &str) -> Option<String> {
    let mut parts = path.rsplit(['/', '\\']);
    let file = parts.next()?;
    let parent = parts.next();
    let stem = |extension: &str| file.strip_suffix(extension);
    let migration = match tool {
        Preset::Django => {
            let name = stem(".py").filter(|name| *name != "__init__")?;
            let app = parts.next().filter(|_| parent == Some("migrations"))?;
            return is_identifier(app).then(|| format!("{app}.{name}"));
        }
        Preset::Rails => leading_digits(stem(".rb")?)?,
        Preset::Flyway => return flyway_version(stem(".sql").or_else(|| stem(".java"))?),
        // With the default template for the names of files alone.
        Preset::Alembic => {
            let name = stem(".py").filter(|name| *name != "__init__" && !begins_with_year(name))?;
            name.split_once('_').map_or(name, |(revision, _)| revision)
        }
        Preset::Sqlx => return number(stem(".sql")?),
        Preset::Goose => return number(stem(".sql").or_else(|| stem(".go"))?),
        Preset::Diesel => {
            let directory = parent.filter(|_| file == "up.sql")?;
            return Some(diesel_version(directory));
        }
        Preset::Knex => file,
        Preset::Prisma => parent.filter(|_| file == "migration.sql")?,
    };
    Some(migration.to_owned())
}

/// The migrations that were read so far.
struct Reader {
    tool: Option<Preset>,
    /// The app that Django's `showmigrations` lists at the moment.
    heading: Option<String>,
    defined: HashSet<String>,
}

impl Reader {
    /// Reads a line. `None` if it is not understood.
    fn read(&mut self, line: &str) -> Option<()> {
        let Some(tool) = self.tool else {
            self.define(line);
            return Some(());
        };
        if line.contains(['/', '\\']) {
            // A package's own file beside the migrations is none, and in no way.
            if !line.ends_with("/__init__.py") && !line.ends_with("\\__init__.py") {
                let migration = of_path(tool, line)?;
                self.define(&migration);
            }
            return Some(());
        }
        if tool == Preset::Django {
            return self.read_django(line);
        }
        if tool == Preset::Alembic
            && let Some((_, rest)) = line.split_once(" -> ")
        {
            // A line of `alembic history`, such as "<base> -> 27c6a30d7c24 (head), create account".
            let end = rest.find([' ', ',']).unwrap_or(rest.len());
            self.define(&rest[..end]);
            return Some(());
        }
        if line.contains(char::is_whitespace) {
            return None;
        }
        let migration = match tool {
            // The name of a file, or its version alone.
            Preset::Rails => leading_digits(line)?.to_owned(),
            Preset::Flyway => flyway_version(line.strip_suffix(".sql").unwrap_or(line))?,
            Preset::Sqlx | Preset::Goose => number(line)?,
            Preset::Diesel => diesel_version(line),
            Preset::Alembic | Preset::Knex | Preset::Prisma | Preset::Django => line.to_owned(),
        };
        self.define(&migration);
        Some(())
    }

    /// A line of `showmigrations`, with or without `--plan`, or a name.
    fn read_django(&mut self, line: &str) -> Option<()> {
        if line == "(no migrations)" {
            return Some(());
        }
        if let Some((squashed, replaced)) = line.split_once(" replaces ") {
            for name in std::iter::once(squashed).chain(replaced.split(',')) {
                let name = name.trim();
                self.define(is_django(name).then_some(name)?);
            }
            return Some(());
        }
        let marks = ["[X]", "[x]", "[ ]", "[-]"];
        let Some(rest) = marks.iter().find_map(|mark| line.strip_prefix(mark)) else {
            if is_django(line) {
                self.define(line);
            } else {
                self.heading = Some(is_identifier(line).then(|| line.to_owned())?);
            }
            return Some(());
        };
        let rest = rest.trim_start();
        let (name, note) = match rest.find(char::is_whitespace) {
            Some(at) => (&rest[..at], rest[at..].trim_start()),
            None => (rest, ""),
        };
        // Notes such as "(2 squashed migrations)" and, with --verbosity 2, "... (polls.0001_initial)".
        if !(note.is_empty() || note.starts_with('(') || note.starts_with("...")) {
            return None;
        }
        if is_django(name) {
            self.define(name);
        } else {
            let qualified = format!("{}.{name}", self.heading.as_ref()?);
            self.define(is_django(&qualified).then_some(&qualified)?);
        }
        Some(())
    }

    fn define(&mut self, migration: &str) {
        match self.tool {
            Some(tool) => define(&mut self.defined, tool, migration),
            None => drop(self.defined.insert(migration.to_owned())),
        }
    }
}

/// Defines a migration under each name that its tool may record.
fn define(defined: &mut HashSet<String>, tool: Preset, migration: &str) {
    // Knex records the name of the file that it ran, which a compiler may have made.
    if tool == Preset::Knex
        && let Some((name, extension)) = migration.rsplit_once('.')
        && let Some(kind) = extension.strip_suffix("ts")
        && matches!(kind, "" | "c" | "m")
    {
        defined.insert(format!("{name}.{kind}js"));
    }
    defined.insert(migration.to_owned());
}

/// Whether the name of a file begins with a date such as `2026_01_02`: its revision follows somewhere.
fn begins_with_year(name: &str) -> bool {
    let mut parts = name.split('_');
    let mut is_number = |digits: usize| {
        let part = parts.next();
        part.is_some_and(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))
    };
    is_number(4) && is_number(2)
}

/// Whether it is the name of a migration of Django, such as `polls.0001_initial`.
fn is_django(text: &str) -> bool {
    text.split_once('.').is_some_and(|(app, name)| {
        is_identifier(app) && !name.is_empty() && !name.contains(|c: char| c.is_whitespace())
    })
}

/// Whether it can be the label of an app, which is an identifier of Python.
fn is_identifier(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The digits that the name begins with, which `_` ends.
fn leading_digits(name: &str) -> Option<&str> {
    let end = name.find(|c: char| !c.is_ascii_digit());
    let end = end.unwrap_or(name.len());
    let ends = name[end..].is_empty() || name[end..].starts_with(['_', '.']);
    (end > 0 && ends).then(|| &name[..end])
}

/// The same as a number, for the tools that keep it as one.
fn number(name: &str) -> Option<String> {
    let digits = leading_digits(name)?.trim_start_matches('0');
    Some(if digits.is_empty() { "0" } else { digits }.to_owned())
}

/// The version in the name of a versioned or a baseline migration of Flyway, such as `V1_2__create`, or the version alone.
fn flyway_version(name: &str) -> Option<String> {
    let version = match name.split_once("__") {
        Some((version, _)) => version.strip_prefix(['V', 'B'])?,
        None => name.strip_prefix('V').unwrap_or(name),
    };
    let version = version.replace('_', ".");
    let numbers = version.split('.');
    let are_numbers = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.into_iter().all(are_numbers).then_some(version)
}

/// Diesel takes the part before the first `_` of the directory's name, without `-`.
fn diesel_version(directory: &str) -> String {
    let version = directory
        .split_once('_')
        .map_or(directory, |(version, _)| version);
    version.replace('-', "")
}

#[cfg(test)]
mod tests;
