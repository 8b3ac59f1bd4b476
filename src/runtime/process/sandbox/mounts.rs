//! The file system of a sandbox: the machine's, with most directories of `/` covered by an empty one in which only
//! the visible directories are there, each at its own path. `/tmp` is an empty one of its own.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr;

use libc::{c_char, c_int, c_uint};

use crate::runtime::process::spawn::c_path;

/// The entries of `/` that are not covered: programs, their data, and devices, which Landlock guards.
const KEPT: [&str; 13] = [
    "bin", "dev", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "proc", "sbin", "sys",
    "usr",
];

/// The directory of temporary files.
pub(in crate::runtime::process) const TEMPORARY: &CStr = c"/tmp";

// From linux/mount.h.
const OPEN_TREE_CLONE: c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 4;

/// The mounts of one child, as strings for system calls.
pub(in crate::runtime::process) struct Mounts {
    covered: Vec<CString>,
    /// Whether it has a directory for temporary files.
    temporary: bool,
    /// The parents of the visible ones, parents first, and whether each is a directory.
    skeleton: Vec<(CString, bool)>,
    /// With room for a descriptor of each.
    visible: Vec<(CString, c_int)>,
}

impl Mounts {
    /// Covers the directories of `/`, and `hidden`, except the visible paths.
    ///
    /// # Errors
    ///
    /// `/` cannot be read.
    pub(in crate::runtime::process) fn new(hidden: &Path, visible: &[PathBuf]) -> io::Result<Self> {
        let mut covered = Vec::new();
        for entry in fs::read_dir("/")? {
            let entry = entry?;
            let kept = KEPT.iter().any(|kept| entry.file_name() == *kept);
            if !kept && entry.file_type()?.is_dir() {
                covered.push(entry.path());
            }
        }
        let is_covered = |covered: &[PathBuf], path: &Path| {
            covered.iter().any(|directory| path.starts_with(directory))
        };
        if hidden.parent().is_some() && !is_covered(&covered, hidden) {
            covered.push(hidden.to_owned());
        }
        // Sorted, so that a directory comes before the paths in it.
        let visible: BTreeSet<&PathBuf> = visible
            .iter()
            .filter(|path| is_covered(&covered, path) && path.exists())
            .collect();
        let mut skeleton = BTreeSet::new();
        for path in &visible {
            let below = path.ancestors().filter(|path| {
                covered
                    .iter()
                    .any(|directory| path.starts_with(directory) && path != directory)
            });
            for directory in below {
                skeleton.insert((directory.to_owned(), directory.is_dir()));
            }
        }
        Ok(Self {
            temporary: covered.iter().any(|path| path == Path::new("/tmp")),
            covered: covered
                .iter()
                .map(|path| c_path(path))
                .collect::<Result<_, _>>()?,
            skeleton: skeleton
                .iter()
                .map(|(path, is_dir)| Ok((c_path(path)?, *is_dir)))
                .collect::<io::Result<_>>()?,
            visible: visible
                .iter()
                .map(|path| Ok((c_path(path)?, -1)))
                .collect::<io::Result<_>>()?,
        })
    }

    /// Whether it has a directory for temporary files.
    pub(in crate::runtime::process) fn has_temporary(&self) -> bool {
        self.temporary
    }

    /// Mounts them. False after a failure, which `errno` tells.
    ///
    /// # Safety
    ///
    /// The process has one thread, and a mount namespace of its own.
    pub(in crate::runtime::process) unsafe fn apply(&mut self) -> bool {
        let none = ptr::null::<c_char>();
        // SAFETY: all strings end in a zero byte, and live as long as this.
        unsafe {
            // Unmounting on the machine goes on reaching this namespace; nothing goes the other way.
            let propagation = libc::MS_REC | libc::MS_SLAVE;
            if libc::mount(none, c"/".as_ptr(), none, propagation, ptr::null()) != 0 {
                return false;
            }
            for (path, fd) in &mut self.visible {
                *fd = open_tree(path.as_ptr());
                if *fd < 0 {
                    return false;
                }
            }
            let mut covered = self.covered.iter();
            let Some(first) = covered.next() else {
                return true;
            };
            if !mount_empty(first, c"mode=755,size=64k,nr_inodes=1024") {
                return false;
            }
            // One file system serves for all.
            for path in covered {
                let fd = open_tree(first.as_ptr());
                if fd < 0 || !move_mount(fd, path.as_ptr()) {
                    return false;
                }
                libc::close(fd);
            }
            // As large as that of a container.
            if self.temporary && !mount_empty(TEMPORARY, c"mode=1777,size=256m") {
                return false;
            }
            // Postgres' user passes through these, regardless of the daemon's umask.
            let umask = libc::umask(0o022);
            for (path, is_dir) in &self.skeleton {
                let made = if *is_dir {
                    libc::mkdir(path.as_ptr(), 0o755)
                } else {
                    libc::mknod(path.as_ptr(), libc::S_IFREG | 0o644, 0)
                };
                if made != 0 && *libc::__errno_location() != libc::EEXIST {
                    return false;
                }
            }
            libc::umask(umask);
            for (path, fd) in &self.visible {
                if !move_mount(*fd, path.as_ptr()) {
                    return false;
                }
                libc::close(*fd);
            }
            true
        }
    }
}

unsafe fn mount_empty(path: &CStr, options: &CStr) -> bool {
    const FLAGS: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let kind = c"tmpfs".as_ptr();
    // SAFETY: all strings end in a zero byte.
    unsafe { libc::mount(kind, path.as_ptr(), kind, FLAGS, options.as_ptr().cast()) == 0 }
}

/// A copy of the mounts below a path.
unsafe fn open_tree(path: *const c_char) -> c_int {
    let flags = OPEN_TREE_CLONE | (libc::O_CLOEXEC | libc::AT_RECURSIVE).cast_unsigned();
    // SAFETY: the caller gives a string that ends in a zero byte.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path, flags) };
    // A descriptor, or -1.
    fd as c_int
}

/// Mounts such a copy.
unsafe fn move_mount(fd: c_int, path: *const c_char) -> bool {
    // SAFETY: the caller gives an open descriptor, and a string that ends in a zero byte.
    unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            fd,
            c"".as_ptr(),
            libc::AT_FDCWD,
            path,
            MOVE_MOUNT_F_EMPTY_PATH,
        ) == 0
    }
}
