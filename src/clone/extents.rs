//! The extents of files: how many there are, and how many bytes of them no other file shares. Read by
//! the FIEMAP ioctl (`linux/fiemap.h`), whose SHARED flag is exact on XFS and Btrfs.

use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::tree;
use crate::fsutil::beneath::TreeError;

/// The extents that one call returns.
const BATCH: usize = 128;
/// The average extents per file above which a reflink takes visibly longer: an extent costs about
/// 15 µs, a file about 50 µs.
const EXTENTS_PER_FILE_MAX: u64 = 20;
/// The unit of `st_blocks`, on all file systems.
const BLOCK_BYTES: u64 = 512;
/// `FIEMAP_FLAG_SYNC`: the file is written to the disk first. Without it Btrfs omits blocks that it has
/// not allocated yet.
const FLAG_SYNC: u32 = 1;
const EXTENT_LAST: u32 = 0x1;
const EXTENT_INLINE: u32 = 0x200;
const EXTENT_SHARED: u32 = 0x2000;

#[repr(C)]
#[derive(Clone, Copy)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [Extent; BATCH],
}

/// `struct fiemap` ends in a flexible array, which its opcode does not count.
const HEADER_BYTES: usize = size_of::<Fiemap>() - size_of::<[Extent; BATCH]>();
const FS_IOC_FIEMAP: Opcode = opcode::read_write::<[u8; HEADER_BYTES]>(b'f', 11);

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
    let none = Extent {
        logical: 0,
        physical: 0,
        length: 0,
        reserved64: [0; 2],
        flags: 0,
        reserved: [0; 3],
    };
    let mut sum = Extents::default();
    let mut start = 0;
    loop {
        let mut map = Fiemap {
            start,
            length: u64::MAX - start,
            flags: FLAG_SYNC,
            mapped_extents: 0,
            extent_count: BATCH as u32,
            reserved: 0,
            extents: [none; BATCH],
        };
        // SAFETY: the kernel writes at most `extent_count` extents behind the header, and the
        // array has that length.
        match unsafe { ioctl(&file, Updater::<FS_IOC_FIEMAP, _>::new(&mut map)) } {
            // A file system without FIEMAP, such as tmpfs, shares nothing.
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => return allocated(file),
            mapped => mapped?,
        }
        let mapped = map.extents.iter().take(map.mapped_extents as usize);
        let mut last = true;
        for extent in mapped {
            sum.count += 1;
            // Inline data is in the inode and takes no block.
            if extent.flags & (EXTENT_SHARED | EXTENT_INLINE) == 0 {
                sum.exclusive_bytes += extent.length;
            }
            start = extent.logical + extent.length;
            last = extent.flags & EXTENT_LAST != 0;
        }
        if last {
            return Ok(sum);
        }
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
