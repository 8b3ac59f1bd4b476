//! The file systems that the tests run on.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

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

    /// A new directory on it, which Postgres' user can pass through.
    pub fn temp_dir(self) -> TempDir {
        let dir = tempfile::Builder::new()
            .prefix("t-")
            .tempdir_in(self.mount())
            .unwrap_or_else(|error| panic!("a directory in {}: {error}", self.mount().display()));
        open_for_others(dir.path());
        dir
    }
}

/// Lets others pass through a directory.
pub(crate) fn open_for_others(dir: &Path) {
    std::fs::set_permissions(dir, Permissions::from_mode(0o755))
        .unwrap_or_else(|error| panic!("chmod {}: {error}", dir.display()));
}
