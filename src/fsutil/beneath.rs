//! Work in trees that another user can write: a data directory, a run directory, a directory given for
//! an import.
//!
//! A superuser of an instance, or the author of a dump, can put links, FIFOs, devices, mount points,
//! endless files and thousands of nested directories there, and can exchange them at any moment. So all
//! work goes by descriptors: the top of the tree is opened by its path, whose parents only multidb can
//! write, and everything in it by `openat2` beneath an open directory, without links and without
//! leaving the mount. Only regular files are opened, with a bound on the bytes read. No function
//! recurses, and none keeps a descriptor for each level of a tree without a limit.
//!
//! | function | deep nesting |
//! | --- | --- |
//! | [`Walk`] | is an error beyond a limit |
//! | [`remove`] | has no limit: deletion always ends |

mod delete;
mod error;
mod walk;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, fchmod, fchown, fstat,
    openat2, renameat_with, statat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

pub use self::delete::remove;
pub use self::error::TreeError;
pub use self::walk::{DEPTH_MAX, Kind, Walk};

/// The bits of a mode that files of Postgres have: never setuid, setgid or sticky.
pub const PERMISSIONS: u32 = 0o777;

/// No path leaves the directory that it starts at, by links or by mounts.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Without blocking, in case a FIFO takes the file's place at this moment.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// An open directory of a tree that another user can write.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// Its path when it was opened, for messages.
    path: PathBuf,
}

/// Checks that the system has `openat2`.
///
/// # Errors
///
/// The kernel is older than Linux 5.6, or a filter of system calls refuses it.
pub fn require_openat2() -> anyhow::Result<()> {
    let opened = openat2(CWD, ".", DIRECTORY, Mode::empty(), ResolveFlags::empty());
    opened.map(drop).or_else(judge_refusal)
}

/// The directory may be one that cannot be read; only a call that is not there is an error.
fn judge_refusal(error: Errno) -> anyhow::Result<()> {
    match error {
        Errno::NOSYS | Errno::PERM => anyhow::bail!(
            "the system refuses openat2 ({error}), by which multidb works in directories that others may write to\n\
             hint: It needs Linux 5.6, and no filter that refuses it, such as that of RestrictSUIDSGID= in a unit of systemd \
             or of an old container runtime."
        ),
        _ => Ok(()),
    }
}

impl Directory {
    /// Opens the top of a tree. Only multidb can write the directories above it; a link in its own
    /// place is not followed.
    ///
    /// # Errors
    ///
    /// It is missing, no directory, or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let fd = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .map_err(|error| TreeError::of_call("open", path, error))?;
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its owner, mode and number.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn stat(&self) -> Result<Stat, TreeError> {
        fstat(&self.fd).map_err(self.failed("stat", ""))
    }

