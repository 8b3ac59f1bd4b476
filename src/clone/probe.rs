//! What the real directories can do: tried, not guessed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use multidb_actors::ports::CloneError;
use multidb_store::Layout;

use super::{Method, btrfs};

/// `XFS_SUPER_MAGIC`.
const XFS: i64 = 0x5846_5342;
/// The magic numbers of file systems, for people (statfs(2)).
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
/// Begins the names of what a probe makes. Hidden, so that nobody takes it for a snapshot.
const PREFIX: &str = ".multidb-probe-";
/// What to do on a file system without clones.
const NO_CLONES: &str = "put the root on XFS or Btrfs, which may be in a file (truncate --size 100G multidb.img; \
    mkfs.xfs multidb.img; mount --options loop multidb.img ROOT), or set clone.method = \"copy\" \
    to accept that every instance is a full copy";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The type of the file system that holds the instances, for people.
    pub file_system: &'static str,
    /// Those of our directories that are not on the instances' file system, or not in its mount:
    /// nothing can be renamed or cloned between them and the instances.
    pub apart: Vec<PathBuf>,
    /// Whether a file in `snapshots/` can be reflinked into `instances/`, or why not.
    pub reflink: Result<(), String>,
    /// Whether a subvolume in `snapshots/` can be cloned into `instances/`, or why not.
    pub subvolumes: Result<(), String>,
    /// The bytes free for us on the file system.
    pub free_bytes: u64,
}

/// Whether the path is on XFS.
pub(super) fn is_xfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == XFS)
}

/// The bytes that are free for us on the path's file system.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail * stat.f_frsize)
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
    let mut apart = Vec::new();
    for directory in [snapshots.clone(), layout.trash(), layout.state()] {
        if !can_rename(&instances, &directory)? {
            apart.push(directory);
        }
    }
    Ok(Findings {
        file_system: known.map_or("an unknown file system", |(_, name)| name),
        apart,
        reflink: attempt(&snapshots, &instances, try_reflink),
        subvolumes: attempt(&snapshots, &instances, try_subvolumes),
        free_bytes: free_bytes(&instances)?,
    })
}

/// Removes what a probe that was killed left.
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

/// A name that no other probe uses now.
fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}", std::process::id())
}

/// By a rename and not by device numbers, which differ between the subvolumes of one Btrfs and do
/// not between two mounts of one file system.
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

fn attempt(
    from: &Path,
    to: &Path,
    clone: fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), String> {
    let name = name();
    let (from, to) = (from.join(&name), to.join(&name));
    let result = clone(&from, &to);
    // Nothing may stay behind, however it went.
    let result = result.and(remove(&to)).and(remove(&from));
    result.map_err(|error| error.to_string())
}

fn try_reflink(from: &Path, to: &Path) -> io::Result<()> {
    // Longer than what Btrfs keeps in the inode, and no multiple of a block.
    fs::write(from, [1; 10_000])?;
    let source = File::open(from)?;
    let target = File::create(to)?;
    Ok(rustix::fs::ioctl_ficlone(&target, &source)?)
}

fn try_subvolumes(from: &Path, to: &Path) -> io::Result<()> {
    if !btrfs::is_btrfs(from.parent().unwrap_or(from)) {
        return Err(io::Error::other("it is not btrfs"));
    }
    btrfs::create_subvolume(from)?;
    btrfs::snapshot(from, to)
}

/// Removes a file or an empty subvolume, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if btrfs::is_subvolume(path) {
        // Who is not root may not delete a subvolume, but may remove an empty one.
        btrfs::delete_subvolume(path).or_else(|_| fs::remove_dir(path))
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Findings {
    /// The method to use, given the configured one. Never a full copy that was not asked for.
    ///
    /// # Errors
    ///
    /// It does not work here; the message says what to do.
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
                    "clones by {} do not work under the root, which is on {} ({error}): {}",
                    method.name(),
                    self.file_system,
                    self.advice()
                        .unwrap_or_else(|| "set clone.method = \"auto\"".to_owned())
                ),
            }),
        }
    }

    /// What an operator should do; `None` where all is well.
    pub fn advice(&self) -> Option<String> {
        if !self.apart.is_empty() {
            let advice = "let the root and all that is in it be one file system in one mount, \
                since multidb renames and clones between its directories";
            return Some(advice.to_owned());
        }
        let clones = self.reflink.is_ok() || self.subvolumes.is_ok();
        (!clones).then(|| NO_CLONES.to_owned())
    }
}
