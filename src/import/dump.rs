//! A dump on disk: its format by its first bytes, and its bytes without compression.

mod header;
mod tar;

use std::fs::{self, File};
use std::io::{self, Chain, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use tokio::sync::mpsc;

use self::header::ArchiveHeader;
pub(super) use self::tar::TarCheck;
use super::error::{ImportError, refused};

/// How much of a dump is looked at to know its format and version.
const HEAD_BYTES: usize = 64 * 1024;
/// The size of the pieces that a dump is passed on in.
const PIECE_BYTES: usize = 64 * 1024;
/// The pieces that wait between the reader and the writer.
const PIECES_MAX: usize = 8;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// What wrote the dump, as far as its restore cares.
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
    /// Where pg_restore reads it, if it is a directory.
    pub(super) directory: PathBuf,
    pub(super) format: DumpFormat,
    /// The server's major version that it was made from.
    pub(super) server_major: Option<u16>,
    /// The major version of the pg_dump that made it, where an older pg_restore cannot read it.
    pub(super) archive_major: Option<u16>,
    /// When it was made: by its own word, else by the file's time.
    pub(super) made_at: Timestamp,
    /// The file's size.
    pub(super) bytes: u64,
    /// How much of the file was read.
    pub(super) bytes_read: Arc<AtomicU64>,
    content: Option<Content>,
}

type Content = Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// Counts the bytes that were read from the file itself.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The bytes of a dump, on their way from a thread of their own.
pub(super) struct Pieces {
    pub(super) receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl Dump {
    /// Opens a dump and looks at its beginning. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::io("read", path, source);
        let metadata = fs::metadata(path).map_err(failed)?;
        let modified = metadata.modified().map_err(failed)?;
        let modified = Timestamp::try_from(modified).unwrap_or_else(|_| Timestamp::now());
        if metadata.is_dir() {
            return Self::open_directory(path, modified);
        }
        let file = File::open(path).map_err(failed)?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let (head, rest) = open_content(file, bytes_read.clone()).map_err(failed)?;
        let (format, archive) = detect(path, &head)?;
        let server_major = match &archive {
            Some(header) => header.server_major,
            None => plain_server_major(&head),
        };
        Ok(Self {
            path: path.to_owned(),
            directory: PathBuf::new(),
            format,
            server_major,
            archive_major: archive.as_ref().and_then(|header| header.dump_major),
            made_at: archive.and_then(|h| h.made_at).unwrap_or(modified),
            bytes: metadata.len(),
            bytes_read,
            content: Some(Cursor::new(head).chain(rest)),
        })
    }

    fn open_directory(path: &Path, modified: Timestamp) -> Result<Self, ImportError> {
        let toc = path.join("toc.dat");
        let mut head = Vec::new();
        match File::open(&toc) {
            Ok(file) => file
                .take(HEAD_BYTES as u64)
                .read_to_end(&mut head)
                .map_err(|source| ImportError::io("read", &toc, source))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refused(
                    path,
                    "it is a directory without toc.dat",
                    "Give a dump that pg_dump made, or use --data-dir for a data directory.",
                ));
            }
            Err(source) => return Err(ImportError::io("read", &toc, source)),
        };
        let header = ArchiveHeader::parse(&head)
            .ok_or_else(|| refused(path, "its toc.dat is not pg_dump's", "Make the dump again."))?;
        Ok(Self {
            path: path.to_owned(),
            directory: path.to_owned(),
            format: DumpFormat::Directory,
            server_major: header.server_major,
            archive_major: header.dump_major,
            made_at: header.made_at.unwrap_or(modified),
            bytes: 0,
            bytes_read: Arc::default(),
            content: None,
        })
    }

    /// Reads the content, without compression, on a thread of its own, which ends with the
    /// content or when nobody receives any more. A directory has no content.
    pub(super) fn read(&mut self) -> Pieces {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        if let Some(content) = self.content.take() {
            tokio::task::spawn_blocking(move || send_all(content, &sender));
        }
        Pieces { receiver }
    }
}

fn send_all(mut content: Content, sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let result = (&mut content)
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece);
        let last = piece.is_empty() || result.is_err();
        let sent = match result {
            Err(error) => sender.blocking_send(Err(error)),
            Ok(0) => Ok(()),
            Ok(_) => sender.blocking_send(Ok(piece)),
        };
        if last || sent.is_err() {
            return;
        }
    }
}

