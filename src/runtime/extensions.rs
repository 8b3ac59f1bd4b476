//! The extensions whose files Postgres has where it runs, by the names of their control files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use multidb_store::SnapshotRecord;

/// It comes with Postgres, so a directory without it is none of extensions.
pub const BUILT_IN: &str = "plpgsql";

/// The remedy for a missing one.
pub const HINT: &str = "Install it where Postgres runs (a package, or an image that has it as runtime.image); until then what uses its library fails.";

/// The extensions whose control files are among these. `None` if the files are not of a directory of extensions.
pub fn of_files<'a>(files: impl Iterator<Item = &'a str>) -> Option<BTreeSet<String>> {
    let names = files.filter_map(|file| file.strip_suffix(".control"));
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    names.contains(BUILT_IN).then_some(names)
}

/// The extensions of local programs, by the places where packages put them; `None` if they are elsewhere. Blocks.
pub fn of_programs(programs: &Path, postgres_major: u16) -> Option<BTreeSet<String>> {
    let prefix = programs.parent().unwrap_or(programs);
    let places = [
        prefix.join("share/postgresql/extension"),
        prefix.join("share/extension"),
        // Debian's programs are in /usr/lib/postgresql.
        format!("/usr/share/postgresql/{postgres_major}/extension").into(),
    ];
    places.iter().find_map(|place| {
        // Trusted path: of a package.
        let entries = fs::read_dir(place).ok()?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        of_files(names.iter().map(String::as_str))
    })
}

/// The extensions that are not among these, with the ids of the snapshots that have them.
pub fn lacking<'a>(
    snapshots: impl Iterator<Item = &'a SnapshotRecord>,
    installed: &BTreeSet<String>,
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for snapshot in snapshots {
        let missing = snapshot.extensions.iter();
        for name in missing.filter(|name| !installed.contains(*name)) {
            lacking.entry(name).or_default().push(snapshot.id.as_str());
        }
    }
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::binaries::Binaries;

    #[test]
    fn control_files_are_those_of_extensions() {
        let files = [
            "plpgsql.control",
            "hstore.control",
            "hstore--1.8.sql",
            "README",
        ];
        let expected = ["hstore", "plpgsql"].map(str::to_owned);
        assert_eq!(of_files(files.into_iter()), Some(BTreeSet::from(expected)));
        assert_eq!(of_files(["hstore.control"].into_iter()), None);
    }

    #[tokio::test]
    async fn extensions_of_installed_programs_are_found() {
        let binaries = Binaries::search();
        for major in binaries.majors() {
            let programs = binaries.installation(major).await.unwrap().directory;
            assert!(
                of_programs(&programs, major).is_some(),
                "{}",
                programs.display()
            );
        }
    }
}
