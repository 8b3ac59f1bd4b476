//! Two files share a range of equal bytes, by the FIDEDUPERANGE ioctl (ioctl_fideduperange(2)): the kernel
//! compares both ranges while it keeps others from writing to them, so no wrong byte is ever shared.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// The longest range of one call: Btrfs takes no more at once.
const BYTES_MAX: u64 = 16 << 20;
/// `FILE_DEDUPE_RANGE_DIFFERS`.
const STATUS_DIFFERS: i32 = 1;

/// `struct file_dedupe_range` with one `struct file_dedupe_range_info`.
#[repr(C)]
struct DedupeRange {
    from_offset: u64,
    length: u64,
    destinations: u16,
    reserved1: u16,
    reserved2: u32,
    to_fd: i64,
    to_offset: u64,
    bytes_deduped: u64,
    status: i32,
    reserved: u32,
}

/// The opcode counts the structure without its destinations.
const HEADER_BYTES: usize = 24;
const FIDEDUPERANGE: Opcode = opcode::read_write::<[u8; HEADER_BYTES]>(0x94, 54);

/// Gives `to` the blocks of `from` at the same offset, and returns how many bytes it has them for: less than
/// `length` from the first block on that differs.
///
/// # Errors
///
/// The file system refuses: they are on different ones, or it cannot share blocks.
pub fn share(from: impl AsFd, to: impl AsFd, offset: u64, length: u64) -> Result<u64, Errno> {
    let mut done = 0;
    while done < length {
        let mut range = DedupeRange {
            from_offset: offset + done,
            length: (length - done).min(BYTES_MAX),
            destinations: 1,
            reserved1: 0,
            reserved2: 0,
            to_fd: i64::from(to.as_fd().as_raw_fd()),
            to_offset: offset + done,
            bytes_deduped: 0,
            status: 0,
            reserved: 0,
        };
        // SAFETY: the kernel reads and writes one destination behind the header, and there is one.
        unsafe { ioctl(&from, Updater::<FIDEDUPERANGE, _>::new(&mut range)) }?;
        match range.status {
            STATUS_DIFFERS => return Ok(done),
            error if error < 0 => return Err(Errno::from_raw_os_error(-error)),
            _ if range.bytes_deduped == 0 => return Ok(done),
            _ => done += range.bytes_deduped,
        }
    }
    Ok(done.min(length))
}
