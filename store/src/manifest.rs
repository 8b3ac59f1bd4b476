//! The manifest in each directory of an instance or a snapshot.
//!
//! An instance's manifest repeats its record, so that a lost database can be rebuilt; a snapshot's
//! manifest is its only record. Both are JSON, so that people can read them. Only a directory with
//! a manifest is ever deleted.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::disk_fault::FileError;
use crate::records::{InstanceRecord, SnapshotRecord};

/// The manifest's file name.
pub const FILE_NAME: &str = "manifest.json";
/// The manifest's file name while it is written. A crash can leave such a file.
pub const TEMPORARY_NAME: &str = ".manifest.json.new";
/// Filtered by the umask: a manifest is not a secret.
const MODE: u32 = 0o666;
/// The version that is written. A new field with a default does not need a new version.
const VERSION: u32 = 1;
/// The largest manifest. A snapshot with 100,000 migrations has a smaller one.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// Why a manifest was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file could not be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The file is not a manifest of this kind.
    #[error("{} is not a manifest of kind \"{kind}\"", .path.display())]
    Content {
        /// The path.
        path: PathBuf,
        /// The expected kind.
        kind: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The file was written by a newer multidb.
    #[error("{} has version {version}, which is newer than this multidb", .path.display())]
    Version {
        /// The path.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl ManifestError {
    /// Whether there is no manifest.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.source.kind() == ErrorKind::NotFound)
    }

    /// Whether the bytes are wrong. An error of the device and a newer version are no damage.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Content { .. } => true,
            Self::Version { .. } => false,
            Self::Io(FileError { source, .. }) => {
                // A link in its place is not followed.
                let is_link = source.raw_os_error() == Some(Errno::LOOP.raw_os_error());
                let kinds = [
                    ErrorKind::InvalidData,
                    ErrorKind::FileTooLarge,
                    ErrorKind::IsADirectory,
                ];
                is_link || kinds.contains(&source.kind())
            }
        }
    }
}

/// A type that is stored in a manifest.
pub trait Described: Serialize + DeserializeOwned {
    /// Its kind, as in the file.
    const KIND: &'static str;
}

impl Described for InstanceRecord {
    const KIND: &'static str = "instance";
}

impl Described for SnapshotRecord {
    const KIND: &'static str = "snapshot";
}

#[derive(Serialize)]
struct Written<'a, T> {
    multidb: u32,
    kind: &'static str,
    #[serde(flatten)]
    record: &'a T,
}

#[derive(Deserialize)]
struct Header {
    multidb: u32,
    kind: String,
}

/// Writes the manifest of a directory. Durable when it returns; a crash leaves the old one or the
/// new one.
///
/// # Errors
///
/// The directory or the file cannot be written.
pub fn write<T: Described>(directory: &Path, record: &T) -> Result<(), ManifestError> {
    let path = directory.join(FILE_NAME);
    let written = atomic_file::replace(&path, &text(&path, record)?, MODE, |_| Ok(()));
    Ok(written.map_err(FileError::at("write", &path))?)
}

/// Writes the first manifest of a new directory, and returns its file. It is visible at once, and durable when
/// the caller has synced the file and the directory, which it may do while it fills the directory. Until
/// then a crash of the machine can leave it empty.
///
/// # Errors
///
/// The directory or the file cannot be written.
pub fn create<T: Described>(directory: &Path, record: &T) -> Result<File, ManifestError> {
    let path = directory.join(FILE_NAME);
    let created = atomic_file::replace_unsynced(&path, &text(&path, record)?, MODE);
    Ok(created.map_err(FileError::at("write", &path))?)
}

/// The text of the manifest at this path.
fn text<T: Described>(path: &Path, record: &T) -> Result<Vec<u8>, ManifestError> {
    let written = Written {
        multidb: VERSION,
        kind: T::KIND,
        record,
    };
    let text = serde_json::to_vec_pretty(&written);
    let mut text = text.map_err(|source| ManifestError::Content {
        path: path.to_owned(),
        kind: T::KIND,
        source,
    })?;
    text.push(b'\n');
    Ok(text)
}

/// Makes the names in a directory durable.
///
/// # Errors
///
/// The directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> Result<(), ManifestError> {
    Ok(atomic_file::sync_directory(directory).map_err(FileError::at("sync", directory))?)
}

