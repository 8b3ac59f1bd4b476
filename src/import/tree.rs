//! The files of a data directory: measured, checked, and which of them a clone does not need.

use std::path::Path;

use super::error::{ImportError, refused, tree_error};
use crate::fsutil::beneath::{Directory, Kind, PERMISSIONS, TreeError, Walk};

/// The size of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TreeSize {
    /// The sum of its files' sizes.
    pub(super) bytes: u64,
    /// The number of its files.
    pub(super) files: u64,
}

/// The error of a link where there is to be none: its target would be shared by all clones.
pub(super) fn refuse_link(root: &Path, link: &Path) -> ImportError {
    if link.starts_with("pg_tblspc") {
        return refused(
            root,
            format!(
                "it makes a tablespace outside of the data directory ({})",
                link.display()
            ),
            "Make the dump without tablespaces (--no-tablespaces).",
        );
    }
    refused(
        root,
        format!("{} is a symbolic link", link.display()),
        "Replace the link by what it leads to, and import again.",
    )
}

/// The files at the top of a data directory that are of its server, of a recovery or of a backup. A
/// clone would not start with some of them, and would follow another server because of others.
const EXCLUDED_AT_TOP: [&str; 16] = [
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "current_logfiles",
    "fallback_promote",
    "log",
    "pg_log",
    "postmaster.opts",
    "postmaster.pid",
    "promote",
    "recovery.conf",
    "recovery.done",
    "recovery.signal",
    "standby.signal",
    "tablespace_map",
    "tablespace_map.old",
];

/// The directories whose contents are not copied: a server makes them anew.
const EXCLUDED_CONTENTS: [&str; 4] = ["pg_stat_tmp", "pg_replslot", "log", "pg_log"];

/// Whether a clone does not need this entry of a data directory: it is temporary, or belongs to the
/// server of the source.
pub(super) fn is_excluded(relative: &Path) -> bool {
    let name = relative.file_name().unwrap_or_default().to_string_lossy();
    let parent = relative.parent().unwrap_or(Path::new(""));
    let in_directory = |directory: &str| parent.starts_with(directory);
    let top_level = parent.as_os_str().is_empty();
    name == "pg_internal.init"
        || name.starts_with("pgsql_tmp")
        || EXCLUDED_CONTENTS.into_iter().any(in_directory)
        || (top_level && EXCLUDED_AT_TOP.contains(&name.as_ref()))
}

/// Checks a data directory that becomes a snapshot, takes setuid, setgid and sticky bits away, and returns
/// its size. `source` is the import's source: a statement of a dump can have put anything there.
pub(super) fn check_snapshot(root: &Path, source: &Path) -> Result<TreeSize, ImportError> {
    let failed = |error| tree_error(source, root, error);
    let mut size = TreeSize::default();
    let mut walk = Directory::open(root).and_then(Walk::new).map_err(failed)?;
    while let Some(kind) = walk.advance().map_err(failed)? {
        if kind == Kind::End {
            continue;
        }
        if kind == Kind::Other {
            return Err(match walk.is_link() {
                true => refuse_link(source, walk.relative()),
                false => failed(walk.foreign()),
            });
        }
        let stat = walk.stat().map_err(failed)?;
        if stat.st_mode & 0o7777 & !PERMISSIONS != 0 {
            walk.set_mode(stat.st_mode & PERMISSIONS).map_err(failed)?;
        }
        if kind == Kind::Directory {
            walk.enter().map_err(failed)?;
            continue;
        }
        if stat.st_nlink > 1 {
            return Err(failed(TreeError::Linked { path: walk.path() }));
        }
        size.bytes += stat.st_size as u64;
        size.files += 1;
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn temporary_files_are_excluded() {
        for path in [
            "base/1/pg_internal.init",
            "base/pgsql_tmp",
            "base/pgsql_tmp/pgsql_tmp1.2",
            "base/pgsql_tmp12.0",
            "log",
            "log/a.log",
            "postmaster.pid",
            "pg_stat_tmp/x",
            "pg_replslot/slot/state",
            "recovery.conf",
            "standby.signal",
            "backup_manifest",
        ] {
            assert!(is_excluded(Path::new(path)), "{path}");
        }
        for path in [
            "pg_stat_tmp",
            "pg_replslot",
            "base/1/log",
            "base/1/1259",
            "pg_stat/pgstat.stat",
        ] {
            assert!(!is_excluded(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn snapshot_has_nothing_but_files_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("data");
        let check = || check_snapshot(&root, Path::new("/the/dump"));
        fs::create_dir_all(root.join("base")).unwrap();
        fs::write(root.join("base/file"), "12345").unwrap();
        fs::set_permissions(root.join("base/file"), Permissions::from_mode(0o6600)).unwrap();
        fs::set_permissions(root.join("base"), Permissions::from_mode(0o3700)).unwrap();
        assert_eq!(check().unwrap(), TreeSize { bytes: 5, files: 1 });
        for (name, expected) in [("base/file", 0o600), ("base", 0o700)] {
            let mode = fs::metadata(root.join(name)).unwrap().mode();
            assert_eq!(mode & 0o7777, expected, "{name}");
        }
        fs::hard_link(root.join("base/file"), directory.path().join("outside")).unwrap();
        let error = check().unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot import /the/dump: base/file has more than one hard link"
        );
        fs::remove_file(directory.path().join("outside")).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("base/f"), fifo, mode, 0).unwrap();
        let error = check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot import /the/dump: base/f is a FIFO"
        );
        assert!(error.hint().is_some());
    }
}
