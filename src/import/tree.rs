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

/// The error of a link: all clones would share a tablespace or a WAL directory elsewhere.
pub(super) fn refuse_link(root: &Path, link: &Path) -> ImportError {
    if link.starts_with("pg_tblspc") {
        return refused(
            root,
            format!("it has a tablespace outside of it ({})", link.display()),
            "Move its tables into pg_default (ALTER TABLE ... SET TABLESPACE), drop the tablespace \
             and stop the server cleanly; or import a dump instead.",
        );
    }
    refused(
        root,
        format!("{} is a symbolic link", link.display()),
        "Replace the link by the directory that it points to, while the server is stopped; or \
         import a dump instead.",
    )
}

/// Whether a clone does not need this entry of a data directory: it is temporary, or belongs to the
/// server of the source.
pub(super) fn is_excluded(relative: &Path) -> bool {
    let name = relative.file_name().unwrap_or_default().to_string_lossy();
    let parent = relative.parent().unwrap_or(Path::new(""));
    let in_directory = |directory: &str| parent.starts_with(directory);
    let top_level = parent.as_os_str().is_empty();
    name == "pg_internal.init"
        || name.starts_with("pgsql_tmp")
        || ["pg_stat_tmp", "pg_replslot", "log", "pg_log"]
            .into_iter()
            .any(in_directory)
        || (top_level
            && [
                "postmaster.pid",
                "postmaster.opts",
                "current_logfiles",
                "log",
                "pg_log",
            ]
            .contains(&name.as_ref()))
}

/// The size of a data directory that is imported, without the excluded files. Refuses links.
pub(super) fn data_size(root: &Path) -> Result<TreeSize, ImportError> {
    let failed = |error| tree_error(root, root, error);
    let mut size = TreeSize::default();
    let mut walk = Directory::open(root).and_then(Walk::new).map_err(failed)?;
    while let Some(kind) = walk.advance().map_err(failed)? {
        let is_needed = !is_excluded(walk.relative());
        match kind {
            Kind::Other if walk.is_link() => return Err(refuse_link(root, walk.relative())),
            Kind::Directory if is_needed => walk.enter().map(|_| ()).map_err(failed)?,
            Kind::File if is_needed => {
                size.bytes += walk.stat().map_err(failed)?.st_size as u64;
                size.files += 1;
            }
            Kind::Directory | Kind::File | Kind::Other | Kind::End => {}
        }
    }
    Ok(size)
}

/// Checks a data directory that becomes a snapshot, takes setuid, setgid and sticky bits away, and returns
/// its size. `source` is what was imported: a statement of a dump can have put anything there.
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
    fn links_are_refused_with_a_hint() {
        for link in ["pg_wal", "pg_tblspc"] {
            let directory = tempfile::tempdir().unwrap();
            let parent = directory.path().join(link);
            fs::create_dir(&parent).unwrap();
            std::os::unix::fs::symlink("/tmp", parent.join("1")).unwrap();
            let error = data_size(directory.path()).unwrap_err();
            assert!(error.hint().is_some(), "{error}");
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
