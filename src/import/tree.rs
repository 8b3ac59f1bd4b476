//! The files of a data directory: listed, measured, and which of them a clone does not need.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ImportError, refused};

/// The size of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TreeSize {
    /// The sum of its files' sizes.
    pub(super) bytes: u64,
    /// The number of its files.
    pub(super) files: u64,
}

/// An entry of a data directory.
pub(super) struct Entry {
    /// Its path within the data directory.
    pub(super) relative: PathBuf,
    pub(super) metadata: Metadata,
}

/// Lists a data directory, each directory before its entries. Refuses links: all clones would share
/// a tablespace or a WAL directory elsewhere.
pub(super) fn list(root: &Path) -> Result<Vec<Entry>, ImportError> {
    let mut entries = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let path = root.join(&directory);
        let failed = |source| ImportError::io("list", &path, source);
        let names: BTreeSet<_> = fs::read_dir(&path)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()
            .map_err(failed)?;
        for name in names {
            let relative = directory.join(name);
            let path = root.join(&relative);
            let metadata = fs::symlink_metadata(&path)
                .map_err(|source| ImportError::io("read", &path, source))?;
            if metadata.is_symlink() {
                return Err(refuse_link(root, &relative));
            }
            if metadata.is_dir() {
                directories.push(relative.clone());
            }
            entries.push(Entry { relative, metadata });
        }
    }
    Ok(entries)
}

fn refuse_link(root: &Path, link: &Path) -> ImportError {
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

/// The size of a data directory without the excluded files. Refuses links.
pub(super) fn data_size(root: &Path) -> Result<TreeSize, ImportError> {
    let entries = list(root)?;
    let files = entries
        .iter()
        .filter(|entry| entry.metadata.is_file() && !is_excluded(&entry.relative));
    Ok(files.fold(TreeSize::default(), |sum, entry| TreeSize {
        bytes: sum.bytes + entry.metadata.len(),
        files: sum.files + 1,
    }))
}

#[cfg(test)]
mod tests {
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
}
