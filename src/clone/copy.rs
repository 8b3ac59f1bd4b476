//! Copies of trees, by reflink or in full.
//!
//! A copy is one walk: a reflink costs about 50 µs per file, and a second walk would cost as much again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fchmod, fchown, fstat, openat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::Sharing;
use super::tree::{TreeError, TreeSize, entries, foreign, io_error, is_excluded, open_directory};

/// The bits of a mode that are copied.
const PERMISSIONS: u32 = 0o7777;

/// How the contents of a file are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileCopy {
    /// By FICLONE: the files share their blocks.
    Reflink,
    /// By FICLONE if possible, else in full.
    ReflinkOrFull,
    /// In full.
    Full,
}

struct Walk<'a> {
    root: &'a Path,
    how: FileCopy,
    /// The owner of the files that this process creates.
    creator: (u32, u32),
    /// The mode bits that created files lack.
    umask: u32,
    size: TreeSize,
    sharing: Sharing,
}

/// Copies a tree. `to` must not exist, or be an empty directory.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    how: FileCopy,
) -> Result<(TreeSize, Sharing), TreeError> {
    let mut walk = Walk {
        root: from,
        how,
        creator: (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
        umask: umask(),
        size: TreeSize::default(),
        sharing: Sharing::Shared,
    };
    if how == FileCopy::Full {
        walk.sharing = Sharing::Copied;
    }
    let source = open_directory(CWD, from, from)?;
    let target = walk.make_directory(CWD, to, &stat(&source, from)?, to)?;
    walk.directory(&source, &target, from)?;
    Ok((walk.size, walk.sharing))
}

impl Walk<'_> {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), TreeError> {
        for entry in entries(from, path)? {
            let (name, kind) = entry?;
            let name = OsStr::from_bytes(&name);
            if is_excluded(self.root, path, name) {
                continue;
            }
            let path = path.join(name);
            match kind {
                FileType::Directory => {
                    let source = open_directory(from, Path::new(name), &path)?;
                    let like = stat(&source, &path)?;
                    let made = self.make_directory(to, Path::new(name), &like, &path)?;
                    self.directory(&source, &made, &path)?;
                }
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
        let failed = |action| io_error(action, path);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(from, name, flags, Mode::empty()).map_err(failed("open"))?;
        let like = fstat(&source).map_err(failed("stat"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(like.st_mode & PERMISSIONS);
        let target = openat(to, name, flags, mode).map_err(failed("create the copy of"))?;
        if (like.st_uid, like.st_gid) != self.creator {
            self.set_owner(&target, &like)
                .map_err(failed("set the owner of"))?;
        }
        if like.st_mode & self.umask != 0 {
            fchmod(&target, mode).map_err(failed("set the mode of"))?;
        }
        if like.st_size > 0 {
            self.contents(source, target)
                .map_err(|(action, source)| TreeError::Io {
                    action,
                    path: path.to_owned(),
                    source,
                })?;
        }
        self.size.files += 1;
        self.size.bytes += like.st_size as u64;
        Ok(())
    }

    fn contents(
        &mut self,
        source: OwnedFd,
        target: OwnedFd,
    ) -> Result<(), (&'static str, io::Error)> {
        if self.how != FileCopy::Full {
            match rustix::fs::ioctl_ficlone(&target, &source) {
                Ok(()) => return Ok(()),
                Err(error) if self.how == FileCopy::Reflink || !cannot_share(error) => {
                    return Err(("reflink", error.into()));
                }
                // This file only: Btrfs has checksums of one of the two and not of the other.
                Err(Errno::INVAL) => {}
                Err(_) => self.how = FileCopy::Full,
            }
            self.sharing = Sharing::Copied;
        }
        match io::copy(&mut File::from(source), &mut File::from(target)) {
            Ok(_) => Ok(()),
            Err(error) => Err(("copy", error)),
        }
    }

    fn make_directory(
        &self,
        at: impl AsFd,
        name: &Path,
        like: &Stat,
        path: &Path,
    ) -> Result<OwnedFd, TreeError> {
        let mode = Mode::from_raw_mode(like.st_mode & PERMISSIONS);
        let made = rustix::fs::mkdirat(&at, name, mode);
        if made != Err(Errno::EXIST) {
            made.map_err(io_error("create", path))?;
        }
        let directory = open_directory(at, name, path)?;
        self.set_owner(&directory, like)
            .map_err(io_error("set the owner of", path))?;
        if made.is_err() || like.st_mode & self.umask != 0 {
            fchmod(&directory, mode).map_err(io_error("set the mode of", path))?;
        }
        Ok(directory)
    }

    /// Sets the owner of a file to that of another, if multidb runs as root. Otherwise all files
    /// belong to one user.
    fn set_owner(&self, file: impl AsFd, like: &Stat) -> rustix::io::Result<()> {
        if self.creator.0 != 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
        fchown(file, Some(uid), Some(gid))
    }
}

/// Whether this error of FICLONE means that the two files cannot share blocks.
fn cannot_share(error: Errno) -> bool {
    [Errno::XDEV, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOTTY].contains(&error)
}

/// The umask of this process, which umask(2) returns only by changing it. If it cannot be read, the
/// mode of every file is set.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let bits = line.and_then(|bits| u32::from_str_radix(bits.trim(), 8).ok());
    bits.unwrap_or(0o777)
}

fn stat(file: &OwnedFd, path: &Path) -> Result<Stat, TreeError> {
    fstat(file).map_err(io_error("stat", path))
}
