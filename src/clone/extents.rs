//! The extents of trees: how many there are, and how many bytes of them no other file shares.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::fstat;
use rustix::io::Errno;

use super::tree;
use crate::fsutil::beneath::TreeError;
use crate::fsutil::fiemap::{self, Pending};

/// The average extents per file above which a reflink takes visibly longer: an extent costs about
/// 15 µs, a file about 50 µs.
const EXTENTS_PER_FILE_MAX: u64 = 20;
/// The unit of `st_blocks`, on all file systems.
pub(super) const BLOCK_BYTES: u64 = 512;
/// The sum of the extents of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extents {
    /// The number of files.
    pub files: u64,
    /// The number of their extents.
    pub count: u64,
    /// The bytes of the extents that no other file shares.
    pub exclusive_bytes: u64,
}

impl Extents {
    /// Whether the files have so many extents that a reflink takes visibly longer.
    pub fn is_fragmented(&self) -> bool {
        self.count > self.files * EXTENTS_PER_FILE_MAX
    }
}

/// The extents of all files of a tree.
pub(super) fn of_tree(root: &Path) -> Result<Extents, TreeError> {
    let mut sum = Extents::default();
    tree::visit(root, |walk| {
        let (file, _) = walk.open()?;
        let extents = of_file(&file).map_err(|error| TreeError::Io {
            action: "map the blocks of",
            path: walk.path(),
            source: io::Error::from(error),
        })?;
        sum.files += 1;
        sum.count += extents.count;
        sum.exclusive_bytes += extents.exclusive_bytes;
        Ok(())
    })?;
    Ok(sum)
}

fn of_file(file: impl AsFd) -> Result<Extents, Errno> {
    let mut sum = Extents::default();
    let has_extents = fiemap::visit(&file, Pending::Written, |extent| {
        sum.count += 1;
        if !extent.is_shared() && !extent.is_inline() {
            sum.exclusive_bytes += extent.length;
        }
    })?;
    // A file system without extents shares nothing.
    if has_extents {
        Ok(sum)
    } else {
        allocated(file)
    }
}

fn allocated(file: impl AsFd) -> Result<Extents, Errno> {
    let blocks = fstat(file)?.st_blocks as u64;
    Ok(Extents {
        files: 0,
        count: u64::from(blocks > 0),
        exclusive_bytes: blocks * BLOCK_BYTES,
    })
}