/// Reads the manifest of a directory.
///
/// # Errors
///
/// There is none, or it is not of this kind.
pub fn read<T: Described>(directory: &Path) -> Result<T, ManifestError> {
    let path = directory.join(FILE_NAME);
    let text = read_file(&path).map_err(FileError::at("read", &path))?;
    let content = |source| ManifestError::Content {
        path: path.clone(),
        kind: T::KIND,
        source,
    };
    let header: Header = serde_json::from_slice(&text).map_err(content)?;
    if header.multidb > VERSION {
        let version = header.multidb;
        return Err(ManifestError::Version { path, version });
    }
    if header.kind != T::KIND {
        let other = <serde_json::Error as serde::de::Error>::custom(format!(
            "it is of kind \"{}\"",
            header.kind
        ));
        return Err(content(other));
    }
    serde_json::from_slice(&text).map_err(content)
}

/// Reads a small file. A link is not followed, and a pipe not waited for.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = File::options();
    let file = options.read(true).custom_flags(flags.bits().cast_signed());
    let file = file.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is not a file"));
    }
    if metadata.len() > MANIFEST_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "it is too large"));
    }
    let mut text = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// A directory and its manifest, or the reason why it has none.
pub type Scanned<T> = (PathBuf, Result<T, ManifestError>);

/// The manifests of all directories in `parent`, by path. Hidden directories are left out.
///
/// # Errors
///
/// `parent` cannot be listed.
pub fn scan<T: Described>(parent: &Path) -> Result<Vec<Scanned<T>>, ManifestError> {
    scan_some(parent, |_| true)
}

/// The manifests of the directories in `parent` whose names are wanted, by path. The others are not read.
///
/// # Errors
///
/// `parent` cannot be listed.
pub fn scan_some<T: Described>(
    parent: &Path,
    is_wanted: impl Fn(&OsStr) -> bool,
) -> Result<Vec<Scanned<T>>, ManifestError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent).map_err(FileError::at("list", parent))? {
        let entry = entry.map_err(FileError::at("list", parent))?;
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_hidden || !is_directory || !is_wanted(&name) {
            continue;
        }
        let directory = entry.path();
        let manifest = read(&directory);
        found.push((directory, manifest));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::tests::{any_record, example};

    #[test]
    fn a_manifest_of_another_kind_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &example()).unwrap();
        let error = read::<SnapshotRecord>(directory.path()).unwrap_err();
        assert!(matches!(error, ManifestError::Content { .. }), "{error}");
    }

    #[test]
    fn a_newer_manifest_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &example()).unwrap();
        let path = directory.path().join(FILE_NAME);
        let newer = fs::read_to_string(&path).unwrap();
        fs::write(&path, newer.replace("\"multidb\": 1", "\"multidb\": 2")).unwrap();
        let error = read::<InstanceRecord>(directory.path()).unwrap_err();
        assert!(matches!(error, ManifestError::Version { version: 2, .. }));
    }

    #[test]
    fn crash_before_the_rename_leaves_the_old_manifest() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &example()).unwrap();
        fs::write(directory.path().join(TEMPORARY_NAME), b"{ half of it").unwrap();
        assert_eq!(read::<InstanceRecord>(directory.path()).unwrap(), example());
        write(directory.path(), &example()).unwrap();
        assert!(!directory.path().join(TEMPORARY_NAME).exists());
    }

    #[test]
    fn the_temporary_name_is_the_one_that_is_written() {
        let path = Path::new("/instances/1").join(FILE_NAME);
        let temporary = atomic_file::temporary_path(&path);
        assert_eq!(temporary, Path::new("/instances/1").join(TEMPORARY_NAME));
    }

    #[test]
    fn a_created_manifest_is_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = create(directory.path(), &example()).unwrap();
        assert_eq!(read::<InstanceRecord>(directory.path()).unwrap(), example());
        file.sync_all().unwrap();
    }

    #[test]
    fn a_scan_reports_damage_and_goes_on() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["good", "bad", ".hidden"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        write(&parent.path().join("good"), &example()).unwrap();
        fs::write(parent.path().join("bad").join(FILE_NAME), b"{").unwrap();
        fs::write(parent.path().join("a-file"), b"").unwrap();
        let found = scan::<InstanceRecord>(parent.path()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].0.ends_with("bad") && found[0].1.is_err());
        assert_eq!(found[1].1.as_ref().unwrap(), &example());
    }

    proptest! {
        #[test]
        fn written_record_is_read_back(record in any_record()) {
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), &record).unwrap();
            prop_assert_eq!(read::<InstanceRecord>(directory.path()).unwrap(), record);
        }
    }
}
