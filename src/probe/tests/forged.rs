//! A program in the place of Postgres, which sends arbitrary answers.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// A server that sends `login` to each client, and `answer` to its query.
struct Forger {
    endpoint: Endpoint,
    _directory: tempfile::TempDir,
}

/// The bytes that a server sends.
#[derive(Clone, Copy)]
enum Bytes {
    Once(&'static [u8]),
    /// Again and again.
    Endless(&'static [u8]),
}

const LOGIN: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01key!Z\0\0\0\x05I";

fn socket() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".s.PGSQL.5432");
    (directory, path)
}

async fn send(socket: &mut UnixStream, bytes: Bytes) -> std::io::Result<()> {
    match bytes {
        Bytes::Once(bytes) => socket.write_all(bytes).await,
        Bytes::Endless(bytes) => {
            let many = bytes.repeat(1 + (64 << 10) / bytes.len());
            loop {
                socket.write_all(&many).await?;
            }
        }
    }
}

impl Forger {
    fn start(login: Bytes, answer: Bytes) -> Self {
        let (directory, path) = socket();
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let served = async {
                    let mut received = Vec::new();
                    socket.read_buf(&mut received).await?;
                    send(&mut socket, login).await?;
                    socket.read_buf(&mut received).await?;
                    send(&mut socket, answer).await?;
                    // Until the client closes.
                    socket.read_to_end(&mut received).await?;
                    Ok::<(), std::io::Error>(())
                };
                if let Err(error) = served.await {
                    tracing::debug!(%error, "the client has gone");
                }
            }
        });
        Self {
            endpoint: Endpoint::Unix(path),
            _directory: directory,
        }
    }

    /// Asks each question, and returns the error.
    async fn errors(&self) -> Vec<String> {
        let server = access(&self.endpoint);
        let asked = async {
            [
                PgProbe.backend_activities(&server, &[1]).await.map(drop),
                PgProbe.awake_reasons(&server).await.map(drop),
                PgProbe.terminate_backend(&server, 1).await,
            ]
        };
        let answers = tokio::time::timeout(10 * TIMEOUT, asked).await.unwrap();
        let errors = answers.into_iter().map(|answer| match answer {
            Ok(()) => "none".to_owned(),
            Err(error) => error.to_string(),
        });
        errors.collect()
    }
}

#[tokio::test]
async fn forged_answer_is_an_error_never_a_panic() {
    const LONG: &[u8] = b"D\x7f\xff\xff\xff\0\x02";
    for (answer, fault) in [
        (Bytes::Once(b"garbage, garbage, garbage"), "invalid length"),
        (Bytes::Once(LONG), "invalid length"),
        (Bytes::Once(b"D\0\0\0\x06\xff\xff"), "invalid layout"),
        // A row without columns, with a null, and with another text.
        (
            Bytes::Once(b"D\0\0\0\x06\0\0Z\0\0\0\x05I"),
            "column 2 is missing",
        ),
        (
            Bytes::Once(b"D\0\0\0\x0e\0\x02\xff\xff\xff\xff\xff\xff\xff\xffZ\0\0\0\x05I"),
            "column 2 is null",
        ),
        (
            Bytes::Once(b"D\0\0\0\x10\0\x02\0\0\0\x01\xff\0\0\0\x01xZ\0\0\0\x05I"),
            "unexpected answer",
        ),
        (
            Bytes::Once(b"D\0\0\0\x13\0\x02\0\0\0\x01x\0\0\0\x04idleZ\0\0\0\x05I"),
            "column 1 is not of its type",
        ),
        (Bytes::Once(b"G\0\0\0\x07\0\0\0"), "invalid layout"),
        (
            Bytes::Once(b"E\0\0\0\x13C42601\0Mno\nno\0\0Z\0\0\0\x05I"),
            "no no",
        ),
        (Bytes::Endless(b"D\0\0\0\x06\0\0"), "rows"),
        (Bytes::Endless(b"N\0\0\0\x05\0"), "too long"),
        (Bytes::Endless(b"x"), "invalid length"),
        (Bytes::Once(b""), "no answer within 2s"),
    ] {
        let forger = Forger::start(Bytes::Once(LOGIN), answer);
        let errors = forger.errors().await;
        assert!(errors[0].contains(fault), "{fault}: {errors:?}");
    }
}

#[tokio::test]
async fn forged_login_is_an_error_never_a_panic() {
    for (login, fault) in [
        (Bytes::Once(b"HTTP/1.1 200 OK\r\n\r\n"), "invalid length"),
        (
            Bytes::Once(b"R\0\0\0\x08\0\0\0\x03"),
            "a request for a password",
        ),
        (Bytes::Once(b"K\0\0\0\x04"), "invalid layout"),
        (
            Bytes::Once(b"E\0\0\0\x12C53300\0Mfull\0\0"),
            "postgres has no free connection",
        ),
        (Bytes::Endless(b"R\0\0\0\x08\0\0\0\0"), "too long"),
        (Bytes::Endless(b"S\0\0\0\x08a\0b\0"), "too long"),
        (Bytes::Once(b"R\0\0"), "no answer within 2s"),
    ] {
        let forger = Forger::start(login, Bytes::Once(b""));
        for error in forger.errors().await {
            assert!(error.contains(fault), "{fault}: {error}");
        }
    }
}

#[tokio::test]
async fn silent_server_times_out() {
    let (_directory, path) = socket();
    // Accepts connections and sends nothing.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let endpoint = Endpoint::Unix(path);
    let asked = activity_of(&endpoint, 1);
    let answer = tokio::time::timeout(2 * TIMEOUT, asked).await.unwrap();
    assert!(answer.is_err());
}

#[tokio::test]
async fn endless_answer_is_cut_off() {
    let (_directory, path) = socket();
    let listener = UnixListener::bind(&path).unwrap();
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        let (mut socket, _) = listener.accept().await.unwrap();
        // A notice of almost 2 GiB.
        let mut bytes = vec![b'x'; 64 << 10];
        bytes[..5].copy_from_slice(b"N\x7f\xff\xff\xff");
        while let Ok(count) = socket.write(&bytes).await {
            sent += count;
        }
        sent
    });
    let answer = PgProbe.awake_reasons(&access(&Endpoint::Unix(path))).await;
    assert!(answer.is_err());
    // The kernel's buffers count as sent, too.
    assert!(flood.await.unwrap() < 4 << 20);
}
