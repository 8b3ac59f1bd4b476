//! `struct btrfs_ioctl_vol_args_v2` of `linux/btrfs.h`. The benchmark, whose bare clone makes the same call, includes
//! this file.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::ioctl::{Opcode, opcode};

/// `BTRFS_IOCTL_MAGIC`.
pub(super) const MAGIC: u8 = 0x94;
/// `BTRFS_IOC_SNAP_CREATE_V2`.
pub(super) const SNAP_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(MAGIC, 23);

const NAME_BYTES: usize = 4040;

/// The structure, its unions as the members in use here. Its name ends in a zero byte.
#[repr(C)]
pub(super) struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_BYTES],
}

impl VolArgsV2 {
    /// With a descriptor, or 0, and the name of the new subvolume.
    ///
    /// # Errors
    ///
    /// The name is too long.
    pub(super) fn new(fd: i64, name: &OsStr) -> io::Result<Self> {
        Ok(Self {
            fd,
            transid: 0,
            flags: 0,
            unused: [0; 4],
            name: terminated(name)?,
        })
    }
}

/// A name as a zero-terminated array.
pub(super) fn terminated<const N: usize>(name: &OsStr) -> io::Result<[u8; N]> {
    let bytes = name.as_bytes();
    let mut array = [0; N];
    // The last byte stays zero.
    if bytes.len() >= N {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    array[..bytes.len()].copy_from_slice(bytes);
    Ok(array)
}
