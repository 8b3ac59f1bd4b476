//! Copies of data directories: by reflink where the file system can, and owned by the user of the
//! servers.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Mode, Stat, fchmod, ioctl_ficlone};

use super::error::{ImportError, tree_error};
use super::source::{MAY_BE_EMPTY, Part};
use super::tree::{is_excluded, refuse_link};
use crate::fsutil::beneath::{self, Directory, Kind, TreeError, Walk};
use crate::fsutil::directory;

/// The bytes that are copied between two checks for a cancellation.
const COPY_BYTES: usize = 8 << 20;
/// The modes of Postgres' own files, which a server requires of its data directory.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The state of a copy, shared with the task that waits for it.
#[derive(Debug, Clone, Default)]
pub(super) struct CopyState {
    /// The bytes that are copied.
    pub(super) bytes_done: Arc<AtomicU64>,
    /// The files that are copied or moved.
    pub(super) files_done: Arc<AtomicU64>,
    /// The copy must end.
    pub(super) cancelled: Arc<AtomicBool>,
}

/// How the files of a data directory get into another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    /// The original is only read.
    Copy,
    /// The import itself has made the original: its files are moved, with their pages in the cache. Those that its links
    /// lead to are copied.
    Move,
}

impl CopyState {
    /// Of another copy of the same import.
    pub(super) fn of_another(&self) -> Self {
        Self {
            bytes_done: Arc::default(),
            files_done: Arc::default(),
            cancelled: Arc::clone(&self.cancelled),
        }
    }

    fn check_cancelled(&self) -> Result<(), ImportError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(ImportError::Cancelled);
        }
        Ok(())
    }

    fn add_file(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }

    fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Copies a tree into an empty directory, without the files that clones do not need. Links are refused. Each
/// file is copied by reflink where the file system can, else byte by byte; it belongs to `owner` from the
/// start, and has the mode of Postgres' own files, whichever mode the source has.
pub(super) fn copy_data(
    from: &Path,
    to: &Path,
    owner: (u32, u32),
    state: &CopyState,
) -> Result<(), ImportError> {
    let mut copier = Copier::new(from, owner, state)?;
    let target = copier.open_target(to)?;
    let is_included = |relative: &Path| !is_excluded(relative);
    copier.copy_tree(from, target, &is_included, &|link| {
        Err(refuse_link(from, link))
    })
}

