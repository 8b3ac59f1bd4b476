//! Copies of trees, by reflink or in full.
//!
//! A copy is one walk: a reflink costs about 50 µs per file, and a second walk would cost as much again. Two copies of
//! one tree are one walk too: a second thread copies each file of the first copy while the next one is copied.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, Stat, fchmod, fchown, fstat, openat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::Sharing;
use super::tree::{TreeSize, is_excluded, is_of_server};
use crate::fsutil::beneath::{Directory, Kind, PERMISSIONS, TreeError, Walk};

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

/// Whether a server changes a tree while it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// Nothing changes.
    AtRest,
    /// A server in backup mode works on it: files vanish and change, and WAL will make it consistent.
    Running,
}

/// The files that wait for the second thread. Each keeps a descriptor open.
const QUEUE_LENGTH: usize = 64;
/// A file of so many bytes may have thousands of extents.
const LARGE_BYTES: i64 = 1 << 20;

/// A step of the first copy, which the second one repeats.
enum Step {
    Enter {
        name: OsString,
        like: Stat,
        path: PathBuf,
    },
    Leave,
    File {
        copy: File,
        name: OsString,
        like: Stat,
        path: PathBuf,
    },
}

struct Copier<'a> {
    how: FileCopy,
    activity: Activity,
    /// The owner of the files that this process creates.
    creator: (u32, u32),
    /// The mode bits that created files lack.
    umask: u32,
    size: TreeSize,
    sharing: Sharing,
    /// Makes the second copy, if there is one.
    second: Option<SyncSender<Step>>,
    /// Held during the reflink of a large file. Two at once would take turns for the lock of XFS' allocation group at each
    /// extent, which takes four times as long as one after the other.
    turn: Option<&'a Mutex<()>>,
}

/// Copies a tree, without setuid, setgid and sticky bits. `to` must not exist, or be an empty directory
/// that only multidb can write.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    how: FileCopy,
    activity: Activity,
) -> Result<(TreeSize, Sharing), TreeError> {
    let mut copier = Copier::new(how, activity);
    let source = Directory::open(from)?;
    let target = copier.make_directory(CWD, to.as_os_str(), &source.stat()?, from)?;
    copier.copy_entries(source, target)?;
    Ok((copier.size, copier.sharing))
}

/// Copies a tree to two paths. The second copy is of the first one, so they are equal also if the tree changes.
pub(super) fn copy_twice(
    from: &Path,
    to: [&Path; 2],
    how: FileCopy,
    activity: Activity,
) -> Result<TreeSize, TreeError> {
    let mut copier = Copier::new(how, activity);
    let source = Directory::open(from)?;
    let like = source.stat()?;
    let [first, second] = to.map(|to| copier.make_directory(CWD, to.as_os_str(), &like, from));
    let (first, second) = (first?, second?);
    let (sender, steps) = sync_channel(QUEUE_LENGTH);
    let turn = Mutex::new(());
    let mut repeater = Copier::new(how, Activity::AtRest);
    copier.second = Some(sender);
    (copier.turn, repeater.turn) = (Some(&turn), Some(&turn));
    thread::scope(|scope| {
        let repeated = scope.spawn(move || repeater.repeat(&steps, second));
        let copied = copier.copy_entries(source, first);
        // The end of the steps.
        copier.second = None;
        let repeated = repeated
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // In this order: the first copy ends by the failure of the second one.
        repeated.and(copied)
    })?;
    Ok(copier.size)
}

/// Copies these files of a directory into another one.
pub(super) fn copy_files(
    from: &Directory,
    to: &Directory,
    names: &[OsString],
    how: FileCopy,
) -> Result<(), TreeError> {
    let mut copier = Copier::new(how, Activity::Running);
    for name in names {
        let path = from.path().join(name);
        let source = from.file(name)?;
        let like = fstat(&source).map_err(|error| io_error("stat", &path, error.into()))?;
        copier.place(source, &like, to, name, &path)?;
    }
    Ok(())
}

