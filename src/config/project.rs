//! `[project.*]`: a code base with its repository and its database.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use multidb_actors::limits::IdleTimeouts;
use multidb_actors::snapshot_index::decision::Ignored;
use multidb_store::ProjectName;
use regex::Regex;

use super::limits::idle_timeouts;
use super::migrations::{CustomQuery, MigrationsQuery, Preset};
use super::prepare::{self, Preparation};
use super::refresh::{self, RefreshConfig};
use super::section::{Origin, Report, Section, kind};
use super::value::{Value, string, word};

/// One project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its repository.
    pub git: GitRemote,
    /// Where a revision defines its migrations.
    pub listing: Listing,
    /// The query for the applied migrations of a snapshot.
    pub migrations: MigrationsQuery,
    /// Applied migrations that are not compared, as globs.
    pub ignore: Vec<String>,
    /// The default database of clients.
    pub database: String,
    /// The default role of clients.
    pub role: String,
    /// The encoding of the database, where a dump does not say one.
    pub encoding: Option<String>,
    /// The locale of the database, where a dump does not say one, or says one that is not available.
    pub locale: Option<String>,
    /// The idle limits of its sessions, in place of the general ones.
    pub idle: IdleTimeouts,
    /// Where its next snapshot comes from, and when.
    pub refresh: Option<RefreshConfig>,
    /// What is run on restored data before it becomes a snapshot, in this order.
    pub prepare: Vec<Preparation>,
    /// Which instances offer their data as a snapshot.
    pub publish: Publish,
    /// The clones of its newest snapshot that are kept ready.
    pub prewarm: usize,
}

/// Which instances of a project offer their data as a snapshot by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// None.
    Never,
    /// Those that ran migrations and stopped.
    Auto,
}

impl Publish {
    const WORDS: [(&str, Self); 2] = [("never", Self::Never), ("auto", Self::Auto)];
}

impl Value for Publish {
    fn read(value: &toml::Value) -> Result<Self, String> {
        word(value, &Self::WORDS)
    }

    fn show(&self) -> toml::Value {
        let word = Self::WORDS.iter().find(|(_, publish)| publish == self);
        string(word.map_or("", |(name, _)| name))
    }
}

impl Project {
    /// The databases that get another name in every import, and that name.
    pub fn rename_database(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let refresh = self.refresh.as_ref();
        refresh.map_or(&NONE, |refresh| &refresh.rename_database)
    }
}

/// Where a revision defines its migrations, in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// A file with a migration a line.
    File(String),
    /// The files below a directory.
    Directory {
        /// Its path; empty for the whole repository.
        dir: String,
        /// The names of the files. Without one, those of the project's tool.
        pattern: Option<FilePattern>,
    },
}

impl Listing {
    /// The path of the file or the directory.
    pub fn path(&self) -> &str {
        match self {
            Self::File(path) | Self::Directory { dir: path, .. } => path,
        }
    }
}

/// A pattern for the whole name of a file, or for its path below the directory if it has a slash. Its group
/// `migration` is the migration's name.
#[derive(Debug, Clone)]
pub struct FilePattern {
    text: String,
    regex: Regex,
}

impl FilePattern {
    /// The migration of the file with this path below the directory, if it is one.
    pub fn migration<'a>(&self, path: &'a str) -> Option<&'a str> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let matched = if self.text.contains('/') { path } else { name };
        let groups = self.regex.captures(matched)?;
        groups.name(MIGRATION).map(|group| group.as_str())
    }
}

impl PartialEq for FilePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for FilePattern {}

/// The group of a [`FilePattern`].
const MIGRATION: &str = "migration";

impl Value for FilePattern {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        let regex = Regex::new(&format!("^(?:{text})$"))
            .map_err(|error| format!("is not a regular expression: {error}"))?;
        if !regex
            .capture_names()
            .flatten()
            .any(|name| name == MIGRATION)
        {
            return Err(format!(
                "has no group (?<{MIGRATION}>…) around the migration's name"
            ));
        }
        Ok(Self { text, regex })
    }

    fn show(&self) -> toml::Value {
        string(&self.text)
    }
}

/// The repository of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitRemote {
    /// A directory, which is read in place.
    Local(PathBuf),
    /// A URL that git can fetch from; it is mirrored under the root.
    Remote(String),
}

