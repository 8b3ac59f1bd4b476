//! Walks over data directories: their files, and their size.

use rustix::fs::Stat;

use std::path::Path;

use crate::fsutil::beneath::{Directory, Kind, PERMISSIONS, TreeError, Walk};

/// The files at the top of a data directory that a running server leaves. Neither cloned nor counted.
const EXCLUDED: [&str; 2] = ["postmaster.pid", "postmaster.opts"];

/// The directories whose contents are the running server's own: the ones that a base backup leaves empty (Postgres'
/// documentation, "Streaming Replication Protocol", BASE_BACKUP), and the WAL, which is copied afterwards.
const EMPTIED: [&str; 8] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal",
];
/// The files at the top of a running server's data directory that belong to another backup.
const OF_BACKUPS: [&str; 3] = ["backup_label", "tablespace_map", "backup_manifest"];
/// The beginning of the names of temporary files and their directories.
const TEMPORARY: &str = "pgsql_tmp";

/// The bits of a mode that no copy has: setuid, setgid and sticky.
const SPECIAL_BITS: u32 = 0o7000;

/// The size of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeSize {
    /// The number of its regular files.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

impl TreeSize {
    pub(super) fn add(&mut self, file: &Stat) {
        self.files += 1;
        self.bytes += file.st_size as u64;
    }
}

/// The number and bytes of the files that a clone of this data directory has.
pub(super) fn size(root: &Path) -> Result<TreeSize, TreeError> {
    let mut size = TreeSize::default();
    visit(root, |walk| {
        if !is_excluded(walk) {
            size.add(&walk.stat()?);
        }
        Ok(())
    })?;
    Ok(size)
}

/// The number of files that a clone of this data directory has. It opens only directories: a thousand
/// files take about a millisecond.
pub(super) fn count(root: &Path) -> Result<u64, TreeError> {
    let mut files = 0;
    visit(root, |walk| {
        files += u64::from(!is_excluded(walk));
        Ok(())
    })?;
    Ok(files)
}

/// Takes away the files that a copy of a running server's data directory does not have: from a snapshot of it, on which
/// nothing runs. Returns the number of the files that stay.
pub(super) fn prune(root: &Path) -> Result<u64, TreeError> {
    let mut files = 0;
    let mut walk = Walk::new(Directory::open(root)?)?;
    while let Some(kind) = walk.advance()? {
        if kind == Kind::End {
            continue;
        }
        if is_excluded(&walk) || is_of_server(&walk) {
            walk.remove()?;
            continue;
        }
        let mode = match kind {
            Kind::Directory => walk.enter()?.st_mode,
            Kind::File => {
                files += 1;
                walk.stat()?.st_mode
            }
            Kind::Other => return Err(walk.foreign()),
            Kind::End => continue,
        };
        // Without setuid, setgid and sticky bits, as a copy.
        if kind == Kind::File && mode & SPECIAL_BITS != 0 {
            walk.set_mode(mode & PERMISSIONS)?;
        }
    }
    Ok(files)
}

/// Calls `each` at every regular file of a tree. Files that are deleted meanwhile are skipped.
pub(super) fn visit(
    root: &Path,
    mut each: impl FnMut(&Walk) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let mut walk = Walk::new(Directory::open(root)?)?;
    while let Some(kind) = walk.advance()? {
        let visited = match kind {
            Kind::Directory => walk.enter().map(|_| ()),
            Kind::File => each(&walk),
            Kind::Other => Err(walk.foreign()),
            Kind::End => Ok(()),
        };
        match visited {
            Err(error) if error.is_missing() => {}
            visited => visited?,
        }
    }
    Ok(())
}

/// Whether a clone does not have the file that the walk is at.
pub(super) fn is_excluded(walk: &Walk) -> bool {
    walk.is_at_top() && EXCLUDED.iter().any(|name| walk.name() == *name)
}

/// Whether a clone of a running server does not have the entry that the walk is at.
pub(super) fn is_of_server(walk: &Walk) -> bool {
    let name = walk.name();
    if name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
        return true;
    }
    if walk.is_at_top() {
        return OF_BACKUPS.iter().any(|own| name == *own);
    }
    let directory = walk.relative().parent();
    EMPTIED
        .iter()
        .any(|emptied| directory == Some(Path::new(emptied)))
}
