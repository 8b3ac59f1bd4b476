//! A walk over a tree whose data is read: by import, clone and measurement.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, DirEntry, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::fs::{fchmod, fstat, openat2, renameat_with};
use rustix::io::Errno;

use super::{BENEATH, DIRECTORY, Directory, FILE, TreeError, delete, stat_at};

/// The most nested directories of a tree whose data is read; each costs a descriptor. Postgres nests
/// five.
pub const DEPTH_MAX: usize = 32;

/// The kind of a directory's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory, which [`Walk::enter`] enters.
    Directory,
    /// A regular file.
    File,
    /// Something else: a link, a FIFO, a socket or a device.
    Other,
    /// The end of the directory that was entered last.
    End,
}

/// A walk over a tree, each directory before its entries. It enters only the directories that it is told
/// to, and holds one descriptor for each level.
#[derive(Debug)]
pub struct Walk {
    top: PathBuf,
    /// The device of all its directories. Each Btrfs subvolume is one of its own.
    device: u64,
    /// The open directories, from the top to the listed one.
    levels: Vec<Dir>,
    /// The last entry; `None` before the first and after the end of a directory.
    entry: Option<DirEntry>,
    file_type: FileType,
    /// The last entry's path below the top.
    relative: PathBuf,
}

impl Walk {
    /// Begins a walk.
    ///
    /// # Errors
    ///
    /// The directory cannot be listed.
    pub fn new(top: Directory) -> Result<Self, TreeError> {
        let device = top.stat()?.st_dev;
        let listing = Dir::new(top.fd).map_err(|e| TreeError::of_call("list", &top.path, e))?;
        Ok(Self {
            top: top.path,
            device,
            levels: vec![listing],
            entry: None,
            file_type: FileType::Unknown,
            relative: PathBuf::new(),
        })
    }

