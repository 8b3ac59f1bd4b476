//! Dumps that a client sends while they are imported.

use std::io::Write;
use std::path::PathBuf;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use multidb_store::SnapshotRecord;

use super::fixture::Fixture;
use crate::import::{ImportError, ImportSource, Sent, Upload};

/// Sends these bytes in pieces, with the end that the client declares or without it.
async fn import(
    fixture: &Fixture,
    bytes: &[u8],
    is_whole: bool,
) -> (Sent, Result<SnapshotRecord, ImportError>) {
    let (upload, sender) = Upload::new(PathBuf::from("-"), None, None);
    let mut pieces: Vec<Result<Bytes, &str>> = bytes
        .chunks(1000)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    if !is_whole {
        pieces.push(Err("the client has gone"));
    }
    let request = fixture.request("s", ImportSource::Upload(upload));
    tokio::join!(
        sender.send_all(stream::iter(pieces)),
        fixture.import(request)
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn dump_that_is_sent_is_imported_if_its_end_is_sent_too() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let dump = async |format: &str| {
        let args = source.args(&["--dbname=proj", "--format", format]);
        fixture.program("pg_dump", &args).await
    };
    let (plain, custom, tar) = (dump("plain").await, dump("custom").await, dump("tar").await);
    source.stop().await;
    let utf16: Vec<u8> = String::from_utf8(plain.clone())
        .unwrap()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (name, bytes) in [
        ("plain", &plain),
        ("gzip", &gzip(&plain)),
        ("UTF-16", &utf16),
        ("custom", &custom),
        ("custom in gzip", &gzip(&custom)),
        ("tar", &tar),
    ] {
        // All of it came, so a reader of the dump finds nothing wrong.
        let (sent, imported) = import(&fixture, bytes, false).await;
        assert_eq!(sent, Sent::CutOff, "{name}");
        let error = imported.unwrap_err();
        assert!(
            matches!(error, ImportError::CutOff { .. }),
            "{name}: {error}"
        );
        fixture.assert_nothing_left(&[]).await;

        let (sent, imported) = import(&fixture, bytes, true).await;
        let snapshot = imported.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(sent, Sent::All, "{name}");
        assert_eq!(snapshot.source, "dump standard input, sent by a client");
        std::fs::remove_dir_all(fixture.layout.snapshot(&snapshot.id)).unwrap();
    }
}

#[tokio::test]
async fn dump_that_is_cut_off_is_refused_as_such() {
    let fixture = Fixture::new();
    let script = b"CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\n2\n";
    for bytes in [&b""[..], script, &gzip(script)[..20]] {
        let (_, imported) = import(&fixture, bytes, false).await;
        let error = imported.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot import standard input: the dump ended early, since the client disconnected"
        );
        let hint = error.hint().unwrap();
        assert_eq!(
            hint,
            "Import it again; the client must stay until it has sent all of the dump."
        );
        fixture.assert_nothing_left(&[]).await;
    }
    let (_, imported) = import(&fixture, b"", true).await;
    assert_eq!(
        imported.unwrap_err().to_string(),
        "cannot import standard input: it is empty"
    );
    // The client is told that nothing more is needed.
    let wrong = [&b"SELECT nonsense;\n"[..], &vec![b' '; 8 << 20]].concat();
    let (sent, imported) = import(&fixture, &wrong, true).await;
    assert_eq!(sent, Sent::NotNeeded);
    let error = imported.unwrap_err().to_string();
    assert!(error.contains("line 1: column \"nonsense\""), "{error}");
}
