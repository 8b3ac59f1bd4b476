//! Deletion of a tree that another user could write. It always ends: it neither recurses nor keeps more
//! than two descriptors, however deep the tree is.
//!
//! A directory that is not empty is entered; an empty one is left through `..`, and the walk goes on only
//! if that is the directory which it came from. Each directory is first taken from its owner, so that a
//! process which still has it open can add nothing. Files that another process of the same user adds are
//! deleted up to a limit.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, fchmod, fstat, openat, openat2, unlinkat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::walk::{is_dot, os_str};
use super::{BENEATH, DIRECTORY, Directory, TreeError, give};
use crate::fsutil::btrfs;

/// How often a deletion may find that the tree was changed by another process.
const RETRIES_MAX: u32 = 1000;
/// The time that one deletion takes at most, enough for ten million files. A tree that another process
/// fills all the time would take for ever.
const TIME_MAX: Duration = Duration::from_secs(300);

/// Deletes the file or tree at this path. A missing path is no error. Only multidb can write the
/// directories above it.
///
/// # Errors
///
/// A directory cannot be read or written, contains a mount point, or is changed all the time.
pub fn remove(path: &Path) -> Result<(), TreeError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(TreeError::of_call("remove", path, Errno::INVAL));
    };
    match Directory::open(parent) {
        Ok(parent) => remove_at(parent.as_fd(), name, path),
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_missing(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    found.err() == Some(Errno::NOENT)
}

/// Deletes the file or tree of this name in an open directory; `path` is for messages.
pub(super) fn remove_at(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
) -> Result<(), TreeError> {
    remove_within(TIME_MAX, parent, name, path)
}

pub(super) fn remove_within(
    time_max: Duration,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
) -> Result<(), TreeError> {
    let mut deletion = Deletion {
        top: path,
        deadline: now() + time_max,
        depth: 0,
        entries: 0,
        entries_at_last_leave: None,
        retries: 0,
    };
    loop {
        match deletion.remove_entry(parent, name)? {
            Removal::Done => return Ok(()),
            Removal::Full(directory) => deletion.empty(parent, directory)?,
        }
    }
}

struct Deletion<'a> {
    top: &'a Path,
    /// When it is given up, on the monotonic clock.
    deadline: Duration,
    /// How deep the directory is whose entries are removed; 0 for the parent of the top.
    depth: usize,
    /// The entries that were removed.
    entries: u64,
    /// As they were when a directory was left, which is then removed itself.
    entries_at_last_leave: Option<u64>,
    /// How often the tree was changed by another process.
    retries: u32,
}

/// The result of an entry's removal.
enum Removal {
    /// It is gone.
    Done,
    /// It is a directory that has entries of its own.
    Full(Opened),
}

/// An open directory, and which one it is.
struct Opened {
    listing: Dir,
    id: Id,
}

/// Identifies a directory: device and inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Id(u64, u64);

impl Id {
    fn new(stat: &Stat) -> Self {
        Self(stat.st_dev, stat.st_ino)
    }
}

