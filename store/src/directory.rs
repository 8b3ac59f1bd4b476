//! Creates directories regardless of the umask, and renames complete ones into place.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};

use crate::atomic_file;

/// Creates a directory and its missing parents, each with this mode. An existing directory keeps its
/// mode, which is its owner's choice.
///
/// # Errors
///
/// One of them cannot be created.
pub fn create_missing(path: &Path, mode: u32) -> io::Result<()> {
    // Not by its creation: on a disk that fails, that would tell that the path exists.
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(parent) = path.parent() {
        create_missing(parent, mode)?;
    }
    match create_new(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created,
    }
}

/// Creates a directory with this mode.
///
/// # Errors
///
/// It exists, or cannot be created.
pub fn create_new(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    // The umask may have removed bits. By descriptor, so that a link in its place is not followed.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(mode))?;
    Ok(())
}

/// Renames a directory to a path that must not exist, durably. Its contents must be durable already,
/// so that a crash at any moment leaves the complete directory there, or none.
///
/// # Errors
///
/// The path exists, or a step failed.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?;
    atomic_file::sync_directory(atomic_file::directory_of(to))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn missing_parents_get_the_mode_and_existing_ones_keep_theirs() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let path = directory.path().join("a/b");
        create_missing(&path, 0o711).unwrap();
        assert_eq!(mode(directory.path()), 0o700);
        assert_eq!([mode(path.parent().unwrap()), mode(&path)], [0o711; 2]);
        fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        create_missing(&path, 0o711).unwrap();
        assert_eq!(mode(&path), 0o750);
    }

    #[test]
    fn bits_that_the_umask_removes_are_set() {
        let directory = tempfile::tempdir().unwrap();
        // Every usual umask removes the write bit of others.
        let path = directory.path().join("open");
        create_missing(&path, 0o777).unwrap();
        assert_eq!(mode(&path), 0o777);
    }

    #[test]
    fn rename_new_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        create_new(&from, 0o700).unwrap();
        fs::write(from.join("file"), "new").unwrap();
        rename_new(&from, &to).unwrap();
        assert!(!from.exists());
        create_new(&from, 0o700).unwrap();
        let error = rename_new(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(to.join("file")).unwrap(), b"new");
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(create_missing(&file, 0o711).is_err());
        assert!(create_missing(&file.join("below"), 0o711).is_err());
    }
}