impl Copier<'_> {
    fn new(how: FileCopy, activity: Activity) -> Self {
        Self {
            how,
            activity,
            creator: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
            umask: umask(),
            size: TreeSize::default(),
            sharing: match how {
                FileCopy::Full => Sharing::Copied,
                FileCopy::Reflink | FileCopy::ReflinkOrFull => Sharing::Shared,
            },
            second: None,
            turn: None,
        }
    }

    /// Makes a copy of a copy, file by file as that is made.
    fn repeat(mut self, steps: &Receiver<Step>, target: OwnedFd) -> Result<(), TreeError> {
        let mut targets = vec![target];
        for step in steps {
            let Some(target) = targets.last() else {
                break;
            };
            match step {
                Step::Enter { name, like, path } => {
                    let made = self.make_directory(target, &name, &like, &path)?;
                    targets.push(made);
                }
                Step::Leave => drop(targets.pop()),
                Step::File {
                    mut copy,
                    name,
                    like,
                    path,
                } => {
                    // It was written to its end, unless it shares its blocks.
                    copy.rewind()
                        .map_err(|source| io_error("read the copy of", &path, source))?;
                    self.place(copy, &like, target, &name, &path)?;
                }
            }
        }
        Ok(())
    }

    /// Hands a step on to the second copy, if there is one.
    fn hand_on(&self, path: &Path, step: impl FnOnce(PathBuf) -> Step) -> Result<(), TreeError> {
        let Some(second) = &self.second else {
            return Ok(());
        };
        let sent = second.send(step(path.to_owned()));
        sent.map_err(|_| io_error("copy again", path, io::ErrorKind::BrokenPipe.into()))
    }

    fn copy_entries(&mut self, source: Directory, target: OwnedFd) -> Result<(), TreeError> {
        let mut walk = Walk::new(source)?;
        // The copies of the directories that the walk is in.
        let mut targets = vec![target];
        while let Some(kind) = walk.advance()? {
            if kind == Kind::End {
                targets.pop();
                self.hand_on(Path::new(""), |_| Step::Leave)?;
                continue;
            }
            let is_running = self.activity == Activity::Running;
            let is_left_out = is_excluded(&walk) || is_running && is_of_server(&walk);
            let Some(target) = targets.last().filter(|_| !is_left_out) else {
                continue;
            };
            let copied = match kind {
                Kind::Directory => match walk.enter() {
                    Ok(like) => {
                        let path = walk.path();
                        let made = self.make_directory(target, walk.name(), &like, &path)?;
                        targets.push(made);
                        let name = walk.name().to_owned();
                        self.hand_on(&path, |path| Step::Enter { name, like, path })
                    }
                    Err(error) => Err(error),
                },
                Kind::File => self.file(&walk, target),
                Kind::Other | Kind::End => Err(walk.foreign()),
            };
            match copied {
                // Of a table, or a database, that was dropped meanwhile.
                Err(error) if is_running && error.is_missing() => {}
                copied => copied?,
            }
        }
        Ok(())
    }

    fn file(&mut self, walk: &Walk, to: &OwnedFd) -> Result<(), TreeError> {
        let (source, like) = walk.open()?;
        let (name, path) = (walk.name(), walk.path());
        let copy = self.place(source, &like, to, name, &path)?;
        let name = name.to_owned();
        self.hand_on(&path, |path| Step::File {
            copy,
            name,
            like,
            path,
        })
    }

    /// Copies an open file to a new name.
    fn place(
        &mut self,
        source: File,
        like: &Stat,
        to: impl AsFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<File, TreeError> {
        let failed = |action| move |error: Errno| io_error(action, path, error.into());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(like.st_mode & PERMISSIONS);
        let target = openat(to, name, flags, mode).map_err(failed("create the copy of"))?;
        if (like.st_uid, like.st_gid) != self.creator {
            self.set_owner(&target, like)
                .map_err(failed("set the owner of"))?;
        }
        if like.st_mode & PERMISSIONS & self.umask != 0 {
            fchmod(&target, mode).map_err(failed("set the mode of"))?;
        }
        let mut target = File::from(target);
        if like.st_size > 0 {
            let is_large = like.st_size >= LARGE_BYTES && self.how != FileCopy::Full;
            let turn = self.turn.filter(|_| is_large);
            let _turn = turn.map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
            self.contents(source, &mut target, like.st_size as u64)
                .map_err(|(action, source)| io_error(action, path, source))?;
        }
        self.size.add(like);
        Ok(target)
    }

    fn contents(
        &mut self,
        source: File,
        target: &mut File,
        bytes: u64,
    ) -> Result<(), (&'static str, io::Error)> {
        if self.how != FileCopy::Full {
            match rustix::fs::ioctl_ficlone(&*target, &source) {
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
        // No more than its bytes at the start, should a process write to it.
        match io::copy(&mut source.take(bytes), target) {
            Ok(_) => Ok(()),
            Err(error) => Err(("copy", error)),
        }
    }

    fn make_directory(
        &self,
        at: impl AsFd,
        name: &OsStr,
        like: &Stat,
        path: &Path,
    ) -> Result<OwnedFd, TreeError> {
        let mode = Mode::from_raw_mode(like.st_mode & PERMISSIONS);
        let made = rustix::fs::mkdirat(&at, name, mode);
        let failed = |action| move |error: Errno| io_error(action, path, error.into());
        if made != Err(Errno::EXIST) {
            made.map_err(failed("create the copy of"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            openat(at, name, flags, Mode::empty()).map_err(failed("open the copy of"))?;
        self.set_owner(&directory, like)
            .map_err(failed("set the owner of"))?;
        if made.is_err() || like.st_mode & PERMISSIONS & self.umask != 0 {
            fchmod(&directory, mode).map_err(failed("set the mode of"))?;
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
    // Trusted path: only the kernel writes it.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let bits = line.and_then(|bits| u32::from_str_radix(bits.trim(), 8).ok());
    bits.unwrap_or(0o777)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> TreeError {
    TreeError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
