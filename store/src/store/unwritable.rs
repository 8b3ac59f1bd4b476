//! A database on a disk that is full, read-only or failing: its records are read from a copy elsewhere.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::database::{Contents, Database};
use crate::layout::Layout;

/// Where a copy may be made: in memory first.
const ELSEWHERE: [&str; 3] = ["/dev/shm", "/run", "/tmp"];

/// Reads the records of a database that cannot be opened in its place, since sled writes when it opens.
///
/// # Errors
///
/// It cannot be copied: this is `refused`, the error of its opening. Or the copy cannot be read.
pub(super) fn read_copy(layout: &Layout, refused: &StoreError) -> Result<Contents, StoreError> {
    let copied = ELSEWHERE
        .into_iter()
        .map(Path::new)
        .find_map(|parent| Copied::make(&layout.db(), parent).ok());
    let Some(copied) = copied else {
        return Err(StoreError::Io {
            action: "copy",
            path: layout.db(),
            source: io::Error::other(crate::error_chain(refused)),
        });
    };
    // Its files stay open after they are removed.
    Database::open_and_read_at(copied.0.join("db"))
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
    for_each_file(&layout.db(), &read).map_err(|(path, source)| StoreError::Io {
        action: "read",
        path,
        source,
    })
}

fn for_each_file(
    directory: &Path,
    action: &dyn Fn(&Path) -> io::Result<()>,
) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error| (directory.to_owned(), error);
    if !directory.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            for_each_file(&path, action)?;
        } else if path.is_file() {
            action(&path).map_err(|error| (path.clone(), error))?;
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
        for_each_file(db, &copy).map_err(|(_, error)| error)?;
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
