//! The format of a dump in one file, by the head of its content.

use std::path::Path;

use jiff::Timestamp;
use memchr::{memchr, memchr_iter, memmem};

use super::DumpFormat;
use super::header::{self, ArchiveHeader};
use crate::import::error::{ImportError, refused};

/// The properties of a dump that its head has.
#[derive(Debug)]
pub(super) struct Detected {
    pub(super) format: DumpFormat,
    pub(super) server_major: Option<u16>,
    pub(super) archive_major: Option<u16>,
    pub(super) database: Option<Vec<u8>>,
    pub(super) made_at: Option<Timestamp>,
}

impl Detected {
    pub(super) fn archive(format: DumpFormat, header: ArchiveHeader) -> Self {
        Self {
            format,
            server_major: header.server_major,
            archive_major: header.dump_major,
            database: Some(header.database),
            made_at: header.made_at,
        }
    }
}

const GIVE_A_DUMP: &str = "Give a dump that pg_dump or pg_dumpall made, as it is or compressed by \
                           gzip, zstd, xz, lz4 or bzip2.";
const UNPACK: &str = "Unpack it, and import the dump that is in it.";
const WRITE_IT_WITH_FILE: &str = "Make the dump again with pg_dump's --file, or without a terminal and without \
                                  a redirection of PowerShell (docker exec without -t).";

/// Files that are no dump, by their first bytes.
const OTHERS: [(&[u8], &str, &str); 6] = [
    (b"PK\x03\x04", "it is a zip archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "it is a RAR archive", UNPACK),
    (
        b"SQLite format 3\0",
        "it is a database of SQLite",
        GIVE_A_DUMP,
    ),
    (b"-- MySQL dump", "it is a dump of MySQL", GIVE_A_DUMP),
    (b"-- MariaDB dump", "it is a dump of MariaDB", GIVE_A_DUMP),
];

/// Detects the format. `was_utf16` is whether the file was UTF-16.
pub(super) fn detect(path: &Path, head: &[u8], was_utf16: bool) -> Result<Detected, ImportError> {
    let refuse = |problem: &str, hint: &str| Err(refused(path, problem, hint));
    let archive = |format, bytes: &[u8]| match ArchiveHeader::parse(bytes) {
        Some(header) => Ok(Detected::archive(format, header)),
        None => refuse(
            "its header is damaged, or from a pg_dump that is too old",
            GIVE_A_DUMP,
        ),
    };
    for (magic, problem, hint) in OTHERS {
        if head.starts_with(magic) {
            return refuse(problem, hint);
        }
    }
    if head.starts_with(header::MAGIC) {
        if let Some(how) = damage_by_text(head, was_utf16) {
            return refuse(
                &format!("it is an archive of pg_dump that was damaged on its way: {how}"),
                WRITE_IT_WITH_FILE,
            );
        }
        return archive(DumpFormat::Custom, head);
    }
    if head.get(257..262) == Some(b"ustar") {
        if !head.starts_with(b"toc.dat\0") {
            let problem = "it is a tar archive, but not from pg_dump";
            return refuse(problem, UNPACK);
        }
        return archive(DumpFormat::Tar, head.get(512..).unwrap_or_default());
    }
    if head.is_empty() {
        return refuse("it is empty", GIVE_A_DUMP);
    }
    if memchr(0, head).is_some() {
        return refuse("it is neither SQL nor an archive of pg_dump", GIVE_A_DUMP);
    }
    Ok(Detected {
        format: DumpFormat::Plain,
        server_major: script_server_major(head),
        archive_major: None,
        database: None,
        made_at: None,
    })
}

/// How something that handles text has damaged an archive, if so.
fn damage_by_text(head: &[u8], was_utf16: bool) -> Option<&'static str> {
    const FEED_MIN: usize = 8;
    if was_utf16 {
        return Some("it was converted to UTF-16");
    }
    // The numbers in an archive are no UTF-8, but after a conversion of text they are.
    let is_text = match str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    if is_text && memmem::find(head, "\u{fffd}".as_bytes()).is_some() {
        return Some("its bytes were taken for text");
    }
    // Its table of contents is full of statements with several lines, whose ends are line feeds.
    let mut feeds = memchr_iter(b'\n', head);
    let all_converted = feeds.by_ref().all(|at| at > 0 && head[at - 1] == b'\r');
    let count = memchr_iter(b'\n', head).count();
    (all_converted && count >= FEED_MIN)
        .then_some("each line feed became a carriage return and a line feed, as in a terminal")
}

/// The server's major in the comments at the start of a script.
fn script_server_major(head: &[u8]) -> Option<u16> {
    head.split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"-- Dumped from database version "))
        .and_then(header::major_version)
}
