//! Walks over trees: their files, and their size.
//!
//! Names are looked up in open directories instead of by full paths, which is faster and follows no
//! links.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

/// The files at the top of a data directory that a running server leaves. Neither cloned nor counted.
const EXCLUDED: [&[u8]; 2] = [b"postmaster.pid", b"postmaster.opts"];

/// The size of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeSize {
    /// The number of its regular files.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// The error of a walk.
#[derive(Debug)]
pub(super) enum TreeError {
    /// The tree contains something else than files and directories.
    Foreign { path: PathBuf, kind: &'static str },
    /// A call failed.
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// The number and bytes of the files that a clone of this data directory has.
pub(super) fn size(root: &Path) -> Result<TreeSize, TreeError> {
    let mut size = TreeSize::default();
    let mut add = |directory: &OwnedFd, name: &OsStr, path: &Path| {
        if path
            .parent()
            .is_some_and(|parent| is_excluded(root, parent, name))
        {
            return Ok(());
        }
        let metadata = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        size.bytes += metadata.map_err(io_error("stat", path))?.st_size as u64;
        size.files += 1;
        Ok(())
    };
    visit(root, &mut add)?;
    Ok(size)
}

/// The number of files that a clone of this data directory has. It opens only directories: a thousand
/// files take about a millisecond.
pub(super) fn count(root: &Path) -> Result<u64, TreeError> {
    let mut files = 0;
    visit(root, &mut |_, name, path| {
        let parent = path.parent();
        files += u64::from(!parent.is_some_and(|parent| is_excluded(root, parent, name)));
        Ok(())
    })?;
    Ok(files)
}

/// A callback for each regular file, with its open directory, its name and its path.
pub(super) type Visitor<'a> = dyn FnMut(&OwnedFd, &OsStr, &Path) -> Result<(), TreeError> + 'a;

/// Calls `each` for every regular file of a tree. Files that are deleted meanwhile are skipped.
pub(super) fn visit(root: &Path, each: &mut Visitor<'_>) -> Result<(), TreeError> {
    visit_directory(&open_directory(CWD, root, root)?, root, each)
}

fn visit_directory(
    directory: &OwnedFd,
    path: &Path,
    each: &mut Visitor<'_>,
) -> Result<(), TreeError> {
    for entry in entries(directory, path)? {
        let (name, kind) = entry?;
        let name = OsStr::from_bytes(&name);
        let path = path.join(name);
        let visited = match kind {
            FileType::Directory => open_directory(directory, Path::new(name), &path)
                .and_then(|inner| visit_directory(&inner, &path, each)),
            FileType::RegularFile => each(directory, name, &path),
            other => Err(foreign(path, other)),
        };
        match visited {
            Err(TreeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            visited => visited?,
        }
    }
    Ok(())
}

/// The name and the type of an entry.
type Entry = Result<(Vec<u8>, FileType), TreeError>;

/// Lists a directory.
pub(super) fn entries<'a>(
    directory: &'a OwnedFd,
    path: &'a Path,
) -> Result<impl Iterator<Item = Entry> + 'a, TreeError> {
    let read = Dir::read_from(directory).map_err(io_error("list", path))?;
    Ok(read.filter_map(move |entry| match entry {
        Ok(entry) => {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                return None;
            }
            let kind = match entry.file_type() {
                // Not every file system has the type in its listing.
                FileType::Unknown => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map(|stat| FileType::from_raw_mode(stat.st_mode)),
                kind => Ok(kind),
            };
            let kind = kind.map_err(io_error("stat", path));
            Some(kind.map(|kind| (name.to_bytes().to_vec(), kind)))
        }
        Err(error) => Some(Err(io_error("list", path)(error))),
    }))
}

/// Whether a clone does not have this file of a data directory.
pub(super) fn is_excluded(root: &Path, directory: &Path, name: &OsStr) -> bool {
    EXCLUDED.contains(&name.as_bytes()) && directory == root
}

pub(super) fn open_directory(
    at: impl AsFd,
    name: &Path,
    path: &Path,
) -> Result<OwnedFd, TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty()).map_err(io_error("open", path))
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(Errno) -> TreeError {
    move |error| TreeError::Io {
        action,
        path: path.to_owned(),
        source: error.into(),
    }
}

/// The error of a file that no data directory has.
pub(super) fn foreign(path: PathBuf, kind: FileType) -> TreeError {
    let kind = match kind {
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of an unknown type",
    };
    TreeError::Foreign { path, kind }
}