impl fmt::Display for GitRemote {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Remote(url) => f.write_str(&without_secret(url)),
        }
    }
}

impl Value for GitRemote {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) && !text.starts_with('/') {
            return Err("contains a space".to_owned());
        }
        if text.starts_with('/') {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        if is_remote(&text) {
            return Ok(Self::Remote(text));
        }
        Err(format!(
            "\"{}\" is neither an absolute path nor a URL with https://, http://, ssh://, file:// \
             or git@host:path",
            without_secret(&text)
        ))
    }

    fn show(&self) -> toml::Value {
        string(self.to_string())
    }
}

/// Whether git can fetch from it, and no part of it can be taken for an option of git or ssh.
fn is_remote(text: &str) -> bool {
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        return match scheme {
            "https" | "http" | "ssh" => {
                host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
                    && !rest.starts_with('-')
            }
            "file" => rest.starts_with('/'),
            _ => false,
        };
    }
    let Some((user, rest)) = text.split_once('@') else {
        return false;
    };
    let Some((host, path)) = rest.split_once(':') else {
        return false;
    };
    let is_word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_word(user) && is_word(host) && !path.is_empty()
}

/// The URL without its secrets: a password, or a login over HTTP without a password, which is often a
/// token.
pub(crate) fn without_secret(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, host) = authority.rsplit_once('@')?;
        let login = match login.split_once(':') {
            Some((user, _)) => format!("{user}:***"),
            None if scheme.starts_with("http") => "***".to_owned(),
            None => return None,
        };
        Some(format!("{scheme}://{login}@{host}{path}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

/// The path of a file in a repository.
struct ListingPath(String);

impl Value for ListingPath {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        if text.ends_with('/') || !is_inside(&text) {
            return Err(format!(
                "\"{text}\" is not the path of a file in the repository, such as \"migrations.txt\""
            ));
        }
        Ok(Self(text))
    }

    fn show(&self) -> toml::Value {
        string(&self.0)
    }
}

/// A glob for the names of migrations.
struct NameGlob(String);

impl Value for NameGlob {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        Ignored::new(std::slice::from_ref(&text))
            .map_err(|error| format!("is not a pattern such as \"auth.*\": {error}"))?;
        Ok(Self(text))
    }

    fn show(&self) -> toml::Value {
        string(&self.0)
    }
}

/// The path of a directory in a repository; `.` is all of it.
struct ListingDirectory(String);

impl Value for ListingDirectory {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        match text.trim_end_matches('/') {
            "." => Ok(Self(String::new())),
            path if is_inside(path) => Ok(Self(path.to_owned())),
            _ => Err(format!(
                "\"{text}\" is not the path of a directory in the repository, such as \"db/migrate\""
            )),
        }
    }

    fn show(&self) -> toml::Value {
        string(if self.0.is_empty() { "." } else { &self.0 })
    }
}

/// Whether it is a path in a repository.
fn is_inside(path: &str) -> bool {
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
    !path.is_empty() && Path::new(path).components().all(inside)
}

pub(super) fn read_all(section: Section, report: &mut Report) -> BTreeMap<ProjectName, Project> {
    let mut projects = BTreeMap::new();
    for (name, section) in section.into_sections(report) {
        let key = section.path().to_owned();
        let project = read(section, report);
        match (name.parse::<ProjectName>(), project) {
            (Ok(name), Some(project)) => {
                projects.insert(name, project);
            }
            (Ok(_), None) => {}
            (Err(invalid), _) => report.fault(key, invalid.to_string()),
        }
    }
    projects
}

fn read(mut section: Section, report: &mut Report) -> Option<Project> {
    let git = section.required("git", report);
    let migrations = migrations(&mut section, report);
    let listing = listing(&mut section, migrations.as_ref(), report);
    let ignore: Vec<NameGlob> = section.get("ignore", Vec::new(), report);
    let database = section.required("database", report);
    let role = section.get("role", "postgres".to_owned(), report);
    let encoding = section.optional("encoding", report);
    let locale = section.optional("locale", report);
    let idle = idle_timeouts(&mut section, report, |_| None);
    let refresh = section.existing_section("refresh", report);
    let refresh = refresh.and_then(|section| refresh::read(section, report));
    let prepare = prepare::read(&mut section, report);
    let publish = section.get("publish", Publish::Never, report);
    let prewarm = section.get("prewarm", 0, report);
    check_renamed(
        &section,
        database.as_ref(),
        migrations.as_ref(),
        refresh.as_ref(),
        report,
    );
    section.close(report);
    Some(Project {
        git: git?,
        listing: listing?,
        migrations: migrations?,
        ignore: ignore.into_iter().map(|glob| glob.0).collect(),
        database: database?,
        role,
        encoding,
        locale,
        idle,
        refresh,
        prepare,
        publish,
        prewarm,
    })
}

