//! Where the blocks of files are: how many only one clone holds, and into how many pieces a file
//! falls. By the FIEMAP ioctl (`linux/fiemap.h`), whose SHARED flag is exact on XFS and Btrfs.

use std::ffi::OsStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::tree::{self, TreeError};

/// The extents that one call returns.
const BATCH: usize = 128;
/// `FIEMAP_FLAG_SYNC`: what is not yet on the disk gets there first.
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

/// What the extents of files add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extents {
    /// Their number.
    pub count: u64,
    /// The bytes of those that no other file has.
    pub exclusive_bytes: u64,
}

/// The bytes that only this tree holds.
///
/// # Errors
///
/// A file cannot be read, or the file system cannot tell.
pub fn exclusive_bytes(directory: &Path) -> io::Result<u64> {
    Ok(of_tree(directory)?.exclusive_bytes)
}

/// The extents of all files of a tree.
///
/// # Errors
///
/// A file cannot be read, or the file system cannot tell.
pub fn of_tree(directory: &Path) -> io::Result<Extents> {
    let mut sum = Extents::default();
    let mut add = |at: &OwnedFd, name: &OsStr, path: &Path| -> Result<(), TreeError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let extents = openat(at, name, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|file| of_file(&file));
        let extents = match extents {
            Ok(extents) => extents,
            // Postgres may delete a file at any time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                let path = path.to_owned();
                let action = "map";
                return Err(TreeError::Io {
                    action,
                    path,
                    source,
                });
            }
        };
        sum.count += extents.count;
        sum.exclusive_bytes += extents.exclusive_bytes;
        Ok(())
    };
    let walked = tree::open_directory(CWD, directory, directory)
        .and_then(|root| tree::visit(&root, directory, &mut add));
    walked.map_err(|error| match error {
        TreeError::Io { source, .. } => source,
        TreeError::Foreign { path, kind } => {
            io::Error::other(format!("{} is a {kind}", path.display()))
        }
    })?;
    Ok(sum)
}

fn of_file(file: impl AsFd) -> io::Result<Extents> {
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
        unsafe { ioctl(&file, Updater::<FS_IOC_FIEMAP, _>::new(&mut map)) }?;
        let mapped = map.extents.iter().take(map.mapped_extents as usize);
        let mut last = true;
        for extent in mapped {
            sum.count += 1;
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
