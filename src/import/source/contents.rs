//! The contents of a data directory that are imported: its files, and the targets of the links of data in it.
//!
//! A link of data (`pg_wal`, a tablespace, a moved database or file) is replaced by its target, so that a clone has all
//! of its data for itself. Links of configuration, certificates and logs are left out. The author of the data directory
//! made the links, so outside of it only files are taken that have a name of Postgres' data and belong to the owner of
//! the data directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::fsutil::beneath::{DEPTH_MAX, Directory, Kind, TreeError, Walk};
use crate::import::control::Control;
use crate::import::error::{ImportError, refused, tree_error};
use crate::import::tree::{TreeSize, is_excluded};

/// The directories that are never empty.
const NEEDED: [&str; 6] = [
    "base",
    "global",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_wal",
    "pg_xact",
];

/// The directories that may be empty, and that some ways to copy leave out therefore.
pub(in crate::import) const MAY_BE_EMPTY: [&str; 15] = [
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal/archive_status",
];

/// The most links of data.
const PARTS_MAX: usize = 10_000;

/// The contents of a data directory that are imported.
#[derive(Debug, Clone, Default)]
pub(in crate::import) struct Contents {
    /// The size of its parts.
    pub(in crate::import) size: TreeSize,
    /// The directory itself, and the targets of the links and mount points in it; each after the part in which it is.
    pub(in crate::import) parts: Vec<Part>,
    /// The sizes of the databases, by the names of their directories in `base`.
    pub(in crate::import) databases: BTreeMap<OsString, u64>,
    /// The number of its prepared transactions.
    pub(in crate::import) prepared: u32,
    /// The links that are left out.
    pub(in crate::import) left_out: Vec<PathBuf>,
    /// The name of the system's user that owns it.
    pub(in crate::import) owner_name: Option<String>,
}

impl Contents {
    fn add_file(&mut self, place: &Path, bytes: u64) {
        self.size.bytes += bytes;
        self.size.files += 1;
        let mut names = place.iter();
        if let (Some(top), Some(database)) = (names.next(), names.next())
            && top == "base"
        {
            *self.databases.entry(database.to_owned()).or_default() += bytes;
        }
    }
}

/// A file or a tree of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::import) struct Part {
    /// Where it is in the data directory; empty for the directory itself.
    pub(in crate::import) place: PathBuf,
    /// Where its files are.
    pub(in crate::import) from: PathBuf,
    /// Whether it is one file.
    pub(in crate::import) is_file: bool,
    /// The only entry that belongs to it, if others may be beside: of the directory of a tablespace.
    only: Option<String>,
    /// The owner of its files, if it is outside of the data directory.
    owner: Option<u32>,
}

impl Part {
    /// The tree `from`, of which all is taken.
    pub(in crate::import) fn of_tree(place: impl Into<PathBuf>, from: &Path) -> Self {
        Self {
            place: place.into(),
            from: from.to_owned(),
            is_file: false,
            only: None,
            owner: None,
        }
    }

    /// Whether an entry belongs to it; `relative` is its path in this part.
    pub(in crate::import) fn includes(&self, relative: &Path) -> bool {
        if is_excluded(&self.place.join(relative)) {
            return false;
        }
        let name = relative.file_name().unwrap_or_default();
        let is_at_top = relative.components().count() == 1;
        let is_chosen = match &self.only {
            Some(only) if is_at_top => name == only.as_str(),
            _ => true,
        };
        is_chosen && (self.owner.is_none() || is_data_name(name))
    }

    /// Refuses a file of another user, which is perhaps a secret.
    pub(in crate::import) fn check_owner(
        &self,
        root: &Path,
        relative: &Path,
        uid: u32,
    ) -> Result<(), ImportError> {
        if self.owner.is_none_or(|owner| owner == uid) {
            return Ok(());
        }
        let path = self.from.join(relative);
        Err(refused(
            root,
            format!(
                "{} leads to {}, which belongs to another user than the data directory",
                self.place.display(),
                path.display()
            ),
            "Give it to the owner of the data directory (chown) if it is data of this cluster.",
        ))
    }
}

