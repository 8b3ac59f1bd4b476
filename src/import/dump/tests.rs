//! The format of a dump is detected by its contents.

use std::io::Write;
use std::sync::atomic::Ordering;

use super::*;

const SCRIPT: &[u8] = b"--\n-- PostgreSQL database dump\n--\n\n\
    -- Dumped from database version 14.9 (Debian 14.9-1)\n";

/// A frame of zstd or lz4 without content.
const SKIPPABLE: &[u8] = &[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The content of a dump, or the error of reading it.
async fn content(dump: &mut Dump) -> std::io::Result<Vec<u8>> {
    let mut chunks = dump.read().unwrap();
    let mut content = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        content.extend(chunk?);
    }
    Ok(content)
}

async fn check(bytes: &[u8]) -> (Dump, Vec<u8>) {
    let file = file(bytes);
    let mut dump = Dump::open(file.path()).unwrap();
    let content = content(&mut dump).await.unwrap();
    assert_eq!(dump.bytes_read.load(Ordering::Relaxed), bytes.len() as u64);
    assert_eq!(dump.bytes, bytes.len() as u64);
    (dump, content)
}

pub(in crate::import) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(in crate::import) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// As by `zstd --long=30`: a window larger than decoders accept if they are not told to.
fn zstd_long(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(30).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    let bytes = |unit: u16| match big_endian {
        true => unit.to_be_bytes(),
        false => unit.to_le_bytes(),
    };
    text.encode_utf16().flat_map(bytes).collect()
}

#[tokio::test]
async fn compression_is_detected_by_the_first_bytes() {
    let parts = [SCRIPT, SCRIPT];
    let members =
        |compress: fn(&[u8]) -> Vec<u8>| [compress(parts[0]), compress(parts[1])].concat();
    for bytes in [
        SCRIPT.repeat(2),
        members(gzip),
        [members(gzip), vec![0; 10_000]].concat(),
        members(zstd),
        members(zstd_long),
        // As pzstd writes it.
        [SKIPPABLE, &zstd(parts[0]), SKIPPABLE, &zstd(parts[1])].concat(),
        members(lz4),
        [SKIPPABLE, &lz4(parts[0]), SKIPPABLE, &lz4(parts[1])].concat(),
        members(bzip2),
    ] {
        let (dump, content) = check(&bytes).await;
        assert_eq!(content, SCRIPT.repeat(2));
        assert_eq!(
            (dump.format, dump.server_major),
            (DumpFormat::Plain, Some(14))
        );
    }
    let xz = include_bytes!("../tests/cases/22-other.xz");
    let (_, content) = check(&[&xz[..], xz, &[0; 8]].concat()).await;
    let once = check(xz).await.1;
    assert!(once.starts_with(b"CREATE TABLE"));
    assert_eq!(content, once.repeat(2));
}

#[tokio::test]
async fn large_dump_is_read_completely() {
    let large: Vec<u8> = SCRIPT.iter().copied().cycle().take(1_000_003).collect();
    for compress in [gzip, zstd, lz4, bzip2] {
        assert_eq!(check(&compress(&large)).await.1, large);
    }
}

#[tokio::test]
async fn text_of_windows_is_read_as_utf_8() {
    let text = "-- é \u{1f600}\r\nSELECT 1;\r\n".repeat(20_000);
    let marked = format!("\u{feff}{text}");
    for bytes in [
        text.clone().into_bytes(),
        marked.clone().into_bytes(),
        utf16(&marked, false),
        utf16(&marked, true),
        utf16(&text, false),
        utf16(&text, true),
        gzip(&utf16(&marked, false)),
    ] {
        let (_, content) = check(&bytes).await;
        assert!(content == text.as_bytes(), "{:?}", &bytes[..4]);
    }
}

#[tokio::test]
async fn stream_that_is_damaged_is_named() {
    let large: Vec<u8> = (0..300_000_u32)
        .flat_map(|n| n.wrapping_mul(n).to_string().into_bytes())
        .collect();
    let script = [SCRIPT, &large].concat();
    let xz = include_bytes!("../tests/cases/22-other.xz");
    let mut cases: Vec<(Vec<u8>, &str)> = Vec::new();
    for (bytes, text) in [
        (gzip(&script), "its gzip stream ends early"),
        (zstd(&script), "its zstd stream ends early"),
        (bzip2(&script), "its bzip2 stream ends early"),
        (lz4(&script), "its lz4 stream ends early"),
        (xz.to_vec(), "its xz stream ends early"),
    ] {
        // The end mark of lz4 has 4 bytes.
        cases.push((bytes[..bytes.len() - 4].to_vec(), text));
    }
    let followed = [gzip(&script), b"x".to_vec()].concat();
    cases.push((
        followed,
        "its gzip stream is damaged: something else follows it",
    ));
    let lone = [utf16("\u{feff}SELECT", false), vec![0, 0xd8, 65, 0]].concat();
    cases.push((lone, "its UTF-16 is damaged"));
    for (bytes, text) in cases {
        let file = file(&bytes);
        let error = match Dump::open(file.path()) {
            Err(error) => multidb_store::error_chain(&error),
            Ok(mut dump) => content(&mut dump).await.unwrap_err().to_string(),
        };
        assert!(error.ends_with(text), "{text}: {error}");
    }
}

#[test]
fn other_files_are_refused_by_name() {
    let mut other_tar = vec![0; 1024];
    other_tar[..5].copy_from_slice(b"a.txt");
    other_tar[257..262].copy_from_slice(b"ustar");
    let archive = include_bytes!("../tests/cases/11-one-error.dump");
    let in_terminal: Vec<u8> = archive
        .iter()
        .flat_map(|byte| match byte {
            b'\n' => vec![b'\r', b'\n'],
            byte => vec![*byte],
        })
        .collect();
    let as_text = String::from_utf8_lossy(archive);
    let powershell = utf16(&format!("\u{feff}{as_text}"), false);
    for (bytes, problem) in [
        (&b""[..], "it is empty"),
        (b"\x00\x01", "neither SQL nor an archive"),
        (b"PGDMP", "its header is damaged"),
        (&other_tar, "it is a tar archive, but not from pg_dump"),
        (b"PK\x03\x04....", "it is a zip archive"),
        (b"-- MySQL dump 10.13", "it is a dump of MySQL"),
        (&in_terminal, "as in a terminal"),
        (&powershell, "it was converted to UTF-16"),
        (as_text.as_bytes(), "damaged on its way"),
    ] {
        let file = file(bytes);
        let error = Dump::open(file.path()).err().unwrap();
        assert!(error.to_string().contains(problem), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    Dump::open(directory.path()).err().unwrap();
}
