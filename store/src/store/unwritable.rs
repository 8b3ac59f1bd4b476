//! A database on a disk that is full, read-only or failing: its records are read from a copy elsewhere.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::database::{Contents, Database};
use crate::disk_fault::FileError;
use crate::layout::Layout;

/// Where a copy may be made: in memory first.
const ELSEWHERE: [&str; 3] = ["/dev/shm", "/run", "/tmp"];

/// Reads the records of a database that cannot be opened in its place, since sled writes when it opens. `None` where
/// there is no room for a copy.
///
/// # Errors
///
/// It cannot be read.
pub(super) fn read_copy(layout: &Layout) -> Result<Option<Contents>, StoreError> {
    require_readable(layout)?;
    let copied = ELSEWHERE
        .into_iter()
        .map(Path::new)
        .find_map(|parent| Copied::make(&layout.db(), parent).ok());
    // Its files stay open after they are removed.
    let read = |copied: Copied| Database::open_and_read_at(copied.0.join("db"));
    copied.map(read).transpose()
}

/// Reads every byte of the database. A device that fails is no damage.
///
/// # Errors
///
/// A file cannot be read.
pub(super) fn require_readable(layout: &Layout) -> Result<(), StoreError> {
    let read = |path: &Path| {
        let mut sink = io::sink();
        io::copy(&mut File::open(path)?, &mut sink).map(drop)
    };
    Ok(for_each_file(&layout.db(), &read)?)
}

/// Runs an action on each file in the directory, unless that is missing.
fn for_each_file(
    directory: &Path,
    action: &dyn Fn(&Path) -> io::Result<()>,
) -> Result<(), FileError> {
    let failed = FileError::at("read", directory);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Another file in its place is damage.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
        entries => entries.map_err(&failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(&failed)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(FileError::at("read", &path))?;
        if kind.is_dir() {
            for_each_file(&path, action)?;
        } else if kind.is_file() {
            action(&path).map_err(FileError::at("read", &path))?;
        }
    }
    Ok(())
}

/// A directory that is removed on drop.
struct Copied(PathBuf);

impl Copied {
    fn make(db: &Path, parent: &Path) -> io::Result<Self> {
        let name = format!("multidb-records-{}", std::process::id());
        let copied = Self(parent.join(name));
        // Left by an earlier process of this number.
        let _left = fs::remove_dir_all(&copied.0);
        DirBuilder::new().mode(0o700).create(&copied.0)?;
        let target = copied.0.join("db");
        let copy = |path: &Path| {
            let inner = path.strip_prefix(db).map_err(io::Error::other)?;
            let to = target.join(inner);
            fs::create_dir_all(to.parent().unwrap_or(&target))?;
            fs::copy(path, to).map(drop)
        };
        for_each_file(db, &copy).map_err(|error| error.source)?;
        Ok(copied)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a copy of the records");
        }
    }
}

#[cfg(test)]
mod tests;