/// Looks at all of a data directory, and at the targets of the links in it. Blocks.
pub(super) fn inspect(
    root: &Path,
    postgres_major: u16,
    control: &Control,
) -> Result<Contents, ImportError> {
    check_complete(root)?;
    let top = Directory::open(root).and_then(|directory| directory.stat());
    let mut inspection = Inspection {
        root,
        owner: top.map_err(|error| tree_error(root, root, error))?.st_uid,
        tablespace: format!("PG_{postgres_major}_{}", control.catalog_version),
        contents: Contents::default(),
    };
    let owner = User::from_uid(Uid::from_raw(inspection.owner));
    inspection.contents.owner_name = owner.ok().flatten().map(|user| user.name);
    inspection.contents.parts.push(Part::of_tree("", root));
    let mut next = 0;
    while let Some(part) = inspection.contents.parts.get(next).cloned() {
        if !part.is_file {
            inspection.inspect_part(&part)?;
        }
        next += 1;
    }
    Ok(inspection.contents)
}

/// Refuses a data directory without directories that are never empty.
fn check_complete(root: &Path) -> Result<(), ImportError> {
    let directory = Directory::open(root).map_err(|error| tree_error(root, root, error))?;
    // An error is of a link on the way, which is looked at later.
    let is_absent = |name: &&&str| matches!(directory.find(**name), Ok(None));
    let missing = NEEDED.iter().find(is_absent);
    match missing {
        None => Ok(()),
        Some(name) => Err(refused(
            root,
            format!("it is incomplete: it has no {name}"),
            "Copy the data directory again, with everything in it, while its server is stopped.",
        )),
    }
}

struct Inspection<'a> {
    root: &'a Path,
    /// The owner of the data directory.
    owner: u32,
    /// The directory of this cluster in that of a tablespace.
    tablespace: String,
    contents: Contents,
}

impl Inspection<'_> {
    fn inspect_part(&mut self, part: &Part) -> Result<(), ImportError> {
        let root = self.root;
        let failed = |error| tree_error(root, root, error);
        let mut walk = Directory::open(&part.from)
            .and_then(Walk::new)
            .map_err(failed)?;
        while let Some(kind) = walk.advance().map_err(failed)? {
            if kind == Kind::End || !part.includes(walk.relative()) {
                continue;
            }
            let place = part.place.join(walk.relative());
            match kind {
                Kind::Directory => match walk.enter() {
                    Ok(_) => {}
                    Err(TreeError::MountPoint { path }) => self.add(place, path, false)?,
                    Err(error) => return Err(failed(error)),
                },
                Kind::File => {
                    let stat = walk.stat().map_err(failed)?;
                    part.check_owner(root, walk.relative(), stat.st_uid)?;
                    self.contents.add_file(&place, stat.st_size as u64);
                    if place.parent() == Some(Path::new("pg_twophase")) {
                        self.contents.prepared += 1;
                    }
                }
                Kind::Other if walk.is_link() => self.follow(place, &walk.path())?,
                // Sockets and FIFOs are not data.
                Kind::Other | Kind::End => {}
            }
        }
        Ok(())
    }

    /// Adds the target of a link, if it is a link of data.
    fn follow(&mut self, place: PathBuf, link: &Path) -> Result<(), ImportError> {
        if !is_of_data(&place) {
            self.contents.left_out.push(place);
            return Ok(());
        }
        // Trusted path: it may lead anywhere, and its target is checked, and opened by its descriptor.
        let target = match fs::canonicalize(link) {
            Ok(target) => target,
            Err(error) if is_missing_target(&error) => return Err(self.dangling(&place, link)),
            Err(error) => return Err(ImportError::io("follow", link, error)),
        };
        // Trusted path: without links now. The target is inspected like the data directory.
        let found = fs::symlink_metadata(&target);
        let found = found.map_err(|error| ImportError::io("read", &target, error))?;
        if found.is_dir() {
            return self.add(place, target, false);
        }
        if found.is_file() && is_data_name(target.file_name().unwrap_or_default()) {
            self.contents.add_file(&place, found.len());
            self.add(place, target, true)?;
            let part = self.contents.parts.last();
            return part.map_or(Ok(()), |part| {
                part.check_owner(self.root, Path::new(""), found.uid())
            });
        }
        Err(refused(
            self.root,
            format!(
                "{} is a symbolic link to {}, which is no data of Postgres",
                place.display(),
                target.display()
            ),
            "Replace the link by the file that belongs there, while the server is stopped.",
        ))
    }

    fn add(&mut self, place: PathBuf, from: PathBuf, is_file: bool) -> Result<(), ImportError> {
        let too_many = self.contents.parts.len() >= PARTS_MAX;
        if too_many || place.components().count() > DEPTH_MAX {
            return Err(refused(
                self.root,
                format!("{} is one of too many links", place.display()),
                "Replace the links by what they lead to, while the server is stopped.",
            ));
        }
        let is_tablespace = place.parent() == Some(Path::new("pg_tblspc")) && !is_file;
        let found = || Directory::open(&from)?.find(&self.tablespace);
        if is_tablespace && !matches!(found(), Ok(Some(_))) {
            return Err(refused(
                self.root,
                format!(
                    "its tablespace {} leads to {}, which has no directory {}",
                    place.file_name().unwrap_or_default().display(),
                    from.display(),
                    self.tablespace
                ),
                "Copy the directory of the tablespace too, while the server is stopped, and let the link \
                 lead to the copy.",
            ));
        }
        self.contents.parts.push(Part {
            place,
            from,
            is_file,
            only: is_tablespace.then(|| self.tablespace.clone()),
            owner: Some(self.owner),
        });
        Ok(())
    }

    fn dangling(&self, place: &Path, link: &Path) -> ImportError {
        let target = fs::read_link(link).unwrap_or_default();
        refused(
            self.root,
            format!(
                "{} is a symbolic link to {}, which does not exist here",
                place.display(),
                target.display()
            ),
            "Copy what it leads to as well, while the server is stopped, and let the link lead to the copy.",
        )
    }
}

