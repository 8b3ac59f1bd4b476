//! The file systems that the tests run on.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::programs::run;

/// A file system with copy-on-write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// XFS with reflink.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl Disk {
    /// Where it is mounted.
    pub fn mount(self) -> PathBuf {
        let variable = match self {
            Self::Xfs => "MULTIDB_TEST_XFS",
            Self::Btrfs => "MULTIDB_TEST_BTRFS",
        };
        let Some(dir) = std::env::var_os(variable) else {
            panic!(
                "{variable} is not set: it names a directory on {self:?}; scripts/test.sh mounts one"
            )
        };
        PathBuf::from(dir)
    }

    /// A new directory on it, searchable by Postgres' user.
    pub fn temp_dir(self) -> TempDir {
        let dir = tempfile::Builder::new()
            .prefix("t-")
            .tempdir_in(self.mount())
            .unwrap_or_else(|error| panic!("a directory in {}: {error}", self.mount().display()));
        open_for_others(dir.path());
        dir
    }
}

/// A separate file system on an image file that is deleted with it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Makes a file system of this many bytes and mounts it on a directory.
    pub(crate) fn mount(image: &Path, disk: Disk, bytes: u64, dir: &Path) -> Self {
        let file = std::fs::File::create(image).expect("an image can be made");
        file.set_len(bytes).expect("an image can be sparse");
        let (program, options) = match disk {
            Disk::Xfs => ("mkfs.xfs", &["-q", "-m", "reflink=1"][..]),
            Disk::Btrfs => ("mkfs.btrfs", &["-q", "--mixed"][..]),
        };
        run(Command::new(program).args(options).arg(image)).ok();
        run(Command::new("mount")
            .args(["-o", "loop", "--make-shared"])
            .arg(image)
            .arg(dir))
        .ok();
        Self {
            dir: dir.to_owned(),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let umount = |options: &[&str]| run(Command::new("umount").args(options).arg(&self.dir));
        let unmounted = umount(&[]);
        // A test may have mounted it a second time, and a failed test leaves it busy.
        while umount(&["--lazy"]).code == Some(0) {}
        if !std::thread::panicking() {
            unmounted.ok();
        }
    }
}

/// Makes a directory searchable by all users.
pub(crate) fn open_for_others(dir: &Path) {
    std::fs::set_permissions(dir, Permissions::from_mode(0o755))
        .unwrap_or_else(|error| panic!("chmod {}: {error}", dir.display()));
}
