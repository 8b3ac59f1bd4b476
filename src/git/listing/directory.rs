//! The migrations among the files of a directory: by their names, and by their contents where these say more.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;

use super::{define, is_django, is_identifier, of_path};
use crate::config::{FilePattern, Preset};

/// The assignment of its id in a revision of Alembic, such as `revision: str = "27c6a30d7c24"`.
static REVISION: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?m)^revision\s*(?::[^=\n]+)?=\s*["']([^"'\n]+)["']"#));
/// The list of the migrations that a migration of Django replaces.
static REPLACES: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?m)^\s+replaces\s*(?::[^=\n]+)?=\s*[\[(]([^\]]*)"));
/// An app and a name in it.
static REPLACED: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"\(\s*["']([^"']+)["']\s*,\s*["']([^"']+)["']\s*,?\s*\)"#));
/// The label of an app in its `apps.py`, where it is not the name of its directory.
static LABEL: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?m)^\s+label\s*(?::[^=\n]+)?=\s*["']([^"'\n]+)["']"#));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is valid")
}

/// A directory of a revision.
pub(in crate::git) struct Directory<'a, R> {
    /// Its path in the repository; empty for all of it.
    pub(in crate::git) path: &'a str,
    /// The paths of all files below it.
    pub(in crate::git) files: &'a [String],
    /// Reads the file of this number.
    pub(in crate::git) read: R,
}

impl<E, R: FnMut(usize) -> Result<String, E>> Directory<'_, R> {
    /// The migrations in it, by the pattern for the names of their files or as the tool has them.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub(in crate::git) fn migrations(
        mut self,
        pattern: Option<&FilePattern>,
        tool: Option<Preset>,
    ) -> Result<HashSet<String>, E> {
        let mut defined = HashSet::new();
        match (pattern, tool) {
            (Some(pattern), _) => {
                let named = self.files.iter().filter_map(|file| pattern.migration(file));
                defined.extend(named.map(str::to_owned));
            }
            (None, Some(Preset::Alembic)) => self.read_alembic(&mut defined)?,
            (None, Some(Preset::Django)) => self.read_django(&mut defined)?,
            (None, Some(tool)) => {
                for file in self.files {
                    if let Some(migration) = of_path(tool, &format!("{}/{file}", self.path)) {
                        define(&mut defined, tool, &migration);
                    }
                }
            }
            (None, None) => {}
        }
        Ok(defined)
    }

    /// The id is in the file: its name follows a template of the project's.
    fn read_alembic(&mut self, defined: &mut HashSet<String>) -> Result<(), E> {
        for (number, file) in self.files.iter().enumerate() {
            if !file.ends_with(".py") {
                continue;
            }
            let text = (self.read)(number)?;
            if let Some(groups) = REVISION.captures(&text) {
                defined.insert(groups[1].to_owned());
            }
        }
        Ok(())
    }

    /// The migrations that a squashed one replaces are in its file, and the label of an app may be in `apps.py`.
    fn read_django(&mut self, defined: &mut HashSet<String>) -> Result<(), E> {
        let labels = self.django_labels()?;
        for (number, file) in self.files.iter().enumerate() {
            let path = format!("{}/{file}", self.path);
            let Some(migration) = of_path(Preset::Django, &path) else {
                continue;
            };
            let label = app_directory(file).and_then(|directory| labels.get(directory));
            match (label, migration.split_once('.')) {
                (Some(label), Some((_, name))) => defined.insert(format!("{label}.{name}")),
                _ => defined.insert(migration),
            };
            let text = (self.read)(number)?;
            let replaces = REPLACES.captures(&text);
            let replaced = replaces
                .iter()
                .flat_map(|groups| REPLACED.captures_iter(groups.get(1).map_or("", |g| g.as_str())))
                .map(|groups| format!("{}.{}", &groups[1], &groups[2]))
                .filter(|migration| is_django(migration));
            defined.extend(replaced);
        }
        Ok(())
    }

    /// The labels of apps by their directories, where a directory has one.
    fn django_labels(&mut self) -> Result<HashMap<String, String>, E> {
        let with_migrations: HashSet<&str> = self
            .files
            .iter()
            .filter_map(|file| app_directory(file))
            .collect();
        let mut labels = HashMap::new();
        for (number, file) in self.files.iter().enumerate() {
            let Some((directory, "apps.py")) = file.rsplit_once('/') else {
                continue;
            };
            if !with_migrations.contains(directory) {
                continue;
            }
            let text = (self.read)(number)?;
            let mut found = LABEL.captures_iter(&text);
            if let (Some(groups), None) = (found.next(), found.next())
                && is_identifier(&groups[1])
            {
                labels.insert(directory.to_owned(), groups[1].to_owned());
            }
        }
        Ok(labels)
    }
}