/// Copies the needed parts of a data directory into an empty one, like [`copy_data`], and makes the empty directories
/// that it lacks. The target of a link of data takes the link's place.
pub(super) fn copy_parts(
    root: &Path,
    parts: &[Part],
    to: &Path,
    owner: (u32, u32),
    state: &CopyState,
    transfer: Transfer,
    is_needed: &dyn Fn(&Path) -> bool,
) -> Result<(), ImportError> {
    let mut copier = Copier::new(root, owner, state)?;
    copier.transfer = transfer;
    let top = copier.open_target(to)?;
    let is_top = |part: &Part| part.place.as_os_str().is_empty();
    for part in parts {
        if is_top(part) || is_needed(&part.place) {
            copier.copy_part(part, &top, is_needed)?;
        }
    }
    for path in MAY_BE_EMPTY.map(Path::new) {
        let found = top
            .find(path)
            .map_err(|error| tree_error(root, to, error))?;
        if found.is_none() {
            let made = copier.make_directory(&top, path)?;
            tracing::debug!(path = %made.path().display(), "a missing directory was made");
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
    transfer: Transfer,
}

impl<'a> Copier<'a> {
    fn new(root: &'a Path, owner: (u32, u32), state: &'a CopyState) -> Result<Self, ImportError> {
        let top = Directory::open(root).and_then(|source| source.stat());
        Ok(Self {
            owner,
            state,
            reflinks: true,
            source_owner: top.map_err(|error| tree_error(root, root, error))?.st_uid,
            root,
            transfer: Transfer::Copy,
        })
    }

    fn open_target(&self, to: &Path) -> Result<Directory, ImportError> {
        let target = Directory::open(to).and_then(|target| {
            target.set_owner(self.owner)?;
            Ok(target)
        });
        target.map_err(|error| tree_error(self.root, to, error))
    }

    /// Makes a directory of the copy; `relative` is its path, of which only the last name may be missing.
    fn make_directory(&self, top: &Directory, relative: &Path) -> Result<Directory, ImportError> {
        let make = || {
            let name = relative.file_name().unwrap_or_default();
            let made = match relative.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => top
                    .directory(parent)?
                    .create_directory(name, DIRECTORY_MODE),
                _ => top.create_directory(name, DIRECTORY_MODE),
            }?;
            made.set_owner(self.owner)?;
            Ok(made)
        };
        make().map_err(|error| tree_error(self.root, top.path(), error))
    }

    fn copy_part(
        &mut self,
        part: &Part,
        top: &Directory,
        is_needed: &dyn Fn(&Path) -> bool,
    ) -> Result<(), ImportError> {
        if part.is_file {
            return self.copy_single(part, top);
        }
        let target = if part.place.as_os_str().is_empty() {
            top.directory(".")
                .map_err(|error| tree_error(self.root, top.path(), error))?
        } else {
            self.make_directory(top, &part.place)?
        };
        let is_included =
            |relative: &Path| part.includes(relative) && is_needed(&part.place.join(relative));
        // Links of data are parts themselves.
        self.copy_tree(&part.from, target, &is_included, &|_| Ok(()))
    }

    /// Copies the file that a link leads to.
    fn copy_single(&mut self, part: &Part, top: &Directory) -> Result<(), ImportError> {
        let root = self.root;
        let failed = |error| tree_error(root, root, error);
        let (from, place) = (&part.from, &part.place);
        let source = beneath::open_file(from).map_err(failed)?;
        let like = rustix::fs::fstat(&source)
            .map_err(|error| ImportError::io("read", from, error.into()))?;
        part.check_owner(root, Path::new(""), like.st_uid)?;
        let parent = place.parent().unwrap_or(Path::new(""));
        let parent = top.directory(parent).map_err(failed)?;
        let name = place.file_name().unwrap_or_default();
        self.copy_file((source, like), from, &parent, name)
    }

    fn copy_tree(
        &mut self,
        from: &Path,
        target: Directory,
        is_included: &dyn Fn(&Path) -> bool,
        on_link: &dyn Fn(&Path) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let root = self.root;
        let failed = |error| tree_error(root, root, error);
        // Its links can lead to files of others.
        let moves = self.transfer == Transfer::Move && from == root;
        // The copies of the directories that the walk is in.
        let mut targets = vec![target];
        let mut walk = Directory::open(from).and_then(Walk::new).map_err(failed)?;
        while let Some(kind) = walk.advance().map_err(failed)? {
            if kind == Kind::End {
                targets.pop();
                continue;
            }
            let Some(target) = targets.last().filter(|_| is_included(walk.relative())) else {
                continue;
            };
            self.state.check_cancelled()?;
            match kind {
                Kind::Directory => {
                    match walk.enter() {
                        Ok(_) => {}
                        // A part of its own, or refused.
                        Err(error @ TreeError::MountPoint { .. }) => {
                            on_link(walk.relative()).map_err(|_| failed(error))?;
                            continue;
                        }
                        Err(error) => return Err(failed(error)),
                    }
                    let made = target.create_directory(walk.name(), DIRECTORY_MODE);
                    let made = made.map_err(failed)?;
                    made.set_owner(self.owner).map_err(failed)?;
                    targets.push(made);
                }
                Kind::File => {
                    let source = walk.open().map_err(failed)?;
                    if !moves || !self.move_file(&walk, &source, target)? {
                        self.copy_file(source, &walk.path(), target, walk.name())?;
                    }
                }
                Kind::Other if walk.is_link() => on_link(walk.relative())?,
                // Sockets and FIFOs are not data.
                Kind::Other | Kind::End => {}
            }
        }
        Ok(())
    }

    /// Moves the file that the walk is at, and has opened. `false` if it has to be copied: it is on another file system,
    /// or has another name too.
    fn move_file(
        &self,
        walk: &Walk,
        (source, like): &(File, Stat),
        to: &Directory,
    ) -> Result<bool, ImportError> {
        if like.st_nlink > 1 {
            return Ok(false);
        }
        let path = to.path().join(walk.name());
        let failed = |error| ImportError::io("move to", &path, error);
        beneath::set_owner(source, self.owner).map_err(failed)?;
        let mode = Mode::from_raw_mode(FILE_MODE);
        fchmod(source, mode).map_err(|error| failed(error.into()))?;
        let moved = walk.move_into(to);
        let moved = moved.map_err(|error| tree_error(self.root, self.root, error))?;
        if moved {
            self.state.add_bytes(like.st_size as u64);
            self.state.add_file();
        }
        Ok(moved)
    }

    fn copy_file(
        &mut self,
        (source, like): (File, Stat),
        from: &Path,
        to: &Directory,
        name: &OsStr,
    ) -> Result<(), ImportError> {
        let refused = |error| tree_error(self.root, self.root, error);
        if like.st_nlink > 1 && like.st_uid != self.source_owner {
            // A link of a file that perhaps only root can read.
            let path = from.to_owned();
            return Err(refused(TreeError::Linked { path }));
        }
        let mut target = to.create_file(name, FILE_MODE).map_err(refused)?;
        let path = to.path().join(name);
        let failed = |error| ImportError::io("copy to", &path, error);
        beneath::set_owner(&target, self.owner).map_err(failed)?;
        self.state.add_file();
        if self.reflinks {
            if ioctl_ficlone(&target, &source).is_ok() {
                self.state.add_bytes(like.st_size as u64);
                return Ok(());
            }
            // Another file system, or one without reflinks.
            self.reflinks = false;
        }
        // No more than its bytes at the start, should a process write to it.
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

    fn owner() -> (u32, u32) {
        (geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    #[test]
    fn copy_has_modes_of_its_own_and_skips_excluded_files() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        make_dir(&from, 0o700, owner()).unwrap();
        make_dir(&to, 0o700, owner()).unwrap();
        make_dir(&from.join("base"), 0o750, owner()).unwrap();
        fs::write(from.join("base/1"), vec![7; 100_000]).unwrap();
        fs::set_permissions(from.join("base/1"), Permissions::from_mode(0o440)).unwrap();
        fs::write(from.join("postmaster.opts"), "x").unwrap();
        let state = CopyState::default();
        copy_data(&from, &to, owner(), &state).unwrap();
        assert_eq!(fs::read(to.join("base/1")).unwrap(), vec![7; 100_000]);
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("base"), mode("base/1")), (0o700, 0o600));
        assert!(!to.join("postmaster.opts").exists());
        assert_eq!(state.bytes_done.load(Ordering::Relaxed), 100_000);
    }

    #[test]
    fn files_that_the_import_has_made_are_moved_and_others_copied() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let number = |name: &str| fs::metadata(path(name)).unwrap().ino();
        for name in ["from", "from/base", "from/pg_wal", "to"] {
            make_dir(&path(name), 0o700, owner()).unwrap();
        }
        for name in ["from/base/1", "from/base/2", "from/PG_VERSION"] {
            fs::write(path(name), name).unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(0o640)).unwrap();
        }
        fs::hard_link(path("from/base/2"), path("from/base/3")).unwrap();
        let before = number("from/base/1");
        // As a tablespace: the link of a data directory can lead anywhere.
        make_dir(&path("other"), 0o700, owner()).unwrap();
        fs::write(path("other/5"), "other").unwrap();
        let root = path("from");
        let parts = [
            Part::of_tree("", &root),
            Part::of_tree("base/other", &path("from/../other")),
        ];
        let state = CopyState::default();
        let to = path("to");
        let copy = |transfer| copy_parts(&root, &parts, &to, owner(), &state, transfer, &|_| true);
        copy(Transfer::Copy).unwrap();
        assert_ne!(number("to/base/1"), before);
        fs::remove_dir_all(&to).unwrap();
        make_dir(&to, 0o700, owner()).unwrap();
        copy(Transfer::Move).unwrap();
        assert_eq!(number("to/base/1"), before);
        assert!(!path("from/base/1").exists());
        assert!(path("other/5").exists());
        for name in ["base/1", "base/2", "base/3", "base/other/5", "PG_VERSION"] {
            let copy = fs::metadata(to.join(name)).unwrap();
            assert_eq!((copy.mode() & 0o7777, copy.nlink()), (0o600, 1), "{name}");
        }
    }

    #[test]
    fn link_is_refused_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        make_dir(&from, 0o700, owner()).unwrap();
        make_dir(&to, 0o700, owner()).unwrap();
        std::os::unix::fs::symlink("/tmp", from.join("toc.dat")).unwrap();
        let error = copy_data(&from, &to, owner(), &CopyState::default()).unwrap_err();
        assert!(error.to_string().contains("is a symbolic link"), "{error}");
        assert!(error.hint().is_some(), "{error}");
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