fn is_missing_target(error: &io::Error) -> bool {
    // A link that leads to itself leads nowhere.
    const LOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(LOOP)
}

/// Whether this is data, not configuration or another file that a user put beside it. The contents of `pg_stat_tmp` and
/// `pg_replslot` are excluded, so links in their places lead to nothing that is needed.
fn is_of_data(place: &Path) -> bool {
    // The directories that initdb makes: all data is in them.
    let mut known = NEEDED.iter().chain(&MAY_BE_EMPTY).map(Path::new);
    let top = place.iter().next();
    let is_in_known = top.is_some() && known.any(|known| known.iter().next() == top);
    is_in_known && ![Path::new("pg_stat_tmp"), Path::new("pg_replslot")].contains(&place)
}

/// Whether Postgres gives such a name to a file or a directory of data: relations (`16384_fsm.1`), segments
/// of WAL and of transaction states (`0000000100000001000000FF`), and the few that have words for names.
fn is_data_name(name: &OsStr) -> bool {
    const WORDS: [&str; 9] = [
        "PG_VERSION",
        "archive_status",
        "mappings",
        "members",
        "offsets",
        "pg_control",
        "pg_filenode.map",
        "snapshots",
        "summaries",
    ];
    let name = name.as_encoded_bytes();
    let is_numbered = name
        .first()
        .is_some_and(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'));
    is_numbered || name.starts_with(b"PG_") || WORDS.iter().any(|word| name == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_data_are_those_that_postgres_gives() {
        for name in [
            "16384",
            "16384.1",
            "16384_fsm",
            "PG_15_202209061",
            "pg_filenode.map",
            "0000000100000001000000FF",
            "00000002.history",
            "FFFF",
            "archive_status",
        ] {
            assert!(is_data_name(OsStr::new(name)), "{name}");
        }
        for name in ["lost+found", "id_rsa", "shadow", ".ssh", "", "a1", "1-2"] {
            assert!(!is_data_name(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn links_of_data_are_told_from_others() {
        for place in ["pg_wal", "pg_tblspc/16385", "base/5", "base/5/16384.1"] {
            assert!(is_of_data(Path::new(place)), "{place}");
        }
        for place in [
            "log",
            "postgresql.conf",
            "server.crt",
            "pg_stat_tmp",
            "x/base",
        ] {
            assert!(!is_of_data(Path::new(place)), "{place}");
        }
    }
}
