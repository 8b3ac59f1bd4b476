//! A bare clone: one FICLONE for each file of a list that is known, or one Btrfs snapshot.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fchown, fsync, ioctl_ficlone, mkdirat, openat};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use rustix::process::{Gid, Uid};

/// The inode of a Btrfs subvolume's top directory.
const SUBVOLUME_INODE: u64 = 256;

/// `struct btrfs_ioctl_vol_args_v2` of `linux/btrfs.h`, its unions as the members used here.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `BTRFS_IOC_SNAP_CREATE_V2`.
const SNAP_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(0x94, 23);

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
    let last = to.file_name().expect("a clone has a name").as_bytes();
    let mut name = [0; 4040];
    name[..last.len()].copy_from_slice(last);
    let args = VolArgsV2 {
        fd: i64::from(source.as_raw_fd()),
        transid: 0,
        flags: 0,
        unused: [0; 4],
        name,
    };
    // SAFETY: the opcode takes exactly this structure; its name is far shorter than the field and so
    // ends in a zero byte, and its descriptor is open.
    unsafe { ioctl(&parent, Setter::<SNAP_CREATE_V2, _>::new(args)) }
        .expect("a snapshot can be made");
}
