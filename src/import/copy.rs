//! Copies of data directories: by reflink where the file system can, and owned by the user of the
//! servers.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::ioctl_ficlone;
use rustix::process::geteuid;

use super::error::ImportError;
use super::tree::{is_excluded, list};
use crate::fsutil::{directory, owner};

/// The bytes that are copied between two checks for a cancellation.
const COPY_BYTES: usize = 8 << 20;

/// The state of a copy, shared with the task that waits for it.
#[derive(Debug, Clone, Default)]
pub(super) struct CopyState {
    /// The bytes that are copied.
    pub(super) bytes_done: Arc<AtomicU64>,
    /// The copy must end.
    pub(super) cancelled: Arc<AtomicBool>,
}

impl CopyState {
    fn check_cancelled(&self) -> Result<(), ImportError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(ImportError::Cancelled);
        }
        Ok(())
    }

    fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Copies a data directory into an empty one, without the excluded files. Each file is copied by
/// reflink where the file system can, else byte by byte, and belongs to `owner` from the start.
pub(super) fn copy_data(
    from: &Path,
    to: &Path,
    owner: (u32, u32),
    state: &CopyState,
) -> Result<(), ImportError> {
    let mut copier = Copier {
        owner,
        state,
        reflinks: true,
    };
    set_owner(to, owner)?;
    for entry in list(from)? {
        if is_excluded(&entry.relative) {
            continue;
        }
        state.check_cancelled()?;
        let target = to.join(&entry.relative);
        let mode = entry.metadata.mode() & 0o777;
        if entry.metadata.is_dir() {
            make_dir(&target, mode, owner)?;
        } else if entry.metadata.is_file() {
            copier.copy_file(&from.join(&entry.relative), &target, mode)?;
        }
        // Sockets and FIFOs are not data.
    }
    Ok(())
}

struct Copier<'a> {
    owner: (u32, u32),
    state: &'a CopyState,
    /// No reflink has failed yet.
    reflinks: bool,
}

impl Copier<'_> {
    fn copy_file(&mut self, from: &Path, to: &Path, mode: u32) -> Result<(), ImportError> {
        let mut source = File::open(from).map_err(|error| ImportError::io("open", from, error))?;
        let failed = |error| ImportError::io("copy to", to, error);
        let mut target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(to)
            .map_err(failed)?;
        if geteuid().is_root() {
            fchown(&target, Some(self.owner.0), Some(self.owner.1)).map_err(failed)?;
        }
        if self.reflinks {
            if ioctl_ficlone(&target, &source).is_ok() {
                let length = target.metadata().map_err(failed)?.len();
                self.state.add_bytes(length);
                return Ok(());
            }
            // Another file system, or one without reflinks.
            self.reflinks = false;
        }
        loop {
            self.state.check_cancelled()?;
            let mut part = io::Read::take(&mut source, COPY_BYTES as u64);
            let copied = io::copy(&mut part, &mut target).map_err(failed)?;
            if copied == 0 {
                return Ok(());
            }
            self.state.add_bytes(copied);
        }
    }
}

/// Creates a directory with this mode, regardless of the umask, and this owner.
pub(super) fn make_dir(path: &Path, mode: u32, owner: (u32, u32)) -> Result<(), ImportError> {
    directory::create_new(path, mode).map_err(|source| ImportError::io("create", path, source))?;
    set_owner(path, owner)
}

/// Gives a file or a directory to this owner.
pub(super) fn set_owner(path: &Path, owner: (u32, u32)) -> Result<(), ImportError> {
    owner::set_owner(path, owner)
        .map_err(|source| ImportError::io("change the owner of", path, source))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::import::tree::{TreeSize, data_size};

    fn owner() -> (u32, u32) {
        (geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    #[test]
    fn copy_keeps_modes_and_skips_excluded_files() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        make_dir(&from, 0o700, owner()).unwrap();
        make_dir(&to, 0o700, owner()).unwrap();
        make_dir(&from.join("base"), 0o750, owner()).unwrap();
        fs::write(from.join("base/1"), vec![7; 100_000]).unwrap();
        fs::set_permissions(from.join("base/1"), Permissions::from_mode(0o640)).unwrap();
        fs::write(from.join("postmaster.opts"), "x").unwrap();
        let state = CopyState::default();
        copy_data(&from, &to, owner(), &state).unwrap();
        assert_eq!(fs::read(to.join("base/1")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::metadata(to.join("base")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(
            fs::metadata(to.join("base/1")).unwrap().mode() & 0o777,
            0o640
        );
        assert!(!to.join("postmaster.opts").exists());
        assert_eq!(state.bytes_done.load(Ordering::Relaxed), 100_000);
        assert_eq!(
            data_size(&to).unwrap(),
            TreeSize {
                bytes: 100_000,
                files: 1
            }
        );
    }

    #[test]
    fn cancelled_copy_ends() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "x").unwrap();
        let to = directory.path().join("to");
        make_dir(&to, 0o700, owner()).unwrap();
        let state = CopyState::default();
        state.cancelled.store(true, Ordering::Relaxed);
        let result = copy_data(directory.path(), &to, owner(), &state);
        assert!(matches!(result, Err(ImportError::Cancelled)));
    }
}
