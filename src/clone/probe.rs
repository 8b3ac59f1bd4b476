//! What the real directories can do: tried, not guessed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use multidb_actors::ports::CloneError;
use multidb_store::Layout;

use super::{Method, btrfs};

/// `XFS_SUPER_MAGIC`.
const XFS: i64 = 0x5846_5342;
/// The magic numbers of file systems, for people (statfs(2)).
const FILE_SYSTEMS: [(i64, &str); 8] = [
    (XFS, "xfs"),
    (0x9123_683E, "btrfs"),
    (0xEF53, "ext4"),
    (0x0102_1994, "tmpfs"),
    (0x794C_7630, "overlayfs"),
    (0x2FC1_2FC1, "zfs"),
    (0x6969, "nfs"),
    (0xF2F5_2010, "f2fs"),
];
const PROBE_NAME: &str = ".multidb-probe";

/// What was found.
#[derive(Debug)]
pub struct Findings {
    /// The file system's type, for people.
    pub file_system: &'static str,
    /// Whether `snapshots/` and `instances/` are on one file system.
    pub one_file_system: bool,
    /// Whether a file in `snapshots/` can be reflinked into `instances/`.
    pub reflink: Result<(), io::Error>,
    /// Whether a subvolume in `snapshots/` can be cloned into `instances/`.
    pub subvolumes: Result<(), io::Error>,
}

/// Whether the path is on XFS.
pub fn is_xfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == XFS)
}

/// Tries clones between the real directories, which must exist.
///
/// # Errors
///
/// A directory cannot be read or written.
pub fn probe(layout: &Layout) -> io::Result<Findings> {
    let (snapshots, instances) = (layout.snapshots(), layout.instances());
    let magic = rustix::fs::statfs(&instances)?.f_type;
    let known = FILE_SYSTEMS.iter().find(|(number, _)| *number == magic);
    let one_file_system = fs::metadata(&snapshots)?.dev() == fs::metadata(&instances)?.dev();
    let (from, to) = (snapshots.join(PROBE_NAME), instances.join(PROBE_NAME));
    clean(&from)?;
    clean(&to)?;
    let reflink = try_reflink(&from, &to);
    clean(&from)?;
    clean(&to)?;
    let subvolumes = try_subvolumes(&from, &to);
    clean(&from)?;
    clean(&to)?;
    Ok(Findings {
        file_system: known.map_or("an unknown file system", |(_, name)| name),
        one_file_system,
        reflink,
        subvolumes,
    })
}

fn try_reflink(from: &Path, to: &Path) -> io::Result<()> {
    fs::write(from, [0; 4096])?;
    let source = File::open(from)?;
    let target = File::create(to)?;
    Ok(rustix::fs::ioctl_ficlone(&target, &source)?)
}

fn try_subvolumes(from: &Path, to: &Path) -> io::Result<()> {
    if !btrfs::is_btrfs(from.parent().unwrap_or(from)) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "it is not btrfs",
        ));
    }
    btrfs::create_subvolume(from)?;
    btrfs::snapshot(from, to)?;
    btrfs::delete_subvolume(to)
}

fn clean(path: &Path) -> io::Result<()> {
    if btrfs::is_subvolume(path) {
        return btrfs::delete_subvolume(path);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Findings {
    /// The method to use, given the configured one.
    ///
    /// # Errors
    ///
    /// It does not work here.
    pub fn resolve(&self, configured: Method) -> Result<Method, CloneError> {
        let works = |method, result: &Result<(), io::Error>| match result {
            Ok(()) => Ok(method),
            Err(error) => Err(self.unusable(method, error)),
        };
        match configured {
            Method::Copy => Ok(Method::Copy),
            Method::BtrfsSnapshot => works(configured, &self.subvolumes),
            Method::Reflink => works(configured, &self.reflink),
            Method::Auto if self.subvolumes.is_ok() => Ok(Method::BtrfsSnapshot),
            Method::Auto => works(Method::Reflink, &self.reflink),
        }
    }

    fn unusable(&self, method: Method, error: &io::Error) -> CloneError {
        CloneError::Failed {
            message: format!(
                "clones by {} do not work under the root ({}: {error}): {}",
                method.name(),
                self.file_system,
                self.advice()
            ),
        }
    }

    /// What to do about it, for an operator.
    pub fn advice(&self) -> &'static str {
        if !self.one_file_system {
            return "put snapshots/ and instances/ on one file system";
        }
        "put root on XFS (mkfs.xfs) or Btrfs (mkfs.btrfs), a loop file will do; or set clone.method = \"copy\" to accept full copies"
    }
}
