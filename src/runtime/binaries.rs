//! Finds the programs of each Postgres major on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use multidb_actors::ports::RuntimeError;
use tokio::time::Instant;

/// Where packages put the programs, with the major version for `{}`.
const USUAL_PLACES: [&str; 6] = [
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/usr/lib/postgresql{}/bin",
    "/usr/local/pgsql-{}/bin",
    "/opt/homebrew/opt/postgresql@{}/bin",
    "/usr/local/opt/postgresql@{}/bin",
];
/// Where they are without a version in the path.
const UNVERSIONED_PLACES: [&str; 2] = ["/usr/local/pgsql/bin", "/usr/bin"];
/// The major versions that are looked for.
const MAJORS: std::ops::RangeInclusive<u16> = 12..=20;

/// How long what was not found is not looked for again: each look runs a program for each version.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// The directories of programs that were found, by major version.
#[derive(Debug, Default)]
pub struct Binaries {
    found: Mutex<BTreeMap<u16, PathBuf>>,
    /// When they were looked for last. Held while they are.
    searched: tokio::sync::Mutex<Option<Instant>>,
}

impl Binaries {
    /// Looks for them now, so that no start has to: it asks each program for its version.
    pub fn search() -> Self {
        Self {
            found: Mutex::new(search()),
            searched: tokio::sync::Mutex::default(),
        }
    }

    /// The directory with the programs of this major.
    ///
    /// # Errors
    ///
    /// There is none on this machine.
    pub async fn directory(&self, postgres_major: u16) -> Result<PathBuf, RuntimeError> {
        if let Some(directory) = self.known(postgres_major) {
            return Ok(directory);
        }
        // Something may have been installed since.
        let mut searched = self.searched.lock().await;
        if searched.is_none_or(|at| at.elapsed() >= SEARCH_INTERVAL) {
            if let Ok(found) = tokio::task::spawn_blocking(search).await {
                *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
            *searched = Some(Instant::now());
        }
        self.known(postgres_major).ok_or_else(|| RuntimeError {
            message: format!("the programs of PostgreSQL {postgres_major} are not installed"),
            hint: Some(format!(
                "Install them (on Debian: apt-get install postgresql-{postgres_major}), or put their directory into PATH."
            )),
        })
    }

    fn known(&self, postgres_major: u16) -> Option<PathBuf> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = found.get(&postgres_major)?;
        directory
            .join("postgres")
            .exists()
            .then(|| directory.clone())
    }

    /// The directories of the programs that were found.
    pub fn directories(&self) -> Vec<PathBuf> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.values().cloned().collect()
    }

    /// The majors that were found.
    pub fn majors(&self) -> Vec<u16> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.keys().copied().collect()
    }
}

fn search() -> BTreeMap<u16, PathBuf> {
    let mut found = BTreeMap::new();
    for major in MAJORS {
        let places = USUAL_PLACES
            .iter()
            .map(|place| place.replace("{}", &major.to_string()));
        for place in places.map(PathBuf::from) {
            if major_of(&place) == Some(major) {
                found.entry(major).or_insert(place);
            }
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).chain(UNVERSIONED_PLACES.iter().map(PathBuf::from));
    for place in in_path {
        // A link in PATH may be to the server alone, so its neighbours are looked for at its end.
        let Ok(server) = place.join("postgres").canonicalize() else {
            continue;
        };
        let Some(place) = server.parent() else {
            continue;
        };
        if let Some(major) = major_of(place) {
            found.entry(major).or_insert_with(|| place.to_owned());
        }
    }
    found
}

/// The major version of the programs in a directory, if all that we need are there.
fn major_of(directory: &Path) -> Option<u16> {
    let needed = ["postgres", "initdb", "pg_controldata"];
    if !needed
        .iter()
        .all(|program| directory.join(program).exists())
    {
        return None;
    }
    let output = Command::new(directory.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(2)?;
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}
