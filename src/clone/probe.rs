//! The probe: which clone methods work between the real directories.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use multidb_actors::ports::CloneError;
use multidb_store::{DiskFault, Layout};

use super::Method;
use crate::fsutil::beneath::{self, Directory};
use crate::fsutil::btrfs;
use crate::memory::of_meminfo;

/// `XFS_SUPER_MAGIC`.
const XFS: i64 = 0x5846_5342;
/// The names of file systems by their magic numbers (statfs(2)).
const FILE_SYSTEMS: [(i64, &str); 9] = [
    (XFS, "xfs"),
    (btrfs::FILE_SYSTEM, "btrfs"),
    (0xEF53, "ext4"),
    (0x0102_1994, "tmpfs"),
    (0x794C_7630, "overlayfs"),
    (0x2FC1_2FC1, "zfs"),
    (0x6969, "nfs"),
    (0xF2F5_2010, "f2fs"),
    (0xCA45_1A4E, "bcachefs"),
];
/// The prefix of the files of a probe. Hidden, so that they are not taken for snapshots.
const PREFIX: &str = ".multidb-probe-";
/// The remedy on a file system without clones.
const NO_CLONES: &str = "put the root on XFS or Btrfs, which may be in a file (truncate --size 100G multidb.img; \
    mkfs.xfs multidb.img; mount --options loop multidb.img ROOT), or set clone.method = \"copy\" \
    to accept that every instance is a full copy";

/// The findings of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The name of the file system of the instances.
    pub file_system: &'static str,
    /// The directories under the root that are not on the file system of the instances, or not in
    /// the same mount: renames and clones between them and the instances fail.
    pub apart: Vec<PathBuf>,
    /// Whether a file in `snapshots/` can be reflinked into `instances/`; else the reason.
    pub reflink: Result<(), String>,
    /// Whether a subvolume in `snapshots/` can be cloned into `instances/`; else the reason.
    pub subvolumes: Result<(), String>,
    /// The bytes that are free for multidb on the file system.
    pub free_bytes: u64,
}

/// The bytes that were written to the machine's file systems and have no place on a disk yet, where this one counts them
/// as free: Btrfs does until it writes them (fs/btrfs/super.c, `btrfs_statfs`), XFS does not. Zero where that is unknown.
pub(super) fn unplaced_bytes(path: &Path) -> u64 {
    if rustix::fs::statfs(path).map_or(0, |stat| stat.f_type) != btrfs::FILE_SYSTEM {
        return 0;
    }
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name| of_meminfo(&text, name).unwrap_or(0);
    bytes("Dirty") + bytes("Writeback")
}

/// Whether the path is on XFS.
pub(super) fn is_xfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == XFS)
}

/// The bytes that are free for multidb on the file system of the path.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// How full a file system is, as `df` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// The bytes in use.
    pub used_bytes: u64,
    /// The bytes that are free for multidb.
    pub free_bytes: u64,
}

impl DiskUsage {
    /// The used part in percent, rounded up.
    pub fn percent(self) -> u8 {
        let all = u128::from(self.used_bytes) + u128::from(self.free_bytes);
        let percent = (u128::from(self.used_bytes) * 100).div_ceil(all.max(1));
        u8::try_from(percent).unwrap_or(100)
    }

    /// The bytes that are used above this percentage; zero where none are.
    pub fn bytes_above(self, percent: u8) -> u64 {
        let all = u128::from(self.used_bytes) + u128::from(self.free_bytes);
        let mark = u64::try_from(all * u128::from(percent) / 100).unwrap_or(u64::MAX);
        self.used_bytes.saturating_sub(mark)
    }
}

/// How full the file system of the path is.
pub(super) fn usage(path: &Path) -> io::Result<DiskUsage> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(DiskUsage {
        used_bytes: stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize,
        free_bytes: stat.f_bavail * stat.f_frsize,
    })
}

/// Tries renames and clones between the directories, which must exist.
///
/// # Errors
///
/// A directory cannot be read or written.
pub fn probe(layout: &Layout) -> io::Result<Findings> {
    let (snapshots, instances) = (layout.snapshots(), layout.instances());
    let magic = rustix::fs::statfs(&instances)?.f_type;
    let known = FILE_SYSTEMS.iter().find(|(number, _)| *number == magic);
    let mut apart = Vec::new();
    for directory in [snapshots.clone(), layout.trash(), layout.state()] {
        if !can_rename(&instances, &directory)? {
            apart.push(directory);
        }
    }
    let reflink = attempt(&snapshots, &instances, try_reflink);
    let subvolumes = attempt(&snapshots, &instances, try_subvolumes);
    require_disk(&reflink)?;
    require_disk(&subvolumes)?;
    Ok(Findings {
        file_system: known.map_or("an unknown file system", |(_, name)| name),
        apart,
        reflink: reflink.map_err(|error| error.to_string()),
        subvolumes: subvolumes.map_err(|error| error.to_string()),
        free_bytes: free_bytes(&instances)?,
    })
}

