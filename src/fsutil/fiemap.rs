//! The extents of a file, read by the FIEMAP ioctl (`linux/fiemap.h`), whose SHARED flag is exact on XFS
//! and Btrfs.

use std::mem::size_of;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// The extents that one call returns.
const BATCH: usize = 128;
/// `FIEMAP_FLAG_SYNC`: the file is written to the disk first. Without it Btrfs omits blocks that it has
/// not allocated yet.
const FLAG_SYNC: u32 = 1;
const EXTENT_LAST: u32 = 0x1;
const EXTENT_UNKNOWN: u32 = 0x2;
const EXTENT_INLINE: u32 = 0x200;
const EXTENT_SHARED: u32 = 0x2000;

/// A contiguous part of a file on the disk.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Extent {
    /// Its offset in the file, in bytes.
    pub logical: u64,
    /// Its offset on the file system, in bytes.
    pub physical: u64,
    /// Its length, in bytes.
    pub length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

impl Extent {
    const NONE: Self = Self {
        logical: 0,
        physical: 0,
        length: 0,
        reserved64: [0; 2],
        flags: 0,
        reserved: [0; 3],
    };

    /// The end in the file, in bytes.
    pub fn end(&self) -> u64 {
        self.logical.saturating_add(self.length)
    }

    /// Whether another file has the same blocks.
    pub fn is_shared(&self) -> bool {
        self.flags & EXTENT_SHARED != 0
    }

    /// Whether the data is in the inode and takes no block.
    pub fn is_inline(&self) -> bool {
        self.flags & EXTENT_INLINE != 0
    }

    /// Whether its offset on the file system is known.
    pub fn has_place(&self) -> bool {
        self.flags & (EXTENT_UNKNOWN | EXTENT_INLINE) == 0
    }
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

/// The treatment of data that is not on the disk yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// It is written first, so that the extents are all there will be.
    Written,
    /// It stays where it is, which costs no writes. Data without a place on the disk may be missing.
    Left,
}

/// Calls `each` for every extent of a file, in their order. `false` if the file system has no FIEMAP, such as tmpfs.
///
/// # Errors
///
/// The file system refuses.
pub fn visit(
    file: impl AsFd,
    pending: Pending,
    mut each: impl FnMut(&Extent),
) -> Result<bool, Errno> {
    let flags = match pending {
        Pending::Written => FLAG_SYNC,
        Pending::Left => 0,
    };
    let mut start = 0;
    loop {
        let mut map = Fiemap {
            start,
            length: u64::MAX - start,
            flags,
            mapped_extents: 0,
            extent_count: BATCH as u32,
            reserved: 0,
            extents: [Extent::NONE; BATCH],
        };
        // SAFETY: the kernel writes at most `extent_count` extents behind the header, and the
        // array has that length.
        match unsafe { ioctl(&file, Updater::<FS_IOC_FIEMAP, _>::new(&mut map)) } {
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => return Ok(false),
            mapped => mapped?,
        }
        let mapped = map.extents.iter().take(map.mapped_extents as usize);
        let mut is_last = true;
        for extent in mapped {
            each(extent);
            start = extent.end();
            is_last = extent.flags & EXTENT_LAST != 0;
        }
        if is_last {
            return Ok(true);
        }
    }
}