/// Reports settings of the project that name a database by the name that no import leaves it.
fn check_renamed(
    section: &Section,
    database: Option<&String>,
    migrations: Option<&MigrationsQuery>,
    refresh: Option<&RefreshConfig>,
    report: &mut Report,
) {
    let Some(refresh) = refresh else {
        return;
    };
    let of_migrations = migrations.and_then(MigrationsQuery::database);
    let named = [
        ("database", database.map(String::as_str)),
        ("migrations.database", of_migrations),
    ];
    for (key, name) in named {
        let Some((old, new)) = name.and_then(|name| refresh.rename_database.get_key_value(name))
        else {
            continue;
        };
        let message = format!("is \"{old}\", which refresh.rename_database makes \"{new}\"");
        report.fault(section.key(key), message);
    }
}

fn listing(
    section: &mut Section,
    migrations: Option<&MigrationsQuery>,
    report: &mut Report,
) -> Option<Listing> {
    if !section.is_section("listing") {
        let default = ListingPath("migrations.txt".to_owned());
        return Some(Listing::File(section.get("listing", default, report).0));
    }
    let mut parts = section.section("listing", report);
    if matches!(migrations, Some(MigrationsQuery::Query(_))) && !parts.sets("pattern") {
        let message = "is missing; only the files of a known tool need no pattern";
        report.fault(parts.key("pattern"), message);
    }
    let dir: Option<ListingDirectory> = parts.required("dir", report);
    let pattern = parts.optional("pattern", report);
    parts.close(report);
    let dir = dir?.0;
    Some(Listing::Directory { dir, pattern })
}

fn migrations(section: &mut Section, report: &mut Report) -> Option<MigrationsQuery> {
    let key = section.key("migrations");
    let value = section.take("migrations");
    match value {
        None => {
            report.fault(key, "is missing");
            None
        }
        Some(value @ toml::Value::String(_)) => {
            match word(&value, &Preset::ALL.map(|preset| (preset.name(), preset))) {
                Ok(preset) => {
                    report.setting(&key, string(preset.name()), Origin::File);
                    Some(MigrationsQuery::Preset(preset))
                }
                Err(message) => {
                    report.fault(key, format!("{message}, nor a section with a query"));
                    None
                }
            }
        }
        Some(toml::Value::Table(table)) => {
            let mut parts = Section::at(key, table);
            let query = parts.required("query", report);
            let database = parts.optional("database", report);
            parts.close(report);
            Some(MigrationsQuery::Query(CustomQuery {
                query: query?,
                database,
            }))
        }
        Some(other) => {
            let message = format!("is {}, but must be a preset or a section", kind(&other));
            report.fault(key, message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of the rows of a table that have five.
    fn rows(document: &str) -> impl Iterator<Item = [String; 5]> {
        document.lines().filter_map(|line| {
            // A stroke in a cell is escaped.
            let line = line.replace("\\|", "\u{0}");
            let cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
            let cells = cells.map(|cell| cell.trim_matches('`').replace('\u{0}', "|"));
            cells.collect::<Vec<_>>().try_into().ok()
        })
    }

    #[test]
    fn documented_patterns_find_the_migrations_of_their_tools() {
        let document = include_str!("../../docs/listings.md");
        let mut tools = 0;
        for [tool, _, pattern, file, migration] in rows(document).skip(2) {
            let read = FilePattern::read(&toml::Value::String(pattern));
            let pattern = read.unwrap_or_else(|error| panic!("{tool}: {error}"));
            let found = pattern.migration(&file);
            assert_eq!(found, Some(migration.as_str()), "{tool}");
            tools += 1;
        }
        assert!(tools >= 12, "{tools} tools");
    }
}
