//! A dump on disk: its format and versions, by its first bytes.

mod compression;
mod content;
mod detect;
mod header;
mod tar;
#[cfg(test)]
pub(super) mod tests;
mod text;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use multidb_store::TakenAtOrigin;

pub(super) use self::content::Chunks;
use self::content::{Content, HEAD_BYTES};
use self::detect::{Detected, detect};
use self::header::ArchiveHeader;
pub(super) use self::tar::TarCheck;
use super::error::{ImportError, refused, tree_error};
use super::script::PrimaryKeys;
use super::upload::Upload;
use crate::fsutil::beneath::Directory;

/// The format of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DumpFormat {
    /// A script for psql.
    Plain,
    /// pg_dump's custom format.
    Custom,
    /// pg_dump's tar format.
    Tar,
    /// pg_dump's directory format.
    Directory,
}

/// A dump, opened.
pub(super) struct Dump {
    pub(super) path: PathBuf,
    /// The path from which pg_restore reads a dump in directory format.
    pub(super) directory: PathBuf,
    pub(super) format: DumpFormat,
    /// The major of the server that was dumped.
    pub(super) server_major: Option<u16>,
    /// The major of the pg_dump that wrote an archive, which an older pg_restore cannot read.
    pub(super) archive_major: Option<u16>,
    /// The database that it is of, as an archive has it.
    pub(super) database: Option<Vec<u8>>,
    /// Set for a script that pg_dump makes for this import: the primary keys of its tables, as far as they are known. Those
    /// of an archive are in it, and a script of others says nothing before its rows.
    pub(super) keys: Option<PrimaryKeys>,
    /// The time in the dump, or else the modification time of the file.
    pub(super) made_at: Timestamp,
    /// How that time is known.
    pub(super) made_at_origin: TakenAtOrigin,
    /// The size of the file, 0 if it is not known.
    pub(super) bytes: u64,
    /// The bytes that were read from the file.
    pub(super) bytes_read: Arc<AtomicU64>,
    /// The content of a file, until it is read.
    content: Option<Content>,
    /// The client's side of it, if it is sent.
    upload: Option<Upload>,
}

impl Dump {
    /// Opens a dump and reads its head. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::io("read", path, source);
        // Trusted path: the administrator has named this dump, which may be a FIFO.
        let metadata = fs::metadata(path).map_err(failed)?;
        let modified = metadata.modified().map_err(failed)?;
        let modified = Timestamp::try_from(modified).unwrap_or_else(|_| Timestamp::now());
        if metadata.is_dir() {
            return Self::open_directory(path, modified);
        }
        // Trusted path: as above.
        let file = File::open(path).map_err(failed)?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let content = Content::open(Box::new(file), bytes_read.clone()).map_err(failed)?;
        let detected = detect(path, content.head(), content.was_utf16())?;
        Ok(Self {
            bytes: metadata.len(),
            bytes_read,
            content: Some(content),
            ..Self::new(path, modified, detected)
        })
    }

    /// Waits for the head of a dump that a client sends. Blocks.
    pub(super) fn receive(upload: Upload) -> Result<Self, ImportError> {
        let path = upload.name().to_owned();
        let bytes_read = Arc::new(AtomicU64::new(0));
        let reader = Box::new(upload.read());
        let content = Content::open(reader, bytes_read.clone())
            .map_err(|error| read_error(&path, Some(&upload), error))?;
        let detected = detect(&path, content.head(), content.was_utf16())?;
        let modified = upload.modified_at.unwrap_or_else(Timestamp::now);
        let made_at_origin = match (detected.made_at, upload.modified_at) {
            (Some(_), _) => TakenAtOrigin::AssumedZone,
            (None, Some(_)) => TakenAtOrigin::FileTime,
            (None, None) => TakenAtOrigin::ImportTime,
        };
        Ok(Self {
            made_at_origin,
            bytes: upload.bytes.unwrap_or_default(),
            bytes_read,
            content: Some(content),
            upload: Some(upload),
            ..Self::new(&path, modified, detected)
        })
    }

    fn open_directory(path: &Path, modified: Timestamp) -> Result<Self, ImportError> {
        let toc = path.join("toc.dat");
        let mut head = Vec::new();
        let opened = Directory::open(path).and_then(|directory| directory.file("toc.dat"));
        match opened {
            Ok(file) => file
                .take(HEAD_BYTES as u64)
                .read_to_end(&mut head)
                .map_err(|source| ImportError::io("read", &toc, source))?,
            Err(error) if error.is_missing() => {
                return Err(refused(
                    path,
                    "it is a directory without toc.dat",
                    "Give a dump that pg_dump made, or use --data-dir for a data directory.",
                ));
            }
            Err(error) => return Err(tree_error(path, path, error)),
        };
        let header = ArchiveHeader::parse(&head).ok_or_else(|| {
            refused(
                path,
                "its toc.dat is not from pg_dump",
                "Make the dump again.",
            )
        })?;
        let detected = Detected::archive(DumpFormat::Directory, header);
        Ok(Self::new(path, modified, detected))
    }

    /// A dump without content.
    fn new(path: &Path, modified: Timestamp, detected: Detected) -> Self {
        Self {
            path: path.to_owned(),
            directory: path.to_owned(),
            format: detected.format,
            server_major: detected.server_major,
            archive_major: detected.archive_major,
            database: detected.database,
            keys: None,
            made_at: detected.made_at.unwrap_or(modified),
            made_at_origin: match detected.made_at {
                Some(_) => TakenAtOrigin::AssumedZone,
                None => TakenAtOrigin::FileTime,
            },
            bytes: 0,
            bytes_read: Arc::default(),
            content: None,
            upload: None,
        }
    }

    /// The error of reading its content.
    pub(super) fn read_error(&self, error: io::Error) -> ImportError {
        read_error(&self.path, self.upload.as_ref(), error)
    }

    /// Takes the content out, to be read once. A dump in directory format has none.
    pub(super) fn read(&mut self) -> Option<Chunks> {
        self.content.take().map(Content::read)
    }
}

/// The error of reading a dump. A dump that was cut off is told as such, regardless of the decoder's
/// error.
fn read_error(path: &Path, upload: Option<&Upload>, error: io::Error) -> ImportError {
    if upload.is_some_and(Upload::is_cut_off) {
        return ImportError::CutOff {
            path: path.to_owned(),
        };
    }
    ImportError::io("read", path, error)
}