/// Removes the files of probes that were killed.
pub(super) fn clean(layout: &Layout) -> io::Result<()> {
    for directory in [
        layout.snapshots(),
        layout.instances(),
        layout.trash(),
        layout.state(),
    ] {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                remove(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// A name that no other running probe uses.
fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}", std::process::id())
}

/// Whether a rename works. Device numbers do not tell: they differ between the subvolumes of one Btrfs,
/// and are equal for two mounts of one file system.
fn can_rename(from: &Path, to: &Path) -> io::Result<bool> {
    let name = name();
    let (from, to) = (from.join(&name), to.join(&name));
    File::create(&from)?;
    let renamed = fs::rename(&from, &to);
    remove(&from)?;
    remove(&to)?;
    match renamed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(false),
        Err(error) => Err(error),
    }
}

fn attempt(from: &Path, to: &Path, clone: fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let name = name();
    let (from, to) = (from.join(&name), to.join(&name));
    let result = clone(&from, &to);
    // Removes both, even after an error.
    result.and(remove(&to)).and(remove(&from))
}

/// A disk that is full, read-only or failing tells nothing about the ways to clone.
fn require_disk(tried: &io::Result<()>) -> io::Result<()> {
    let fault = tried
        .as_ref()
        .err()
        .filter(|error| DiskFault::of(error).is_some());
    match fault.and_then(io::Error::raw_os_error) {
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Ok(()),
    }
}

fn try_reflink(from: &Path, to: &Path) -> io::Result<()> {
    // Longer than the data that Btrfs keeps in an inode, and not a multiple of a block.
    fs::write(from, [1; 10_000])?;
    let source = File::open(from)?;
    let target = File::create(to)?;
    Ok(rustix::fs::ioctl_ficlone(&target, &source)?)
}

fn try_subvolumes(from: &Path, to: &Path) -> io::Result<()> {
    if !btrfs::is_btrfs(from.parent().unwrap_or(from)) {
        return Err(io::Error::other("it is not Btrfs"));
    }
    btrfs::create_subvolume(from)?;
    btrfs::snapshot(&Directory::open(from)?, to)
}

/// Removes a file or a subvolume, if it exists. Its directory may be a link to another file system.
fn remove(path: &Path) -> io::Result<()> {
    let (parent, name) = (
        path.parent().unwrap_or(path),
        path.file_name().unwrap_or_default(),
    );
    Ok(beneath::remove(&parent.canonicalize()?.join(name))?)
}

impl Findings {
    /// The method to use for the configured one. A full copy only if it is configured.
    ///
    /// # Errors
    ///
    /// It does not work on this file system. The message has the remedy.
    pub fn resolve(&self, configured: Method) -> Result<Method, CloneError> {
        if let [apart, ..] = &self.apart[..] {
            return Err(CloneError::Failed {
                message: format!(
                    "{} is not on the file system of the instances: {}",
                    apart.display(),
                    self.advice().unwrap_or_default()
                ),
            });
        }
        let (method, works) = match configured {
            Method::Copy => return Ok(Method::Copy),
            Method::Auto if self.subvolumes.is_ok() => return Ok(Method::BtrfsSnapshot),
            Method::BtrfsSnapshot => (Method::BtrfsSnapshot, &self.subvolumes),
            Method::Auto | Method::Reflink => (Method::Reflink, &self.reflink),
        };
        match works {
            Ok(()) => Ok(method),
            Err(error) => Err(CloneError::Failed {
                message: format!(
                    "clone method {} does not work under the root, which is on {} ({error}): {}",
                    method.name(),
                    self.file_system,
                    self.advice()
                        .unwrap_or_else(|| "set clone.method = \"auto\"".to_owned())
                ),
            }),
        }
    }

    /// The remedy for the operator; `None` if there is no problem.
    pub fn advice(&self) -> Option<String> {
        if !self.apart.is_empty() {
            let advice = "keep the whole root on one file system in one mount, since multidb renames \
                and clones between its directories";
            return Some(advice.to_owned());
        }
        let clones = self.reflink.is_ok() || self.subvolumes.is_ok();
        (!clones).then(|| NO_CLONES.to_owned())
    }
}
