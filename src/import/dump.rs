//! A dump on disk: its format and versions, by its first bytes.

mod content;
mod header;
mod tar;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;

pub(super) use self::content::Chunks;
use self::content::{Content, HEAD_BYTES};
use self::header::ArchiveHeader;
pub(super) use self::tar::TarCheck;
use super::error::{ImportError, refused, tree_error};
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
    /// The time in the dump, or else the modification time of the file.
    pub(super) made_at: Timestamp,
    /// The size of the file, 0 for a directory.
    pub(super) bytes: u64,
    /// The bytes that were read from the file.
    pub(super) bytes_read: Arc<AtomicU64>,
    /// The content of a file, until it is read.
    content: Option<Content>,
}

/// The properties of a dump that its head has.
#[derive(Debug)]
struct Detected {
    format: DumpFormat,
    server_major: Option<u16>,
    archive_major: Option<u16>,
    made_at: Option<Timestamp>,
}

impl Detected {
    fn archive(format: DumpFormat, header: ArchiveHeader) -> Self {
        Self {
            format,
            server_major: header.server_major,
            archive_major: header.dump_major,
            made_at: header.made_at,
        }
    }
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
        let content = Content::open(file, bytes_read.clone()).map_err(failed)?;
        let detected = detect(path, content.head())?;
        Ok(Self {
            bytes: metadata.len(),
            bytes_read,
            content: Some(content),
            ..Self::new(path, modified, detected)
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
            made_at: detected.made_at.unwrap_or(modified),
            bytes: 0,
            bytes_read: Arc::default(),
            content: None,
        }
    }

    /// Takes the content out, to be read once. A dump in directory format has none.
    pub(super) fn read(&mut self) -> Option<Chunks> {
        self.content.take().map(Content::read)
    }
}

fn detect(path: &Path, head: &[u8]) -> Result<Detected, ImportError> {
    let refused = |problem: &str| {
        const HINT: &str = "Give a dump that pg_dump or pg_dumpall made, as it is or compressed by \
                            gzip or zstd.";
        refused(path, problem, HINT)
    };
    let archive = |format, bytes: &[u8]| match ArchiveHeader::parse(bytes) {
        Some(header) => Ok(Detected::archive(format, header)),
        None => Err(refused(
            "its header is damaged, or from a pg_dump that is too old",
        )),
    };
    if head.starts_with(header::MAGIC) {
        return archive(DumpFormat::Custom, head);
    }
    if head.get(257..262) == Some(b"ustar") {
        if !head.starts_with(b"toc.dat\0") {
            return Err(refused("it is a tar archive, but not from pg_dump"));
        }
        return archive(DumpFormat::Tar, head.get(512..).unwrap_or_default());
    }
    if head.is_empty() {
        return Err(refused("it is empty"));
    }
    if head.contains(&0) {
        return Err(refused("it is neither SQL nor an archive of pg_dump"));
    }
    Ok(Detected {
        format: DumpFormat::Plain,
        server_major: script_server_major(head),
        archive_major: None,
        made_at: None,
    })
}

/// The server's major in the comments at the start of a script.
fn script_server_major(head: &[u8]) -> Option<u16> {
    head.split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"-- Dumped from database version "))
        .and_then(header::major_version)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::Ordering;

    use super::*;

    const SCRIPT: &[u8] = b"--\n-- PostgreSQL database dump\n--\n\n\
        -- Dumped from database version 14.9 (Debian 14.9-1)\n";

    async fn check(bytes: &[u8]) -> (Dump, Vec<u8>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut dump = Dump::open(file.path()).unwrap();
        let mut chunks = dump.read().unwrap();
        let mut content = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            content.extend(chunk.unwrap());
        }
        assert_eq!(dump.bytes_read.load(Ordering::Relaxed), bytes.len() as u64);
        assert_eq!(dump.bytes, bytes.len() as u64);
        (dump, content)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn compression_is_detected_by_the_first_bytes() {
        let zstd = zstd::encode_all(SCRIPT, 1).unwrap();
        for bytes in [SCRIPT.to_vec(), gzip(SCRIPT), zstd] {
            let (dump, content) = check(&bytes).await;
            assert_eq!(content, SCRIPT);
            assert_eq!(
                (dump.format, dump.server_major),
                (DumpFormat::Plain, Some(14))
            );
        }
        // gzip allows several streams in a row.
        let twice = [gzip(SCRIPT), gzip(SCRIPT)].concat();
        assert_eq!(check(&twice).await.1.len(), 2 * SCRIPT.len());
    }

    #[tokio::test]
    async fn large_dump_is_read_completely() {
        let large: Vec<u8> = SCRIPT.iter().copied().cycle().take(1_000_003).collect();
        assert_eq!(check(&gzip(&large)).await.1, large);
    }

    #[tokio::test]
    async fn truncated_stream_is_an_error() {
        let large: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| n.wrapping_mul(n).to_string().into_bytes())
            .collect();
        let script = [SCRIPT, &large].concat();
        for mut bytes in [gzip(&script), zstd::encode_all(&script[..], 1).unwrap()] {
            bytes.truncate(bytes.len() - 100);
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes).unwrap();
            let mut dump = Dump::open(file.path()).unwrap();
            let mut chunks = dump.read().unwrap();
            let mut last = Ok(Vec::new());
            while let Some(chunk) = chunks.recv().await {
                last = chunk;
            }
            last.unwrap_err();
        }
    }

    #[test]
    fn other_files_are_refused_with_a_hint() {
        let mut other_tar = vec![0; 1024];
        other_tar[..5].copy_from_slice(b"a.txt");
        other_tar[257..262].copy_from_slice(b"ustar");
        for bytes in [&b""[..], b"\x00\x01", b"PGDMP", &other_tar] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            let error = Dump::open(file.path()).err().unwrap();
            assert!(error.hint().is_some(), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        Dump::open(directory.path()).err().unwrap();
    }
}
