//! One walk over a tree: its copy by reflink or in full, and its size.
//!
//! Names are looked up in open directories, not by whole paths, and nothing is looked at twice:
//! a reflink costs about 50 µs a file, and a second walk would cost as much again.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fchown, fstat, openat, statat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

/// How the contents of a file are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileCopy {
    /// By FICLONE: the files share their blocks.
    Reflink,
    /// In full.
    Copy,
}

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeSize {
    /// Its regular files.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// Why a tree was not walked to its end.
#[derive(Debug)]
pub(super) enum TreeError {
    /// It holds something that a data directory must not hold.
    Foreign { path: PathBuf, kind: &'static str },
    /// A call failed.
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl TreeError {
    /// As when FICLONE says that the two files are not on one file system that can share.
    pub(super) fn cannot_share() -> Self {
        Self::Io {
            action: "reflink",
            path: PathBuf::new(),
            source: Errno::XDEV.into(),
        }
    }

    /// Whether it failed only because blocks cannot be shared between the two places.
    pub(super) fn is_cannot_share(&self) -> bool {
        let Self::Io { action, source, .. } = self else {
            return false;
        };
        let errno = source.raw_os_error().map(Errno::from_raw_os_error);
        let cannot = [Errno::XDEV, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOTTY];
        *action == "reflink" && errno.is_some_and(|errno| cannot.contains(&errno))
    }
}

/// What stands beside a data directory's files only while Postgres runs on it.
const LEFT_OUT: [&[u8]; 2] = [b"postmaster.pid", b"postmaster.opts"];

struct Walk {
    how: FileCopy,
    owner: (u32, u32),
    size: TreeSize,
}

/// Copies a tree. `to` must not exist, or be an empty directory.
pub(super) fn copy(from: &Path, to: &Path, how: FileCopy) -> Result<TreeSize, TreeError> {
    let source = open_directory(CWD, from, from)?;
    let target = make_directory(CWD, to, &stat(&source, from)?, to)?;
    let mut walk = Walk {
        how,
        owner: (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
        size: TreeSize::default(),
    };
    walk.directory(&source, &target, from)?;
    Ok(walk.size)
}

impl Walk {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), TreeError> {
        for entry in entries(from, path)? {
            let (name, kind) = entry?;
            let path = path.join(OsStr::from_bytes(&name));
            let name = OsStr::from_bytes(&name);
            match kind {
                FileType::Directory => {
                    let source = open_directory(from, Path::new(name), &path)?;
                    let made = make_directory(to, Path::new(name), &stat(&source, &path)?, &path)?;
                    self.directory(&source, &made, &path)?;
                }
                FileType::RegularFile if LEFT_OUT.contains(&name.as_bytes()) => {}
                FileType::RegularFile => self.file(from, to, name, &path)?,
                other => return Err(foreign(path, other)),
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), TreeError> {
        let io = |action| io_error(action, path);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(from, name, flags, Mode::empty()).map_err(io("open"))?;
        let metadata = fstat(&source).map_err(io("stat"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(metadata.st_mode);
        let target = openat(to, name, flags, mode).map_err(io("create the copy of"))?;
        if (metadata.st_uid, metadata.st_gid) != self.owner {
            give(&target, &metadata).map_err(io("set the owner of"))?;
        }
        if metadata.st_size > 0 {
            match self.how {
                FileCopy::Reflink => {
                    rustix::fs::ioctl_ficlone(&target, &source).map_err(io("reflink"))?;
                }
                FileCopy::Copy => {
                    io::copy(&mut File::from(source), &mut File::from(target)).map_err(
                        |source| TreeError::Io {
                            action: "copy",
                            path: path.to_owned(),
                            source,
                        },
                    )?;
                }
            }
        }
        self.size.files += 1;
        self.size.bytes += metadata.st_size as u64;
        Ok(())
    }
}

/// The files of a tree, and their bytes.
pub(super) fn size(path: &Path) -> Result<TreeSize, TreeError> {
    let mut size = TreeSize::default();
    let mut add = |directory: &OwnedFd, name: &OsStr, path: &Path| {
        let metadata = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        size.files += 1;
        size.bytes += metadata.map_err(io_error("stat", path))?.st_size as u64;
        Ok(())
    };
    visit(&open_directory(CWD, path, path)?, path, &mut add)?;
    Ok(size)
}

/// Calls `each` for every regular file of a tree.
pub(super) fn visit(
    directory: &OwnedFd,
    path: &Path,
    each: &mut dyn FnMut(&OwnedFd, &OsStr, &Path) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    for entry in entries(directory, path)? {
        let (name, kind) = entry?;
        let name = OsStr::from_bytes(&name);
        let path = path.join(name);
        match kind {
            FileType::Directory => {
                let inner = open_directory(directory, Path::new(name), &path)?;
                visit(&inner, &path, each)?;
            }
            FileType::RegularFile => each(directory, name, &path)?,
            other => return Err(foreign(path, other)),
        }
    }
    Ok(())
}

type Entry = Result<(Vec<u8>, FileType), TreeError>;

fn entries(directory: &OwnedFd, path: &Path) -> Result<impl Iterator<Item = Entry>, TreeError> {
    let owned = path.to_owned();
    let read = Dir::read_from(directory).map_err(io_error("list", path))?;
    Ok(read.filter_map(move |entry| match entry {
        Ok(entry) => {
            let name = entry.file_name().to_bytes();
            let is_itself = matches!(name, b"." | b"..");
            (!is_itself).then(|| Ok((name.to_vec(), entry.file_type())))
        }
        Err(error) => Some(Err(io_error("list", &owned)(error))),
    }))
}

pub(super) fn open_directory(
    at: impl AsFd,
    name: &Path,
    path: &Path,
) -> Result<OwnedFd, TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty()).map_err(io_error("open", path))
}

fn make_directory(
    at: impl AsFd,
    name: &Path,
    like: &Stat,
    path: &Path,
) -> Result<OwnedFd, TreeError> {
    let mode = Mode::from_raw_mode(like.st_mode);
    match rustix::fs::mkdirat(&at, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(io_error("create", path)(error)),
    }
    let made = open_directory(at, name, path)?;
    give(&made, like).map_err(io_error("set the owner of", path))?;
    Ok(made)
}

/// Gives a file to the owner of another. Only root can, and only root needs to.
fn give(file: impl AsFd, like: &Stat) -> rustix::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    fchown(file, Some(uid), Some(gid))
}

fn stat(file: &OwnedFd, path: &Path) -> Result<Stat, TreeError> {
    fstat(file).map_err(io_error("stat", path))
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(Errno) -> TreeError {
    let path = path.to_owned();
    move |error| TreeError::Io {
        action,
        path: path.clone(),
        source: error.into(),
    }
}

fn foreign(path: PathBuf, kind: FileType) -> TreeError {
    let kind = match kind {
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "thing of an unknown kind",
    };
    TreeError::Foreign { path, kind }
}
