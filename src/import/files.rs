//! Trees of files: copied by reflink where that can be, given to their owner, measured.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::ioctl_ficlone;
use rustix::process::geteuid;

use super::error::{ImportError, refused};

/// How much is copied between two looks at whether to go on.
const COPY_BYTES: usize = 8 << 20;

/// What a long job of blocking work shares with whoever waits for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    /// The bytes that are done.
    pub(super) bytes: Arc<AtomicU64>,
    /// Nobody waits any more.
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Shared {
    fn check(&self) -> Result<(), ImportError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(ImportError::Cancelled);
        }
        Ok(())
    }
}

/// What a tree holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TreeSize {
    /// The sum of its files' sizes.
    pub(super) bytes: u64,
    /// The number of its files.
    pub(super) files: u64,
}

/// One entry of a data directory, by its path within it.
struct Entry {
    relative: PathBuf,
    metadata: Metadata,
}

/// Lists a data directory, directories before what is in them. Refuses links: a tablespace or a
/// WAL directory elsewhere would be shared by all clones.
fn list(root: &Path) -> Result<Vec<Entry>, ImportError> {
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

/// What of a data directory no clone needs.
pub(super) fn is_left_out(relative: &Path) -> bool {
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

/// The sum of the sizes of what [`copy_data`] would copy. Refuses what cannot be imported.
pub(super) fn data_size(root: &Path) -> Result<TreeSize, ImportError> {
    let entries = list(root)?;
    let files = entries
        .iter()
        .filter(|entry| entry.metadata.is_file() && !is_left_out(&entry.relative));
    Ok(files.fold(TreeSize::default(), |sum, entry| TreeSize {
        bytes: sum.bytes + entry.metadata.len(),
        files: sum.files + 1,
    }))
}

/// Copies a data directory into an empty directory, without what no clone needs: each file by
/// reflink where the file system can, else byte by byte. All of it belongs to `owner` at once.
pub(super) fn copy_data(
    from: &Path,
    to: &Path,
    owner: (u32, u32),
    shared: &Shared,
) -> Result<(), ImportError> {
    let mut reflinks = true;
    set_owner(to, owner)?;
    for entry in list(from)? {
        if is_left_out(&entry.relative) {
            continue;
        }
        shared.check()?;
        let target = to.join(&entry.relative);
        let mode = entry.metadata.mode() & 0o777;
        if entry.metadata.is_dir() {
            make_dir(&target, mode, owner)?;
        } else if entry.metadata.is_file() {
            let source = from.join(&entry.relative);
            copy_file(&source, &target, mode, owner, &mut reflinks, shared)?;
        }
        // Sockets and FIFOs are not data.
    }
    Ok(())
}

fn copy_file(
    from: &Path,
    to: &Path,
    mode: u32,
    owner: (u32, u32),
    reflinks: &mut bool,
    shared: &Shared,
) -> Result<(), ImportError> {
    let mut source = File::open(from).map_err(|error| ImportError::io("open", from, error))?;
    let failed = |error| ImportError::io("copy to", to, error);
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(to)
        .map_err(failed)?;
    if geteuid().is_root() {
        fchown(&target, Some(owner.0), Some(owner.1)).map_err(failed)?;
    }
    if *reflinks {
        match ioctl_ficlone(&target, &source) {
            Ok(()) => {
                let length = target.metadata().map_err(failed)?.len();
                shared.bytes.fetch_add(length, Ordering::Relaxed);
                return Ok(());
            }
            // Another file system, or one that cannot.
            Err(_) => *reflinks = false,
        }
    }
    loop {
        shared.check()?;
        let mut part = io::Read::take(&mut source, COPY_BYTES as u64);
        let copied = io::copy(&mut part, &mut target).map_err(failed)?;
        if copied == 0 {
            return Ok(());
        }
        shared.bytes.fetch_add(copied, Ordering::Relaxed);
    }
}

/// Makes a directory with this mode, whatever the umask, and this owner.
pub(super) fn make_dir(path: &Path, mode: u32, owner: (u32, u32)) -> Result<(), ImportError> {
    let make = || -> io::Result<()> {
        DirBuilder::new().mode(mode).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make().map_err(|source| ImportError::io("make", path, source))?;
    set_owner(path, owner)
}

/// Gives a file or a directory to its owner. Only root can, and only root need.
pub(super) fn set_owner(path: &Path, (uid, gid): (u32, u32)) -> Result<(), ImportError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))
        .map_err(|source| ImportError::io("change the owner of", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> (u32, u32) {
        (geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    #[test]
    fn what_no_clone_needs_is_left_out() {
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
            assert!(is_left_out(Path::new(path)), "{path}");
        }
        for path in [
            "pg_stat_tmp",
            "pg_replslot",
            "base/1/log",
            "base/1/1259",
            "pg_stat/pgstat.stat",
        ] {
            assert!(!is_left_out(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_tree_is_copied_with_its_modes() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        make_dir(&from, 0o700, owner()).unwrap();
        make_dir(&to, 0o700, owner()).unwrap();
        make_dir(&from.join("base"), 0o750, owner()).unwrap();
        fs::write(from.join("base/1"), vec![7; 100_000]).unwrap();
        fs::set_permissions(from.join("base/1"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(from.join("postmaster.opts"), "x").unwrap();
        let shared = Shared::default();
        copy_data(&from, &to, owner(), &shared).unwrap();
        assert_eq!(fs::read(to.join("base/1")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::metadata(to.join("base")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(
            fs::metadata(to.join("base/1")).unwrap().mode() & 0o777,
            0o640
        );
        assert!(!to.join("postmaster.opts").exists());
        assert_eq!(shared.bytes.load(Ordering::Relaxed), 100_000);
        assert_eq!(
            data_size(&to).unwrap(),
            TreeSize {
                bytes: 100_000,
                files: 1
            }
        );
    }

    #[test]
    fn a_copy_ends_when_nobody_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "x").unwrap();
        let to = directory.path().join("to");
        make_dir(&to, 0o700, owner()).unwrap();
        let shared = Shared::default();
        shared.cancelled.store(true, Ordering::Relaxed);
        let result = copy_data(directory.path(), &to, owner(), &shared);
        assert!(matches!(result, Err(ImportError::Cancelled)));
    }

    #[test]
    fn links_are_refused_with_what_to_do() {
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
