//! Which file each relation of a snapshot has: `relations.json` beside its manifest.
//!
//! A relation that is written anew gets a file of another name (`VACUUM FULL`, `REINDEX`, a preparation), and a table
//! more in a dump moves the files of all that follow. By their names, relations are found again in another snapshot.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use multidb_store::atomic_file;
use serde::{Deserialize, Serialize};

const FILE: &str = "relations.json";
const MODE: u32 = 0o644;

/// The files of a snapshot's relations, without the numbers of their segments, by the names of the relations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Relations(BTreeMap<String, PathBuf>);

impl Relations {
    /// Adds a relation. Relations in `global` are the same in each database.
    pub fn add(&mut self, database: &str, name: &str, path: &str) {
        let database = if path.starts_with("global/") {
            ""
        } else {
            database
        };
        self.0.insert(format!("{database}.{name}"), path.into());
    }

    /// The relations of a snapshot, from its directory; `None` if they are not known, as in snapshots of earlier
    /// versions.
    pub fn read(snapshot: &Path) -> Option<Self> {
        let text = std::fs::read(snapshot.join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes them into the directory of a snapshot.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, snapshot: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        atomic_file::replace(&snapshot.join(FILE), &text, MODE, |_| Ok(()))
    }
}

/// Which file of another snapshot has the relation of a file.
#[derive(Debug, Default)]
pub struct Counterparts(HashMap<PathBuf, Option<PathBuf>>);

impl Counterparts {
    /// From one snapshot to another one. Without the relations of both, each file is its own counterpart.
    pub fn new(from: Option<Relations>, to: Option<&Relations>) -> Self {
        let (Some(from), Some(to)) = (from, to) else {
            return Self::default();
        };
        let pairs = from.0.into_iter();
        Self(
            pairs
                .map(|(name, path)| (path, to.0.get(&name).cloned()))
                .collect(),
        )
    }

    /// The path in the other snapshot; `None` if its relation is not there. Files of no relation have the same path.
    pub fn of(&self, path: &Path) -> Option<PathBuf> {
        let Some((relation, suffix)) = split(path) else {
            return Some(path.to_owned());
        };
        match self.0.get(&relation) {
            None => Some(path.to_owned()),
            Some(None) => None,
            Some(Some(other)) => {
                let mut other = other.clone().into_os_string();
                other.push(suffix);
                Some(other.into())
            }
        }
    }
}

/// A relation's path, and the end of a name that tells its fork and segment, such as `_fsm` and `.1` (Postgres'
/// documentation, "Database File Layout").
fn split(path: &Path) -> Option<(PathBuf, &str)> {
    let name = path.file_name()?.to_str()?;
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = name.split_at(digits);
    (digits > 0).then(|| (path.with_file_name(number), suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counterpart_is_the_file_of_the_relation_of_the_same_name() {
        let relations = |files: &[(&str, &str, &str)]| {
            let mut relations = Relations::default();
            for (database, name, path) in files {
                relations.add(database, name, path);
            }
            relations
        };
        let from = relations(&[
            ("app", "public.moved", "base/5/100"),
            ("app", "public.dropped", "base/5/101"),
            ("other", "public.moved", "base/6/100"),
            ("other", "pg_catalog.pg_database", "global/1262"),
        ]);
        let to = relations(&[
            ("app", "public.moved", "base/5/200"),
            ("other", "public.moved", "base/7/300"),
            ("app", "pg_catalog.pg_database", "global/1300"),
        ]);
        let counterparts = Counterparts::new(Some(from.clone()), Some(&to));
        for (path, other) in [
            ("base/5/100", Some("base/5/200")),
            ("base/5/100.1", Some("base/5/200.1")),
            ("base/5/100_fsm", Some("base/5/200_fsm")),
            ("base/5/101", None),
            ("base/6/100_vm", Some("base/7/300_vm")),
            ("base/6/1000", Some("base/6/1000")),
            ("global/1262", Some("global/1300")),
            ("base/5/PG_VERSION", Some("base/5/PG_VERSION")),
            ("pg_xact/0000", Some("pg_xact/0000")),
        ] {
            assert_eq!(
                counterparts.of(path.as_ref()),
                other.map(PathBuf::from),
                "{path}"
            );
        }
        let unknown = Counterparts::new(Some(from), None);
        assert_eq!(unknown.of("base/5/101".as_ref()), Some("base/5/101".into()));
    }

    #[test]
    fn relations_are_read_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Relations::read(directory.path()), None);
        let mut relations = Relations::default();
        relations.add("a \"b", "public.\"C.d\"", "base/1/2");
        relations.write(directory.path()).unwrap();
        assert_eq!(Relations::read(directory.path()), Some(relations));
    }
}