/// The first bytes without compression, and a reader of the rest.
fn open_content(file: File, bytes: Arc<AtomicU64>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut counted = Counted { file, bytes };
    let mut magic = Vec::new();
    (&mut counted).take(4).read_to_end(&mut magic)?;
    let compressed_by = |known: &[u8]| magic.starts_with(known);
    let (gzip, zstd) = (compressed_by(GZIP_MAGIC), compressed_by(ZSTD_MAGIC));
    let whole = Cursor::new(magic).chain(counted);
    let mut content: Box<dyn Read + Send> = if gzip {
        Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(
            PIECE_BYTES,
            whole,
        )))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::new(whole)?)
    } else {
        Box::new(whole)
    };
    let mut head = Vec::new();
    (&mut content)
        .take(HEAD_BYTES as u64)
        .read_to_end(&mut head)?;
    Ok((head, content))
}

fn detect(path: &Path, head: &[u8]) -> Result<(DumpFormat, Option<ArchiveHeader>), ImportError> {
    const ADVICE: &str = "Give a dump that pg_dump or pg_dumpall made, as it is or compressed by \
                          gzip or zstd.";
    let archive = |bytes: &[u8]| {
        ArchiveHeader::parse(bytes).ok_or_else(|| {
            refused(
                path,
                "its header is damaged, or of a pg_dump that is too old",
                ADVICE,
            )
        })
    };
    if head.starts_with(header::MAGIC) {
        return Ok((DumpFormat::Custom, Some(archive(head)?)));
    }
    if head.get(257..262) == Some(b"ustar") {
        if !head.starts_with(b"toc.dat\0") {
            return Err(refused(
                path,
                "it is a tar archive, but not pg_dump's",
                ADVICE,
            ));
        }
        let content = head.get(512..).unwrap_or_default();
        return Ok((DumpFormat::Tar, Some(archive(content)?)));
    }
    if head.is_empty() {
        return Err(refused(path, "it is empty", ADVICE));
    }
    if head.contains(&0) {
        return Err(refused(
            path,
            "it is neither SQL nor an archive of pg_dump",
            ADVICE,
        ));
    }
    Ok((DumpFormat::Plain, None))
}

/// The server's version in the comments at the start of a script.
fn plain_server_major(head: &[u8]) -> Option<u16> {
    head.split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"-- Dumped from database version "))
        .and_then(header::major_version)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SCRIPT: &[u8] = b"--\n-- PostgreSQL database dump\n--\n\n\
        -- Dumped from database version 14.9 (Debian 14.9-1)\n";

    async fn check(bytes: &[u8]) -> (Dump, Vec<u8>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut dump = Dump::open(file.path()).unwrap();
        let mut pieces = dump.read();
        let mut content = Vec::new();
        while let Some(piece) = pieces.receiver.recv().await {
            content.extend(piece.unwrap());
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
    async fn compression_is_known_by_the_first_bytes() {
        let zstd = zstd::encode_all(SCRIPT, 1).unwrap();
        // Both allow several streams in a row.
        for bytes in [SCRIPT.to_vec(), gzip(SCRIPT), zstd] {
            let (dump, content) = check(&bytes).await;
            assert_eq!(content, SCRIPT);
            assert_eq!(
                (dump.format, dump.server_major),
                (DumpFormat::Plain, Some(14))
            );
        }
        let twice = [gzip(SCRIPT), gzip(SCRIPT)].concat();
        assert_eq!(check(&twice).await.1.len(), 2 * SCRIPT.len());
    }

    #[tokio::test]
    async fn large_dumps_pass_whole() {
        let large: Vec<u8> = SCRIPT.iter().copied().cycle().take(1_000_003).collect();
        assert_eq!(check(&gzip(&large)).await.1, large);
    }

    #[tokio::test]
    async fn a_truncated_stream_is_an_error() {
        let large: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| n.wrapping_mul(n).to_string().into_bytes())
            .collect();
        let script = [SCRIPT, &large].concat();
        for mut bytes in [gzip(&script), zstd::encode_all(&script[..], 1).unwrap()] {
            bytes.truncate(bytes.len() - 100);
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes).unwrap();
            let mut dump = Dump::open(file.path()).unwrap();
            let mut pieces = dump.read();
            let mut last = Ok(Vec::new());
            while let Some(piece) = pieces.receiver.recv().await {
                last = piece;
            }
            last.unwrap_err();
        }
    }

    #[test]
    fn what_is_no_dump_is_refused() {
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
