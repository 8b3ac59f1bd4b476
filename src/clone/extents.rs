//! Where the blocks of files are: how many only one clone holds, and into how many pieces a file
//! falls. By the FIEMAP ioctl (`linux/fiemap.h`), whose SHARED flag is exact on XFS and Btrfs.

use std::ffi::OsStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::tree::{self, TreeError};

/// The extents that one call returns.
const BATCH: usize = 128;
/// More pieces a file than this, on average, and a reflink takes visibly longer: each costs about
/// 15 µs, a file about 50.
const EXTENTS_PER_FILE_MAX: u64 = 20;
/// The unit of `st_blocks`, whatever the file system.
const BLOCK_BYTES: u64 = 512;
/// `FIEMAP_FLAG_SYNC`: what is not yet on the disk gets there first. Without it Btrfs does not tell
/// of blocks that it has yet to allocate.
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

/// What the extents of a tree's files add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extents {
    /// The files.
    pub files: u64,
    /// Their extents.
    pub count: u64,
    /// The bytes of those extents that no other file has.
    pub exclusive_bytes: u64,
}

impl Extents {
    /// Whether the files fall into so many pieces that a reflink of them takes visibly longer.
    pub fn is_fragmented(&self) -> bool {
        self.count > self.files * EXTENTS_PER_FILE_MAX
    }
}

/// The extents of all files of a tree.
pub(super) fn of_tree(root: &Path) -> Result<Extents, TreeError> {
    let mut sum = Extents::default();
    let mut add = |directory: &OwnedFd, name: &OsStr, path: &Path| -> Result<(), TreeError> {
        // Not waiting, should a superuser put a pipe in the file's place at this moment.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let extents = openat(directory, name, flags, Mode::empty()).and_then(|file| of_file(&file));
        let extents = extents.map_err(|error| TreeError::Io {
            action: "map the blocks of",
            path: path.to_owned(),
            source: io::Error::from(error),
        })?;
        sum.files += 1;
        sum.count += extents.count;
        sum.exclusive_bytes += extents.exclusive_bytes;
        Ok(())
    };
    tree::visit(root, &mut add)?;
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
        // SAFETY: the kernel writes at most `extent_count` extents behind the header, and there
        // is room for so many.
        match unsafe { ioctl(&file, Updater::<FS_IOC_FIEMAP, _>::new(&mut map)) } {
            // A file system that cannot tell, such as tmpfs, shares nothing.
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => return allocated(file),
            mapped => mapped?,
        }
        let mapped = map.extents.iter().take(map.mapped_extents as usize);
        let mut last = true;
        for extent in mapped {
            sum.count += 1;
            // Data in the inode itself takes no block.
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
