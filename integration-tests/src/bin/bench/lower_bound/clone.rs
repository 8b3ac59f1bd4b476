//! A bare clone: one FICLONE for each file of a list that is known, or one Btrfs snapshot.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fchown, fsync, ioctl_ficlone, mkdirat, openat};
use rustix::ioctl::{Setter, ioctl};
use rustix::process::{Gid, Uid};

use self::vol_args::{SNAP_CREATE_V2, VolArgsV2};

#[path = "../../../../../src/fsutil/btrfs/vol_args.rs"]
mod vol_args;

/// The inode of a Btrfs subvolume's top directory.
const SUBVOLUME_INODE: u64 = 256;

/// A data directory, listed beforehand.
pub(super) struct Tree {
    root: PathBuf,
    subvolume: bool,
    owner: (Uid, Gid),
    directories: Vec<Directory>,
}

struct Directory {
    path: PathBuf,
    files: Vec<(PathBuf, u64)>,
}

impl Tree {
    /// Lists a data directory.
    pub(super) fn read(root: &Path) -> Self {
        let top = fs::metadata(root).expect("the snapshot's data is there");
        let mut tree = Self {
            root: root.to_owned(),
            subvolume: top.ino() == SUBVOLUME_INODE,
            owner: (Uid::from_raw(top.uid()), Gid::from_raw(top.gid())),
            directories: Vec::new(),
        };
        tree.list(PathBuf::new());
        tree
    }

    fn list(&mut self, path: PathBuf) {
        let index = self.directories.len();
        self.directories.push(Directory {
            path: path.clone(),
            files: Vec::new(),
        });
        let entries = fs::read_dir(self.root.join(&path)).expect("the snapshot can be listed");
        for entry in entries.flatten() {
            let metadata = entry.metadata().expect("an entry has metadata");
            if metadata.is_dir() {
                self.list(path.join(entry.file_name()));
            } else {
                let file = (PathBuf::from(entry.file_name()), metadata.len());
                self.directories[index].files.push(file);
            }
        }
    }

    /// Clones it, and syncs the directory of the clone.
    pub(super) fn clone_to(&self, to: &Path) {
        if self.subvolume {
            snapshot(&self.root, to);
        } else {
            self.reflink(to);
        }
        let parent = to.parent().expect("a clone is in a directory");
        fsync(File::open(parent).expect("a directory can be opened")).expect("fsync works");
    }

    fn reflink(&self, to: &Path) {
        let (uid, gid) = self.owner;
        for directory in &self.directories {
            let target = to.join(&directory.path);
            mkdirat(CWD, &target, Mode::RWXU).expect("a directory can be made");
            let target = open_directory(&target);
            fchown(&target, Some(uid), Some(gid)).expect("root can give a directory away");
            let source = open_directory(&self.root.join(&directory.path));
            for (name, bytes) in &directory.files {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let file = openat(&target, name, flags, mode).expect("a file can be made");
                fchown(&file, Some(uid), Some(gid)).expect("root can give a file away");
                if *bytes > 0 {
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                    let from = openat(&source, name, flags, Mode::empty())
                        .expect("a file of the snapshot can be opened");
                    ioctl_ficlone(&file, &from).expect("this file system can reflink");
                }
            }
        }
    }
}

fn open_directory(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).expect("a directory can be opened")
}

fn snapshot(from: &Path, to: &Path) {
    let source = open_directory(from);
    let parent = open_directory(to.parent().expect("a clone is in a directory"));
    let name = to.file_name().expect("a clone has a name");
    let args = VolArgsV2::new(source.as_raw_fd().into(), name).expect("its name is short");
    // SAFETY: the opcode takes exactly this structure, whose name ends in a zero byte and whose
    // descriptor is open.
    unsafe { ioctl(&parent, Setter::<SNAP_CREATE_V2, _>::new(args)) }
        .expect("a snapshot can be made");
}
