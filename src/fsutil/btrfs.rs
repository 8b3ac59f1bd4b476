//! Btrfs subvolumes: created, cloned and deleted by ioctls of `linux/btrfs.h`.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{Mode, Stat, fchmod, fstatfs};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use self::vol_args::{MAGIC, SNAP_CREATE_V2, VolArgsV2, terminated};
use super::beneath::Directory;

mod vol_args;

/// `BTRFS_FIRST_FREE_OBJECTID`: the inode number of each subvolume's root.
const SUBVOLUME_INODE: u64 = 256;
/// `BTRFS_SUPER_MAGIC`.
pub const FILE_SYSTEM: i64 = 0x9123_683E;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

const SNAP_DESTROY: Opcode = opcode::write::<VolArgs>(MAGIC, 15);
const SUBVOL_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(MAGIC, 24);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);

/// Whether the path is on Btrfs.
pub fn is_btrfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == FILE_SYSTEM)
}

/// Whether the path is the root of a subvolume.
pub fn is_subvolume(path: &Path) -> bool {
    let opened = Directory::open(path);
    opened.is_ok_and(|directory| {
        let stat = directory.stat();
        stat.is_ok_and(|stat| is_subvolume_root(&directory, &stat))
    })
}

/// Whether this open directory is the root of a subvolume.
pub fn is_subvolume_root(directory: impl AsFd, stat: &Stat) -> bool {
    stat.st_ino == SUBVOLUME_INODE
        && fstatfs(directory).is_ok_and(|stat| stat.f_type == FILE_SYSTEM)
}

/// Creates an empty subvolume for its owner alone. Only multidb can write the directory that it is in.
///
/// # Errors
///
/// The path exists, its parent does not, or it is not on Btrfs.
pub fn create_subvolume(path: &Path) -> io::Result<()> {
    let (parent, name) = split(path)?;
    let args = VolArgsV2::new(0, name)?;
    // SAFETY: the opcode takes exactly this structure, whose name ends in a zero byte.
    unsafe { ioctl(&parent, Setter::<SUBVOL_CREATE_V2, _>::new(args)) }?;
    let made = Directory::open(path)?;
    Ok(fchmod(&made, Mode::from_raw_mode(0o700))?)
}

/// Creates a writable snapshot of a subvolume, in one step. It is durable when this returns, like all
/// renames before it: `create_snapshot` (fs/btrfs/ioctl.c) ends with `btrfs_commit_transaction`, and
/// the flag that once let the ioctl return earlier is not set.
///
/// # Errors
///
/// `from` is not a subvolume, `to` exists, or there is no space.
pub fn snapshot(from: &Directory, to: &Path) -> io::Result<()> {
    let (parent, name) = split(to)?;
    let args = VolArgsV2::new(from.as_fd().as_raw_fd().into(), name)?;
    // SAFETY: the opcode takes exactly this structure, whose name ends in a zero byte and whose
    // descriptor is open.
    Ok(unsafe { ioctl(&parent, Setter::<SNAP_CREATE_V2, _>::new(args)) }?)
}

/// Deletes a subvolume with its contents. The file system frees the space in the background.
///
/// # Errors
///
/// The name is not a subvolume, contains another one, or is mounted; or multidb does not run as root
/// and the file system is not mounted with `user_subvol_rm_allowed`.
pub fn delete_subvolume(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let name = terminated::<4088>(name)?;
    let args = VolArgs { fd: 0, name };
    // SAFETY: the opcode takes exactly this structure, whose name ends in a zero byte.
    Ok(unsafe { ioctl(parent, Setter::<SNAP_DESTROY, _>::new(args)) }?)
}

/// Makes a subvolume writable, which its owner may have made read-only.
///
/// # Errors
///
/// It is no subvolume, or belongs to another user.
pub fn make_writable(subvolume: impl AsFd) -> io::Result<()> {
    // SAFETY: the opcode takes 64 bits of flags.
    Ok(unsafe { ioctl(subvolume, Setter::<SUBVOL_SETFLAGS, _>::new(0_u64)) }?)
}

/// The open parent directory of a path, and its last name.
fn split(path: &Path) -> io::Result<(File, &OsStr)> {
    let (Some(parent), Some(last)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok((File::open(parent)?, last))
}