impl Deletion<'_> {
    /// Deletes the entries of a directory, and the entries of all directories in it.
    fn empty(&mut self, parent: BorrowedFd<'_>, directory: Opened) -> Result<(), TreeError> {
        let parent_stat = fstat(parent).map_err(|error| self.failed("stat", "", error))?;
        // The directories that the current one is in, the top's parent first.
        let mut ancestors = vec![Id::new(&parent_stat)];
        let mut current = directory;
        loop {
            self.depth = ancestors.len();
            if let Some(inner) = self.remove_entries(&mut current)? {
                ancestors.push(current.id);
                current = inner;
                continue;
            }
            let is_unchanged =
                self.entries_at_last_leave.replace(self.entries) == Some(self.entries);
            if is_unchanged {
                // It could not be removed, although it had nothing left.
                self.retry()?;
            }
            let expected = ancestors.pop();
            let outer = match self.outer(&current)? {
                Some((outer, id)) if Some(id) == expected => Opened {
                    listing: Dir::new(outer).map_err(|error| self.failed("list", "", error))?,
                    id,
                },
                // Another process moved it, so the way back is lost: from the top again.
                _ => {
                    self.depth = 0;
                    return self.retry();
                }
            };
            if ancestors.is_empty() {
                self.depth = 0;
                return Ok(());
            }
            current = outer;
        }
    }

    /// The directory that this one is in. `None` if this one is gone.
    fn outer(&self, directory: &Opened) -> Result<Option<(OwnedFd, Id)>, TreeError> {
        let failed = |error| self.failed("leave a directory of", "", error);
        let inner = directory.listing.fd().map_err(failed)?;
        let outer = match openat(inner, "..", DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            outer => outer.map_err(failed)?,
        };
        let id = Id::new(&fstat(&outer).map_err(failed)?);
        Ok(Some((outer, id)))
    }

    /// Removes entries of a directory until one has entries of its own. `None` if all are gone.
    fn remove_entries(&mut self, directory: &mut Opened) -> Result<Option<Opened>, TreeError> {
        while let Some(entry) = directory.listing.read() {
            let entry = match entry {
                // Another process has removed the directory itself.
                Err(Errno::NOENT) => break,
                entry => entry.map_err(|error| self.failed("list", "", error))?,
            };
            let name = entry.file_name().to_bytes();
            if is_dot(name) {
                continue;
            }
            let name = os_str(name);
            let parent = directory.listing.fd();
            let parent = parent.map_err(|error| self.failed("list", name, error))?;
            if let Removal::Full(inner) = self.remove_entry(parent, name)? {
                return Ok(Some(inner));
            }
        }
        Ok(None)
    }

    /// Removes an entry, unless it is a directory with entries of its own.
    fn remove_entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<Removal, TreeError> {
        loop {
            match unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return self.removed(),
                Err(Errno::ISDIR) => {}
                // A read-only file system refuses it before it looks for the name.
                Err(Errno::ROFS) if is_missing(parent, name) => return self.removed(),
                Err(error) => return Err(self.failed("remove", name, error)),
            }
            match self.remove_directory(parent, name) {
                // Another process has put another file in its place.
                Err(Errno::NOTDIR | Errno::LOOP) => self.retry()?,
                Err(Errno::NOENT) => return self.removed(),
                Err(Errno::BUSY | Errno::XDEV) => {
                    let path = self.path(name);
                    return Err(TreeError::MountPoint { path });
                }
                Err(error) => return Err(self.failed("remove", name, error)),
                Ok(Removal::Done) => return self.removed(),
                Ok(full) => return Ok(full),
            }
        }
    }

    fn remove_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<Removal, Errno> {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            removed => return removed.map(|()| Removal::Done),
        }
        let opened = open(parent, name)?;
        let stat = fstat(&opened)?;
        if btrfs::is_subvolume_root(&opened, &stat) {
            if btrfs::delete_subvolume(parent, name).is_ok() {
                return Ok(Removal::Done);
            }
            // It contains another subvolume, or multidb is not permitted: file by file. The kernel
            // lets an empty one be removed like a directory (since 4.18).
            if let Err(error) = btrfs::make_writable(&opened) {
                tracing::debug!(path = %self.top.display(), %error, "a subvolume stays as it is");
            }
        }
        take_over(&opened, &stat);
        let listing = Dir::new(opened)?;
        let id = Id::new(&stat);
        Ok(Removal::Full(Opened { listing, id }))
    }

    fn removed(&mut self) -> Result<Removal, TreeError> {
        self.entries += 1;
        if now() > self.deadline {
            return Err(self.still_written());
        }
        Ok(Removal::Done)
    }

    fn retry(&mut self) -> Result<(), TreeError> {
        self.retries += 1;
        if self.retries > RETRIES_MAX {
            return Err(self.still_written());
        }
        Ok(())
    }

    fn still_written(&self) -> TreeError {
        let path = self.top.to_owned();
        TreeError::StillWritten { path }
    }

    fn failed(&self, action: &'static str, name: impl AsRef<Path>, error: Errno) -> TreeError {
        TreeError::of_call(action, &self.path(name), error)
    }

    /// The path of an entry of the current directory, for messages, without the directories between.
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        match self.depth {
            0 => self.top.to_owned(),
            1 => self.top.join(name),
            _ => self.top.join("...").join(name),
        }
    }
}

/// The monotonic clock. Never that of a test.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Opens a directory; a directory without rights for its owner gets them first.
fn open(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    match openat2(parent, name, DIRECTORY, Mode::empty(), BENEATH) {
        Err(Errno::ACCESS) => {}
        opened => return opened,
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let located = openat2(parent, name, flags, Mode::empty(), BENEATH)?;
    let link = format!("/proc/self/fd/{}", located.as_raw_fd());
    rustix::fs::chmod(&link, Mode::RWXU)?;
    openat(
        CWD,
        link,
        DIRECTORY.difference(OFlags::NOFOLLOW),
        Mode::empty(),
    )
}

/// Takes a directory from its owner, as far as this user may, and lets this user write it. Where that
/// fails, the removal of its entries says why.
fn take_over(directory: &OwnedFd, stat: &Stat) {
    let own = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if (stat.st_uid, stat.st_gid) != own {
        let _taken = give(directory, own);
    }
    if stat.st_mode & 0o7777 != 0o700 {
        let _set = fchmod(directory, Mode::RWXU);
    }
}