    /// Opens a directory beneath this one.
    ///
    /// # Errors
    ///
    /// It is missing, or a part of the path is no directory.
    pub fn directory(&self, relative: impl AsRef<Path>) -> Result<Self, TreeError> {
        let relative = relative.as_ref();
        let path = self.path.join(relative);
        match openat2(&self.fd, relative, DIRECTORY, Mode::empty(), BENEATH) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::NOTDIR) => Err(self.not_a_directory(relative)),
            Err(error) => Err(TreeError::of_call("open", &path, error)),
        }
    }

    /// The file that the path beneath this directory leads to, without following a link. `None` if
    /// nothing is there.
    ///
    /// # Errors
    ///
    /// A part of the path is no directory.
    pub fn find(&self, relative: impl AsRef<Path>) -> Result<Option<Stat>, TreeError> {
        match self.locate(relative.as_ref()) {
            Ok(located) => {
                let stat = fstat(&located).map_err(self.failed("stat", relative))?;
                Ok(Some(stat))
            }
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a regular file for reading. Nothing else is opened, not even for a moment: opening a
    /// device can have effects.
    ///
    /// # Errors
    ///
    /// It is missing or no regular file, or cannot be opened.
    pub fn file(&self, relative: impl AsRef<Path>) -> Result<File, TreeError> {
        let relative = relative.as_ref();
        let located = self.locate(relative)?;
        open_located(&located, &self.path.join(relative)).map(|(file, _)| file)
    }

    /// Reads a small regular file. `None` if it is missing.
    ///
    /// # Errors
    ///
    /// It is no regular file, is longer than the limit, or cannot be read.
    pub fn read(
        &self,
        relative: impl AsRef<Path>,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, TreeError> {
        let relative = relative.as_ref();
        match self.file(relative) {
            Ok(file) => read_bounded(file, &self.path.join(relative), bytes_max).map(Some),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names in this directory, without `.` and `..`, as the file system lists them.
    ///
    /// # Errors
    ///
    /// It cannot be listed. An error of an entry ends the listing.
    pub fn names(
        &self,
    ) -> Result<impl Iterator<Item = Result<std::ffi::OsString, TreeError>> + use<'_>, TreeError>
    {
        let listing = rustix::fs::Dir::read_from(&self.fd).map_err(self.failed("list", ""))?;
        Ok(listing.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                (!walk::is_dot(name)).then(|| Ok(walk::os_str(name).to_owned()))
            }
            Err(error) => Some(Err(TreeError::of_call("list", &self.path, error))),
        }))
    }

    /// Creates a directory with this mode, regardless of the umask, and opens it.
    ///
    /// # Errors
    ///
    /// The name exists, or the system refuses.
    pub fn create_directory(&self, name: &OsStr, mode: u32) -> Result<Self, TreeError> {
        let bits = Mode::from_raw_mode(mode);
        rustix::fs::mkdirat(&self.fd, name, bits).map_err(self.failed("create", name))?;
        let made = self.directory(name)?;
        fchmod(&made.fd, bits).map_err(self.failed("set the mode of", name))?;
        Ok(made)
    }

    /// Creates a file with this mode, regardless of the umask, and opens it for writing.
    ///
    /// # Errors
    ///
    /// The name exists, or the system refuses.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> Result<File, TreeError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let bits = Mode::from_raw_mode(mode);
        let file =
            openat2(&self.fd, name, flags, bits, BENEATH).map_err(self.failed("create", name))?;
        fchmod(&file, bits).map_err(self.failed("set the mode of", name))?;
        Ok(File::from(file))
    }

    /// Creates a file with this mode and content.
    ///
    /// # Errors
    ///
    /// The name exists, or the system refuses.
    pub fn write_new(&self, name: &OsStr, mode: u32, content: &[u8]) -> Result<(), TreeError> {
        let mut file = self.create_file(name, mode)?;
        file.write_all(content)
            .map_err(|source| self.io("write", name, source))
    }

    /// The error of a missing file.
    pub fn missing(&self, relative: impl AsRef<Path>) -> TreeError {
        TreeError::of_call("open", &self.path.join(relative), Errno::NOENT)
    }

    /// Replaces the content of a regular file, by a new one with its owner and its permissions, so that
    /// another hard link of the old one keeps its content.
    ///
    /// # Errors
    ///
    /// It is missing or no regular file, or the system refuses.
    pub fn replace(&self, name: &OsStr, content: &[u8]) -> Result<(), TreeError> {
        let old = self.file(name)?;
        let like = fstat(&old).map_err(self.failed("stat", name))?;
        let temporary = format!(".multidb-{:016x}", rand::random::<u64>());
        let temporary = OsStr::new(&temporary);
        let mut new = self.create_file(temporary, like.st_mode & PERMISSIONS)?;
        let written = new
            .write_all(content)
            .map_err(|source| self.io("write", temporary, source))
            .and_then(|()| self.give(&new, (like.st_uid, like.st_gid), temporary))
            .and_then(|()| {
                let (at, flags) = (&self.fd, RenameFlags::empty());
                renameat_with(at, temporary, at, name, flags).map_err(self.failed("replace", name))
            });
        if written.is_err() {
            let _left = self.unlink(temporary);
        }
        written
    }

    /// Gives this directory to an owner, if multidb runs as root. Otherwise all files belong to one
    /// user already.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn set_owner(&self, owner: (u32, u32)) -> Result<(), TreeError> {
        self.give(&self.fd, owner, OsStr::new(""))
    }

    /// Sets the permissions of this directory.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn set_mode(&self, mode: u32) -> Result<(), TreeError> {
        fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(self.failed("set the mode of", ""))
    }

    /// Unlinks a name that is no directory.
    ///
    /// # Errors
    ///
    /// It is missing, or a directory.
    pub fn unlink(&self, name: &OsStr) -> Result<(), TreeError> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(self.failed("remove", name))
    }

    /// Deletes the file or tree of this name. A missing name is no error.
    ///
    /// # Errors
    ///
    /// See [`remove`].
    pub fn remove(&self, name: &OsStr) -> Result<(), TreeError> {
        delete::remove_at(self.fd.as_fd(), name, &self.path.join(name))
    }

    fn give(&self, file: impl AsFd, owner: (u32, u32), name: &OsStr) -> Result<(), TreeError> {
        give(file, owner).map_err(self.failed("set the owner of", name))
    }

    /// A descriptor of the located file that neither reads nor writes it (`O_PATH`).
    fn locate(&self, relative: &Path) -> Result<OwnedFd, TreeError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(&self.fd, relative, flags, Mode::empty(), BENEATH)
            .map_err(self.failed("open", relative))
    }

    /// The error of a path that leads to something else than a directory.
    fn not_a_directory(&self, relative: &Path) -> TreeError {
        let path = self.path.join(relative);
        match self.find(relative) {
            Ok(Some(stat)) => TreeError::foreign(&path, FileType::from_raw_mode(stat.st_mode)),
            _ => TreeError::of_call("open", &path, Errno::NOTDIR),
        }
    }

    fn io(&self, action: &'static str, name: &OsStr, source: io::Error) -> TreeError {
        TreeError::Io {
            action,
            path: self.path.join(name),
            source,
        }
    }

    fn failed(
        &self,
        action: &'static str,
        relative: impl AsRef<Path>,
    ) -> impl Fn(Errno) -> TreeError {
        move |error| match relative.as_ref() {
            none if none.as_os_str().is_empty() => TreeError::of_call(action, &self.path, error),
            some => TreeError::of_call(action, &self.path.join(some), error),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a regular file by its path. Only multidb can write its parents; the file itself may have been
/// replaced by anything.
///
/// # Errors
///
/// It is missing or no regular file, or cannot be opened.
pub fn open_file(path: &Path) -> Result<File, TreeError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let located = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|error| TreeError::of_call("open", path, error))?;
    open_located(&located, path).map(|(file, _)| file)
}

