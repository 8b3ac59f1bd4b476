//! The settings of the source's server that a snapshot carries into its instances, in a file of its data directory.
//!
//! They stand over multidb's defaults and under `[postgres.settings]`, so they are no part of `postgresql.auto.conf`,
//! which stands over both. A clone has the file with its data.

use std::ffi::OsStr;
use std::path::Path;

use super::conf_file::{self, Entry};
use crate::fsutil::beneath::{self, Directory, TreeError};

/// Its name in the data directory.
pub const FILE: &str = "multidb.conf";

const MODE: u32 = 0o600;
const FILE_BYTES_MAX: u64 = 1 << 20;
const HEADER: &str = "# Settings of the server that this data comes from, carried by multidb's import.\n\
                      # They are in force under those of [postgres.settings] in multidb's configuration.\n";

/// Writes the file, or removes it where nothing is carried.
///
/// # Errors
///
/// The directory cannot be written.
pub fn write(
    data_dir: &Path,
    settings: &[(String, String)],
    owner: (u32, u32),
) -> Result<(), TreeError> {
    let data_dir = Directory::open(data_dir)?;
    let name = OsStr::new(FILE);
    data_dir.remove(name)?;
    if settings.is_empty() {
        return Ok(());
    }
    let mut text = HEADER.to_owned();
    for (name, value) in settings {
        text.push_str(&conf_file::line(name, value));
    }
    data_dir.write_new(name, MODE, text.as_bytes())?;
    let file = data_dir.file(name)?;
    beneath::set_owner(file, owner).map_err(|source| TreeError::Io {
        action: "set the owner of",
        path: data_dir.path().join(name),
        source,
    })
}

/// Reads the file. A superuser in an instance can put anything in its place; a line that is no setting is left out, so
/// that it keeps no server from starting.
pub fn read(data_dir: &Path) -> Vec<(String, String)> {
    let read = Directory::open(data_dir).and_then(|opened| opened.read(FILE, FILE_BYTES_MAX));
    let text = read.unwrap_or_else(|error| {
        tracing::warn!(%error, "the settings that the data carries are not in force");
        None
    });
    let text = text.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let settings = conf_file::parse(&text).filter_map(|(_, entry)| match entry {
        Entry::Setting(name, value) => Some((name, value)),
        Entry::Include(..) | Entry::Invalid => None,
    });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn settings_are_read_as_they_were_written_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let owner = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        assert_eq!(read(root), []);
        let settings = [("datestyle", "ISO, DMY"), ("a.b", "it's\n")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        write(root, &settings, owner).unwrap();
        assert_eq!(read(root), settings);
        let file = root.join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, MODE);
        fs::write(&file, "<<<<\ninclude '/etc/passwd'\na = 1\n").unwrap();
        assert_eq!(read(root), [("a".to_owned(), "1".to_owned())]);
        write(root, &[], owner).unwrap();
        assert!(!file.exists());
        fs::write(root.join("other"), "a = 1\n").unwrap();
        symlink("other", &file).unwrap();
        assert_eq!(read(root), []);
    }
}