/// The directory of the app that has this file among its migrations.
fn app_directory(file: &str) -> Option<&str> {
    let (directory, _) = file.rsplit_once('/')?;
    directory.strip_suffix("/migrations")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn defined(tool: Preset, path: &str, files: &[(&str, &str)]) -> Vec<String> {
        let names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        let directory = Directory {
            path,
            files: &names,
            read: |number: usize| Ok::<_, Infallible>(files[number].1.to_owned()),
        };
        let Ok(migrations) = directory.migrations(None, Some(tool));
        let mut migrations: Vec<String> = migrations.into_iter().collect();
        migrations.sort();
        migrations
    }

    #[test]
    fn revisions_of_alembic_are_in_their_files() {
        let files = [
            (
                "2026_01_02_0304-27c6a30d7c24_create.py",
                "\"\"\"create\n\nRevision ID: 1\n\"\"\"\nrevision: str = '27c6a30d7c24'\ndown_revision = 'x'\n",
            ),
            (
                "2025/more.py",
                "down_revision: str | None = None\nrevision = \"0002\"\n",
            ),
            ("typed.py", "revision: Union[str, None] = 'abc'\n"),
            ("__init__.py", ""),
            ("env.py", "    revision = 'indented'\n"),
            ("notes.txt", "revision = 'none'\n"),
        ];
        assert_eq!(
            defined(Preset::Alembic, "migrations/versions", &files),
            ["0002", "27c6a30d7c24", "abc"]
        );
    }

    #[test]
    fn squashed_migrations_and_labels_of_django_are_read_from_their_files() {
        let squashed = "class Migration(migrations.Migration):\n    replaces = [\n        ('polls', '0001_initial'),\n        # this one, too\n        (\"polls\", \"0002_more\",),\n    ]\n    dependencies = [('auth', '0001_initial')]\n";
        let files = [
            ("polls/migrations/0001_squashed_0002_more.py", squashed),
            (
                "polls/migrations/0003_x.py",
                "    dependencies = [('polls', '0002_more')]\n",
            ),
            ("polls/migrations/__init__.py", ""),
            (
                "polls/apps.py",
                "class PollsConfig(AppConfig):\n    name = 'polls'\n",
            ),
            ("shop/pages/migrations/0001_initial.py", ""),
            (
                "shop/pages/apps.py",
                "class Config(AppConfig):\n    name = 'shop.pages'\n    label = \"shop_pages\"\n",
            ),
            ("tools/two.py", ""),
        ];
        assert_eq!(
            defined(Preset::Django, "", &files),
            [
                "polls.0001_initial",
                "polls.0001_squashed_0002_more",
                "polls.0002_more",
                "polls.0003_x",
                "shop_pages.0001_initial"
            ]
        );
        let below = [("0001_initial.py", "")];
        assert_eq!(
            defined(Preset::Django, "polls/migrations", &below),
            ["polls.0001_initial"]
        );
    }

    #[test]
    fn knex_records_what_its_sources_were_compiled_to() {
        let files = [
            ("20260102_a.ts", ""),
            ("20260103_b.js", ""),
            ("20260104_c.mts", ""),
        ];
        assert_eq!(
            defined(Preset::Knex, "migrations", &files),
            [
                "20260102_a.js",
                "20260102_a.ts",
                "20260103_b.js",
                "20260104_c.mjs",
                "20260104_c.mts"
            ]
        );
    }
}
