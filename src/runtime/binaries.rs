//! Finds the programs of each Postgres major on this machine.

mod libraries;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use multidb_actors::ports::RuntimeError;
use tokio::time::Instant;

use super::version::version_of;

/// The directories of distributions' packages, with the major version for `{}`.
const VERSIONED_DIRECTORIES: [&str; 6] = [
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/usr/lib/postgresql{}/bin",
    "/usr/local/pgsql-{}/bin",
    "/opt/homebrew/opt/postgresql@{}/bin",
    "/usr/local/opt/postgresql@{}/bin",
];
/// Directories without a version in the path.
const UNVERSIONED_DIRECTORIES: [&str; 2] = ["/usr/local/pgsql/bin", "/usr/bin"];
/// The majors of Postgres that are looked for.
pub const MAJORS: RangeInclusive<u16> = 12..=20;

/// The least time between two searches: each search runs a program for each version.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// The programs of one Postgres major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The directory of the programs.
    pub directory: PathBuf,
    /// The directories of the shared libraries that they need.
    libraries: Vec<PathBuf>,
}

impl Installation {
    fn of(directory: PathBuf) -> Self {
        Self {
            libraries: libraries::directories(&directory),
            directory,
        }
    }

    /// The directories that the programs read: their installation, with its libraries and data, and the directories of
    /// other libraries.
    pub fn trees(&self) -> Vec<PathBuf> {
        let prefix = self.directory.parent().unwrap_or(&self.directory);
        let mut trees = vec![prefix.to_owned()];
        trees.extend_from_slice(&self.libraries);
        trees
    }
}

/// The installations that were found, by major version.
#[derive(Debug, Default)]
pub struct Binaries {
    found: Mutex<BTreeMap<u16, Installation>>,
    /// The time of the last search. Held during a search.
    searched: tokio::sync::Mutex<Option<Instant>>,
}

impl Binaries {
    /// Searches now, so that no start has to. Runs each program for its version.
    pub fn search() -> Self {
        Self {
            found: Mutex::new(search()),
            searched: tokio::sync::Mutex::default(),
        }
    }

    /// The programs of this major.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub async fn installation(&self, postgres_major: u16) -> Result<Installation, RuntimeError> {
        if let Some(installation) = self.known(postgres_major) {
            return Ok(installation);
        }
        // It may have been installed since.
        let mut searched = self.searched.lock().await;
        if searched.is_none_or(|at| at.elapsed() >= SEARCH_INTERVAL) {
            if let Ok(found) = tokio::task::spawn_blocking(search).await {
                *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
            *searched = Some(Instant::now());
        }
        self.known(postgres_major).ok_or_else(|| RuntimeError {
            for_clients: true,
            message: format!("the programs of PostgreSQL {postgres_major} are not installed"),
            hint: Some(format!(
                "Install them (on Debian: apt-get install postgresql-{postgres_major}), or put their directory into PATH."
            )),
        })
    }

    fn known(&self, postgres_major: u16) -> Option<Installation> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let installation = found.get(&postgres_major)?;
        let server = installation.directory.join("postgres");
        server.exists().then(|| installation.clone())
    }

    /// The directories of the programs that were found.
    pub fn directories(&self) -> Vec<PathBuf> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let directories = found.values().map(|found| found.directory.clone());
        directories.collect()
    }

    /// The majors that were found.
    pub fn majors(&self) -> Vec<u16> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.keys().copied().collect()
    }
}

fn search() -> BTreeMap<u16, Installation> {
    let found = directories_by_major().into_iter();
    found
        .map(|(major, directory)| (major, Installation::of(directory)))
        .collect()
}

fn directories_by_major() -> BTreeMap<u16, PathBuf> {
    let mut found = BTreeMap::new();
    for major in MAJORS {
        let directories = VERSIONED_DIRECTORIES
            .iter()
            .map(|directory| directory.replace("{}", &major.to_string()));
        for directory in directories.map(PathBuf::from) {
            if major_of(&directory) == Some(major) {
                found.entry(major).or_insert(directory);
            }
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path =
        std::env::split_paths(&path).chain(UNVERSIONED_DIRECTORIES.iter().map(PathBuf::from));
    for directory in in_path {
        // A link in PATH may be to the server alone, so the other programs are beside its target.
        let Ok(server) = directory.join("postgres").canonicalize() else {
            continue;
        };
        let Some(directory) = server.parent() else {
            continue;
        };
        if let Some(major) = major_of(directory) {
            found.entry(major).or_insert_with(|| directory.to_owned());
        }
    }
    found
}

/// The major version of the programs in a directory, if all the needed ones are there.
fn major_of(directory: &Path) -> Option<u16> {
    let needed = ["postgres", "initdb", "pg_controldata"];
    if !needed
        .iter()
        .all(|program| directory.join(program).exists())
    {
        return None;
    }
    major_in(&version_of(&directory.join("postgres")).ok()?)
}

/// The major version in the output of `postgres --version`, such as "postgres (PostgreSQL) 15.14 (Debian 15.14-1)".
pub fn major_in(version: &str) -> Option<u16> {
    let mut words = version.split_whitespace();
    let number = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_is_the_first_number_of_a_version() {
        let debian = "postgres (PostgreSQL) 15.14 (Debian 15.14-1.pgdg12+1)\n";
        assert_eq!(major_in(debian), Some(15));
        assert_eq!(major_in("postgres (PostgreSQL) 18beta3"), Some(18));
        assert_eq!(major_in("nonsense"), None);
    }
}
