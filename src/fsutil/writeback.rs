//! The writing of a file's new data, by sync_file_range(2).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Has the kernel begin to write the data that is only in the page cache, and waits for nothing but room in the queue of
/// the disk. The data is not durable by this.
///
/// # Errors
///
/// The disk has failed or is full.
pub fn begin(file: &File) -> io::Result<()> {
    // SAFETY: the call has no memory arguments, and the descriptor is open.
    let begun =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    match begun {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