/// Reads a small file by its path, as [`open_file`] opens it. `None` if it is missing.
///
/// # Errors
///
/// It is no regular file, is longer than the limit, or cannot be read.
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, TreeError> {
    match open_file(path) {
        Ok(file) => read_bounded(file, path, bytes_max).map(Some),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives an open file to an owner, if multidb runs as root. Otherwise all files belong to one user already.
///
/// # Errors
///
/// The file system refuses.
pub fn set_owner(file: impl AsFd, owner: (u32, u32)) -> io::Result<()> {
    Ok(give(file, owner)?)
}

fn give(file: impl AsFd, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// Opens a file that a descriptor has located, if it is a regular one.
fn open_located(located: &OwnedFd, path: &Path) -> Result<(File, Stat), TreeError> {
    let failed = |action| move |error| TreeError::of_call(action, path, error);
    let stat = fstat(located).map_err(failed("stat"))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        other => return Err(TreeError::foreign(path, other)),
    }
    // The located file itself, regardless of the file in its place by now.
    let link = format!("/proc/self/fd/{}", located.as_raw_fd());
    let flags = FILE.difference(OFlags::NOFOLLOW);
    let file = rustix::fs::openat(CWD, link, flags, Mode::empty()).map_err(failed("open"))?;
    Ok((File::from(file), stat))
}

fn read_bounded(file: File, path: &Path, bytes_max: u64) -> Result<Vec<u8>, TreeError> {
    let mut content = Vec::new();
    let read = file
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut content);
    read.map_err(|source| TreeError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    if content.len() as u64 > bytes_max {
        let path = path.to_owned();
        return Err(TreeError::TooLong { path, bytes_max });
    }
    Ok(content)
}

fn stat_at(directory: impl AsFd, name: &OsStr) -> Result<Stat, Errno> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests;