    /// Goes to the next entry. `None` at the end of the tree. A directory that is not entered is passed
    /// over.
    ///
    /// # Errors
    ///
    /// A directory cannot be listed.
    pub fn advance(&mut self) -> Result<Option<Kind>, TreeError> {
        loop {
            if self.entry.take().is_some() {
                self.relative.pop();
            }
            let Some(listing) = self.levels.last_mut() else {
                return Ok(None);
            };
            let entry = match listing.read() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    return Err(TreeError::of_call("list", &self.path(), error));
                }
                None => {
                    self.levels.pop();
                    self.relative.pop();
                    return Ok((!self.levels.is_empty()).then_some(Kind::End));
                }
            };
            let name = os_str(entry.file_name().to_bytes());
            if is_dot(name.as_bytes()) {
                continue;
            }
            self.relative.push(name);
            self.file_type = entry.file_type();
            self.entry = Some(entry);
            if self.file_type == FileType::Unknown {
                // Not every file system has the type in its listing.
                match self.stat() {
                    Ok(stat) => self.file_type = FileType::from_raw_mode(stat.st_mode),
                    Err(error) if error.is_missing() => continue,
                    Err(error) => return Err(error),
                }
            }
            return Ok(Some(match self.file_type {
                FileType::Directory => Kind::Directory,
                FileType::RegularFile => Kind::File,
                _ => Kind::Other,
            }));
        }
    }

    /// Enters the directory that the walk is at, and returns its properties.
    ///
    /// # Errors
    ///
    /// It is nested too deeply, is no directory any more, or cannot be opened.
    pub fn enter(&mut self) -> Result<Stat, TreeError> {
        if self.levels.len() > DEPTH_MAX {
            return Err(TreeError::TooDeep {
                path: self.path(),
                depth_max: DEPTH_MAX,
            });
        }
        let (inner, stat) = self.open_as(DIRECTORY)?;
        if stat.st_dev != self.device {
            return Err(TreeError::MountPoint { path: self.path() });
        }
        let listing = Dir::new(inner).map_err(self.failed("list"))?;
        self.levels.push(listing);
        self.entry = None;
        Ok(stat)
    }

    /// Opens the regular file that the walk is at.
    ///
    /// # Errors
    ///
    /// It is no regular file any more, or cannot be opened.
    pub fn open(&self) -> Result<(File, Stat), TreeError> {
        let (file, stat) = self.open_as(FILE)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((File::from(file), stat)),
            other => Err(TreeError::foreign(&self.path(), other)),
        }
    }

    /// The properties of the entry that the walk is at; for a link, its own.
    ///
    /// # Errors
    ///
    /// It has vanished.
    pub fn stat(&self) -> Result<Stat, TreeError> {
        stat_at(self.parent(), self.name()).map_err(self.failed("stat"))
    }

    /// Sets the permissions of the file or the directory that the walk is at.
    ///
    /// # Errors
    ///
    /// It is something else by now, or the file system refuses.
    pub fn set_mode(&self, mode: u32) -> Result<(), TreeError> {
        let flags = match self.file_type {
            FileType::Directory => DIRECTORY,
            _ => FILE,
        };
        let (opened, _) = self.open_as(flags)?;
        fchmod(&opened, Mode::from_raw_mode(mode)).map_err(self.failed("set the mode of"))
    }

    /// Deletes the entry that the walk is at, with everything in it.
    ///
    /// # Errors
    ///
    /// See [`super::remove`].
    pub fn remove(&self) -> Result<(), TreeError> {
        delete::remove_at(self.parent(), self.name(), &self.path())
    }

    /// Moves the entry that the walk is at into another directory, which must not have its name. `false` if that is on
    /// another file system, or in another subvolume.
    ///
    /// # Errors
    ///
    /// The name exists there, the entry is gone, or the system refuses.
    pub fn move_into(&self, to: &Directory) -> Result<bool, TreeError> {
        let (name, flags) = (self.name(), RenameFlags::NOREPLACE);
        match renameat_with(self.parent(), name, &to.fd, name, flags) {
            Err(Errno::XDEV) => Ok(false),
            moved => moved.map(|()| true).map_err(self.failed("move")),
        }
    }

    /// Whether the entry that the walk is at is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.file_type == FileType::Symlink
    }

    /// The error of an entry that is neither a file nor a directory.
    pub fn foreign(&self) -> TreeError {
        TreeError::foreign(&self.path(), self.file_type)
    }

    /// The name of the entry that the walk is at, or of the directory that it has just entered.
    pub fn name(&self) -> &OsStr {
        match &self.entry {
            Some(entry) => os_str(entry.file_name().to_bytes()),
            None => self.relative.file_name().unwrap_or_default(),
        }
    }

    /// Whether the entry that the walk is at is directly in the top.
    pub fn is_at_top(&self) -> bool {
        self.levels.len() == 1
    }

    /// The path below the top of the entry that the walk is at.
    pub fn relative(&self) -> &Path {
        &self.relative
    }

    /// The path of the entry that the walk is at, for messages.
    pub fn path(&self) -> PathBuf {
        if self.relative.as_os_str().is_empty() {
            return self.top.clone();
        }
        self.top.join(&self.relative)
    }

    fn open_as(&self, flags: OFlags) -> Result<(OwnedFd, Stat), TreeError> {
        let opened = openat2(self.parent(), self.name(), flags, Mode::empty(), BENEATH)
            .map_err(self.failed("open"))?;
        let stat = fstat(&opened).map_err(self.failed("stat"))?;
        Ok((opened, stat))
    }

    fn failed(&self, action: &'static str) -> impl Fn(Errno) -> TreeError {
        move |error| TreeError::of_call(action, &self.path(), error)
    }

    /// The directory that is listed.
    fn parent(&self) -> BorrowedFd<'_> {
        // The walk is at an entry, so there is one; a call on the working directory would fail, since
        // an entry's name is empty then.
        let fd = self.levels.last().and_then(|listing| listing.fd().ok());
        fd.unwrap_or(rustix::fs::CWD)
    }
}

pub(super) fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

pub(super) fn os_str(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

impl From<Directory> for OwnedFd {
    fn from(directory: Directory) -> Self {
        directory.fd
    }
}
