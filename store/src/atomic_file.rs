//! Small files that are replaced in one step: a reader, or a crash at any moment, finds the old
//! content or the new one.
//!
//! The order makes it so: the content is written to a temporary file beside the file and synced
//! (else the rename could reach the disk before the content), then renamed, then the directory is
//! synced (else the rename itself could be lost after the caller was told of it).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces a file durably. `prepare` may change the mode or the owner before the content is written.
///
/// # Errors
///
/// A step failed. Unless it was the last one, the old file is there, and no temporary one.
pub fn replace(
    path: &Path,
    content: &[u8],
    mode: u32,
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    put(path, content, mode, prepare, File::sync_all)?;
    sync_directory(directory_of(path))
}

/// Replaces a file and gives back the new one, which is durable once the caller has synced it and its
/// directory. Until then a crash of the machine can leave it empty.
///
/// # Errors
///
/// As [`replace`].
pub fn replace_unsynced(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    put(path, content, mode, |_| Ok(()), |_| Ok(()))
}

/// Makes the names in a directory durable.
///
/// # Errors
///
/// The directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The name of a file while it is written: hidden, and with a suffix. A crash can leave it; the next
/// replacement removes it.
pub fn temporary_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn put(
    path: &Path,
    content: &[u8],
    mode: u32,
    prepare: impl FnOnce(&File) -> io::Result<()>,
    before_rename: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<File> {
    let temporary = temporary_path(path);
    let mut file = create(&temporary, mode)?;
    let write = || {
        prepare(&file)?;
        file.write_all(content)?;
        before_rename(&file)?;
        fs::rename(&temporary, path)
    };
    match write() {
        Ok(()) => Ok(file),
        Err(error) => {
            // The error above is the one to report.
            let _left = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// A new file, even where a crash has left one with another mode.
fn create(temporary: &Path, mode: u32) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(mode);
    match options.open(temporary) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(temporary)?;
            options.open(temporary)
        }
        opened => opened,
    }
}

/// The directory that a file is in; that of a lone name is the current one.
pub fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|directory| !directory.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_made_and_replaced_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for content in ["first", "second"] {
            replace(&path, content.as_bytes(), 0o600, |_| Ok(())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(mode(&path), 0o600);
            assert_eq!(names(directory.path()), ["file"]);
        }
    }

    #[test]
    fn the_old_file_is_there_until_the_new_one_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut seen = Vec::new();
        let look = |seen: &mut Vec<_>| {
            let read = |path: &Path| fs::read_to_string(path).unwrap();
            seen.push((read(&path), read(&temporary_path(&path))));
        };
        let state = std::cell::RefCell::new(&mut seen);
        put(
            &path,
            b"new",
            0o600,
            |_| {
                look(&mut state.borrow_mut());
                Ok(())
            },
            |_| {
                look(&mut state.borrow_mut());
                Ok(())
            },
        )
        .unwrap();
        let texts = |(old, new): (&str, &str)| (old.to_owned(), new.to_owned());
        assert_eq!(seen, [("old", ""), ("old", "new")].map(texts));
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        let fail = |_: &File| Err(io::Error::other("no"));
        assert!(replace(&path, b"new", 0o600, fail).is_err());
        assert!(put(&path, b"new", 0o600, |_| Ok(()), fail).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn a_temporary_file_of_a_crash_lends_its_mode_to_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let left = temporary_path(&path);
        fs::write(&left, "half of").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"whole", 0o600, |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(directory.path()), ["file"]);
    }
}
