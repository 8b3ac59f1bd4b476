//! The bytes that only one tree has, measured again and again while a server writes to it.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::extents::BLOCK_BYTES;
use super::tree;
use crate::fsutil::beneath::TreeError;
use crate::fsutil::fiemap::{self, Pending};

/// A tree that grows. A measurement looks at each file's inode, and maps only the extents of files that have changed
/// since the last one. Nothing is written to the disk for it.
#[derive(Debug, Default)]
pub struct GrowingTree {
    /// By inode.
    files: HashMap<u64, Measured>,
}

/// A file as it was measured.
#[derive(Debug, Clone, Copy)]
struct Measured {
    version: Version,
    exclusive_bytes: u64,
}

/// Changes with each write to a file, but for several ones within a tick of the kernel's clock. The number of blocks
/// tells most of these writes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    changed_at: (i64, u64),
    blocks: u64,
}

impl GrowingTree {
    /// The bytes that no other file shares, with bytes that are only in memory yet, and without bytes that the file
    /// system holds ready behind the end of a file that grows. A tree that is not there has none.
    ///
    /// Blocks that other files come to share, or share no more, count only once their file changes.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn measure(&mut self, root: &Path) -> Result<u64, TreeError> {
        let mut files = HashMap::with_capacity(self.files.len());
        let visited = tree::visit(root, |walk| {
            let stat = walk.stat()?;
            let version = Version::of(&stat);
            let known = self.files.get(&stat.st_ino);
            let measured = match known.filter(|known| known.version == version) {
                Some(known) => *known,
                None => {
                    let (file, stat) = walk.open()?;
                    let bytes = exclusive_bytes(&file, &stat);
                    let exclusive_bytes = bytes.map_err(|error| TreeError::Io {
                        action: "map the blocks of",
                        path: walk.path(),
                        source: io::Error::from(error),
                    })?;
                    Measured {
                        version: Version::of(&stat),
                        exclusive_bytes,
                    }
                }
            };
            files.insert(stat.st_ino, measured);
            Ok(())
        });
        match visited {
            Err(error) if error.is_missing() => {}
            visited => visited?,
        }
        self.files = files;
        let of_files = self.files.values().map(|file| file.exclusive_bytes);
        Ok(of_files.sum())
    }
}

impl Version {
    fn of(stat: &Stat) -> Self {
        Self {
            changed_at: (stat.st_ctime, stat.st_ctime_nsec),
            blocks: stat.st_blocks as u64,
        }
    }
}

/// The extents that the file has on the disk and that no other shares, and the blocks that are promised to it and have no
/// extent yet: `st_blocks` counts these blocks, too (`xfs_vn_getattr` in fs/xfs/xfs_iops.c, `btrfs_getattr` in
/// fs/btrfs/inode.c).
fn exclusive_bytes(file: &std::fs::File, stat: &Stat) -> Result<u64, Errno> {
    let blocks = stat.st_blocks as u64 * BLOCK_BYTES;
    let end = (stat.st_size as u64).next_multiple_of(stat.st_blksize as u64);
    let (mut exclusive, mut placed) = (0, 0);
    let has_extents = fiemap::visit(file, Pending::Left, |extent| {
        placed += extent.length;
        if !extent.is_shared() && !extent.is_inline() {
            exclusive += extent.end().min(end).saturating_sub(extent.logical);
        }
    })?;
    // A file system without extents shares nothing.
    Ok(if has_extents {
        exclusive + blocks.saturating_sub(placed)
    } else {
        blocks
    })
}
