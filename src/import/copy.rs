//! Copies of data directories: by reflink where the file system can, and owned by the user of the
//! servers.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::ioctl_ficlone;

use super::error::{ImportError, tree_error};
use super::tree::{is_excluded, refuse_link};
use crate::fsutil::beneath::{self, Directory, Kind, PERMISSIONS, TreeError, Walk};
use crate::fsutil::directory;

/// The bytes that are copied between two checks for a cancellation.
const COPY_BYTES: usize = 8 << 20;

/// The state of a copy, shared with the task that waits for it.
#[derive(Debug, Clone, Default)]
pub(super) struct CopyState {
    /// The bytes that are copied.
    pub(super) bytes_done: Arc<AtomicU64>,
    /// The copy must end.
    pub(super) cancelled: Arc<AtomicBool>,
}

impl CopyState {
    fn check_cancelled(&self) -> Result<(), ImportError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(ImportError::Cancelled);
        }
        Ok(())
    }

    fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Copies a data directory into an empty one, without the excluded files. Each file is copied by
/// reflink where the file system can, else byte by byte, and belongs to `owner` from the start.
pub(super) fn copy_data(
    from: &Path,
    to: &Path,
    owner: (u32, u32),
    state: &CopyState,
) -> Result<(), ImportError> {
    let failed = |error| tree_error(from, from, error);
    let source = Directory::open(from).map_err(failed)?;
    let mut copier = Copier {
        owner,
        state,
        reflinks: true,
        source_owner: source.stat().map_err(failed)?.st_uid,
        root: from,
    };
    let target = Directory::open(to).map_err(failed)?;
    target.set_owner(owner).map_err(failed)?;
    // The copies of the directories that the walk is in.
    let mut targets = vec![target];
    let mut walk = Walk::new(source).map_err(failed)?;
    while let Some(kind) = walk.advance().map_err(failed)? {
        if kind == Kind::End {
            targets.pop();
            continue;
        }
        let Some(target) = targets.last().filter(|_| !is_excluded(walk.relative())) else {
            continue;
        };
        state.check_cancelled()?;
        match kind {
            Kind::Directory => {
                let mode = walk.enter().map_err(failed)?.st_mode & PERMISSIONS;
                let made = target.create_directory(walk.name(), mode).map_err(failed)?;
                made.set_owner(owner).map_err(failed)?;
                targets.push(made);
            }
            Kind::File => copier.copy_file(&walk, target)?,
            Kind::Other if walk.is_link() => return Err(refuse_link(from, walk.relative())),
            // Sockets and FIFOs are not data.
            Kind::Other | Kind::End => {}
        }
    }
    Ok(())
}

struct Copier<'a> {
    owner: (u32, u32),
    state: &'a CopyState,
    /// No reflink has failed yet.
    reflinks: bool,
    /// The user that owns the source.
    source_owner: u32,
    /// The source.
    root: &'a Path,
}

impl Copier<'_> {
    fn copy_file(&mut self, walk: &Walk, to: &Directory) -> Result<(), ImportError> {
        let refused = |error| tree_error(self.root, self.root, error);
        let (source, like) = walk.open().map_err(refused)?;
        if like.st_nlink > 1 && like.st_uid != self.source_owner {
            // A link of a file that perhaps only root can read.
            return Err(refused(TreeError::Linked { path: walk.path() }));
        }
        let mode = like.st_mode & PERMISSIONS;
        let mut target = to.create_file(walk.name(), mode).map_err(refused)?;
        let path = to.path().join(walk.name());
        let failed = |error| ImportError::io("copy to", &path, error);
        beneath::set_owner(&target, self.owner).map_err(failed)?;
        if self.reflinks {
            if ioctl_ficlone(&target, &source).is_ok() {
                self.state.add_bytes(like.st_size as u64);
                return Ok(());
            }
            // Another file system, or one without reflinks.
            self.reflinks = false;
        }
        // No more than it had, should somebody write to it.
        let mut source = source.take(like.st_size as u64);
        loop {
            self.state.check_cancelled()?;
            let mut part = (&mut source).take(COPY_BYTES as u64);
            let copied = io::copy(&mut part, &mut target).map_err(failed)?;
            if copied == 0 {
                return Ok(());
            }
            self.state.add_bytes(copied);
        }
    }
}

/// Creates a directory with this mode, regardless of the umask, and this owner. Only multidb can write
/// the directory that it is in.
pub(super) fn make_dir(path: &Path, mode: u32, owner: (u32, u32)) -> Result<(), ImportError> {
    directory::create_new(path, mode)
        .and_then(|()| Ok(Directory::open(path)?.set_owner(owner)?))
        .map_err(|source| ImportError::io("create", path, source))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use rustix::process::geteuid;

    use super::*;
    use crate::import::tree::{TreeSize, data_size};

    fn owner() -> (u32, u32) {
        (geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    #[test]
    fn copy_keeps_modes_and_skips_excluded_files() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        make_dir(&from, 0o700, owner()).unwrap();
        make_dir(&to, 0o700, owner()).unwrap();
        make_dir(&from.join("base"), 0o750, owner()).unwrap();
        fs::write(from.join("base/1"), vec![7; 100_000]).unwrap();
        fs::set_permissions(from.join("base/1"), Permissions::from_mode(0o640)).unwrap();
        fs::write(from.join("postmaster.opts"), "x").unwrap();
        let state = CopyState::default();
        copy_data(&from, &to, owner(), &state).unwrap();
        assert_eq!(fs::read(to.join("base/1")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::metadata(to.join("base")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(
            fs::metadata(to.join("base/1")).unwrap().mode() & 0o777,
            0o640
        );
        assert!(!to.join("postmaster.opts").exists());
        assert_eq!(state.bytes_done.load(Ordering::Relaxed), 100_000);
        assert_eq!(
            data_size(&to).unwrap(),
            TreeSize {
                bytes: 100_000,
                files: 1
            }
        );
    }

    #[test]
    fn hard_link_of_a_strangers_file_is_refused_and_links_among_its_own_are_copied() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        make_dir(&path("from"), 0o700, owner()).unwrap();
        fs::write(path("secret"), "secret").unwrap();
        fs::hard_link(path("secret"), path("from/file")).unwrap();
        let copy = |to: &str| {
            make_dir(&path(to), 0o700, owner()).unwrap();
            copy_data(&path("from"), &path(to), owner(), &CopyState::default())
        };
        copy("to").unwrap();
        assert_eq!(fs::metadata(path("to/file")).unwrap().nlink(), 1);
        if geteuid().is_root() {
            std::os::unix::fs::chown(path("from"), Some(4321), None).unwrap();
            let error = copy("other").unwrap_err().to_string();
            assert!(
                error.ends_with(": file has more than one hard link"),
                "{error}"
            );
            assert!(!path("other/file").exists());
        }
    }

    #[test]
    fn cancelled_copy_ends() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "x").unwrap();
        let to = directory.path().join("to");
        make_dir(&to, 0o700, owner()).unwrap();
        let state = CopyState::default();
        state.cancelled.store(true, Ordering::Relaxed);
        let result = copy_data(directory.path(), &to, owner(), &state);
        assert!(matches!(result, Err(ImportError::Cancelled)));
    }
}
