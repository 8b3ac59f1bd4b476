//! Files of a prepared data directory that its cluster does not have: they may hold data that a preparation removed.
//!
//! A crash of the source's server leaves files of relations that were never committed, or were dropped; operators
//! leave logs and dumps beside the data; extensions keep the texts of queries.

use std::collections::HashSet;
use std::path::Path;

use crate::fsutil::beneath::{Directory, Kind, TreeError, Walk};
use crate::import::source::MAY_BE_EMPTY;
use crate::runtime::carried;

/// The files and directories of Postgres itself at the top, beside the directories of [`MAY_BE_EMPTY`], and multidb's
/// settings.
const AT_TOP: [&str; 11] = [
    "PG_VERSION",
    "base",
    "global",
    "pg_multixact",
    "pg_wal",
    "pg_xact",
    "postgresql.conf",
    "postgresql.auto.conf",
    "pg_hba.conf",
    "pg_ident.conf",
    carried::FILE,
];

/// The directories whose files a server makes anew, or has for something that has ended: counters with the texts of
/// queries (`pg_stat`), the payloads of NOTIFY, and the state of logical decoding.
const EMPTIED: [&str; 5] = [
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_notify",
    "pg_snapshots",
    "pg_stat",
];

/// The files of a directory of relations that are none of a relation.
const NO_RELATIONS: [&str; 3] = ["PG_VERSION", "pg_control", "pg_filenode.map"];

/// The files that a cluster has.
#[derive(Debug, Default)]
pub(in crate::import) struct Kept {
    /// Of relations, each by the path of its first file, such as `base/5/16384`.
    pub(super) files: HashSet<String>,
    /// Directories that are kept as they are.
    pub(super) directories: HashSet<String>,
}

/// The treatment of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    /// It goes, and the operator may miss it.
    GoesWithWarning,
}

impl Kept {
    fn fate(&self, relative: &Path, kind: Kind) -> Fate {
        let path = relative.to_string_lossy();
        let parent = relative.parent().unwrap_or(Path::new(""));
        let goes = |goes| if goes { Fate::Goes } else { Fate::Stays };
        if parent.as_os_str().is_empty() {
            let is_known = AT_TOP.contains(&&*path) || MAY_BE_EMPTY.contains(&&*path);
            return match is_known {
                true => Fate::Stays,
                false => Fate::GoesWithWarning,
            };
        }
        if EMPTIED
            .iter()
            .any(|directory| parent == Path::new(directory))
        {
            return Fate::Goes;
        }
        if kind == Kind::Directory {
            return Fate::Stays;
        }
        if parent == Path::new("pg_wal") {
            // A file that an archive command has not taken is `….partial`, a file that is being made `xlogtemp.…`.
            let is_segment = path.len() == "pg_wal/".len() + 24 && !path.contains('.');
            return goes(!is_segment && !path.ends_with(".history"));
        }
        let is_of_relations = ["base", "global", "pg_tblspc"]
            .iter()
            .any(|directory| relative.starts_with(directory));
        if !is_of_relations {
            return Fate::Stays;
        }
        let is_kept_whole = parent.ancestors().any(|directory| {
            self.directories
                .contains(directory.to_string_lossy().as_ref())
        });
        let name = relative.file_name().unwrap_or_default().to_string_lossy();
        goes(
            !is_kept_whole
                && !NO_RELATIONS.contains(&&*name)
                && !self.files.contains(first_file(&path)),
        )
    }
}

/// The first file of the relation that a file belongs to: without the number of its segment and the name of its
/// fork.
fn first_file(path: &str) -> &str {
    let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
    let name = &path[name_at..];
    let end = name.find('.').unwrap_or(name.len());
    let name = &name[..end];
    let of_fork = ["_fsm", "_vm", "_init"]
        .iter()
        .find_map(|fork| name.strip_suffix(fork));
    &path[..name_at + of_fork.unwrap_or(name).len()]
}

/// Removes the files that the cluster does not have. Returns the removed entries at the top. Blocks.
pub(in crate::import) fn remove_leftovers(
    data_dir: &Path,
    kept: &Kept,
) -> Result<Vec<String>, TreeError> {
    let mut named = Vec::new();
    let mut walk = Walk::new(Directory::open(data_dir)?)?;
    while let Some(kind) = walk.advance()? {
        if kind == Kind::End {
            continue;
        }
        match kept.fate(walk.relative(), kind) {
            Fate::Stays if kind == Kind::Directory => {
                walk.enter()?;
            }
            Fate::Stays => {}
            fate => {
                let path = walk.relative().display().to_string();
                tracing::info!(
                    path,
                    "a file that the prepared cluster does not have is removed"
                );
                walk.remove()?;
                if fate == Fate::GoesWithWarning {
                    named.push(path);
                }
            }
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_the_cluster_has_stays() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept {
            files: ["base/5/100", "global/1262"].map(str::to_owned).into(),
            directories: ["base/4".to_owned()].into(),
        };
        let stay = [
            "PG_VERSION",
            "base/5/100",
            "base/5/100.1",
            "base/5/100_fsm",
            "base/5/100_vm.1",
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/4/7",
            "global/1262",
            "global/pg_control",
            "multidb.conf",
            "pg_wal/00000001000000010000002A",
            "pg_wal/00000002.history",
            "pg_xact/0000",
            "pg_logical/replorigin_checkpoint",
        ];
        let go = [
            "base/5/1000",
            "base/5/10",
            "base/5/t3_100",
            "base/9/100",
            "global/12620",
            "global/pg_control.old",
            "pg_stat/pg_stat_statements.stat",
            "pg_notify/0000",
            "pg_wal/00000001000000010000002A.partial",
            "pg_wal/xlogtemp.12",
            "pg_tblspc/17/PG_15_202209061/5/100",
        ];
        let at_top = ["dump.sql", "pg_tde"];
        for path in stay.iter().chain(&go).chain(&["dump.sql", "pg_tde/key"]) {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let mut named = remove_leftovers(directory.path(), &kept).unwrap();
        named.sort();
        assert_eq!(named, at_top);
        for path in stay {
            assert!(directory.path().join(path).exists(), "{path}");
        }
        for path in go.iter().chain(&at_top) {
            assert!(!directory.path().join(path).exists(), "{path}");
        }
    }
}
