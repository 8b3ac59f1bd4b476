//! The bodies of the fuzz targets in `fuzz/`: properties that hold for any bytes from a client.
//!
//! They are here so that every test run checks the kept corpus, without a fuzzer. Each panics where
//! a property does not hold.

use bytes::{Bytes, BytesMut};

use crate::auth::{Account, Exchange, MockSecret, ScramError, Users, Verifier};
use crate::client_error::ClientError;
use crate::request;
use crate::wire::{
    BackendStartup, ClientMessage, STARTUP_BODY_LENGTH_MAX, StartupRequest, Tail, TailState,
    WireError, decode_client, decode_sasl_initial, decode_startup,
};

/// A verifier of an unknown password.
const VERIFIER: &str = "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$\
    AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Panics where a property does not hold for these bytes.
pub type Target = fn(&[u8]);

/// All targets by the names of their corpora.
pub const TARGETS: [(&str, Target); 6] = [
    ("startup", startup),
    ("user_name", user_name),
    ("options", options),
    ("scram", scram),
    ("idle", idle),
    ("console", console),
];

/// Stands for the nonces, which change each time, in a second message of SCRAM.
const NONCES: &str = "NONCES";

/// The longest message that the console takes here.
const CONSOLE_BODY_LENGTH_MAX: u32 = 1 << 16;

/// The most bytes of an error that libpq accepts before a login.
const ERROR_BYTES_MAX: usize = 30_000;

/// The first bytes of a connection: they decode the same wherever they are cut, and the backend gets a
/// startup packet of the chosen role, and of no other.
pub fn startup(bytes: &[u8]) {
    let whole = decode_startup(&mut BytesMut::from(bytes));
    let mut buffer = BytesMut::with_capacity(bytes.len());
    let mut pieces = Ok(None);
    for byte in bytes {
        buffer.extend_from_slice(&[*byte]);
        let before = (buffer.len(), buffer.capacity());
        pieces = decode_startup(&mut buffer);
        if !matches!(pieces, Ok(None)) {
            break;
        }
        assert_eq!((buffer.len(), buffer.capacity()), before);
        assert!(buffer.len() <= STARTUP_BODY_LENGTH_MAX as usize + 4);
    }
    assert_eq!(pieces, whole);
    match whole {
        Ok(Some(StartupRequest::Startup(message))) => {
            let startup = BackendStartup {
                user: b"role",
                default_database: b"database",
                options: None,
            };
            match message.encode_for_backend(&startup) {
                Ok(packet) => match decode_startup(&mut BytesMut::from(&packet[..])) {
                    Ok(Some(StartupRequest::Startup(passed_on))) => {
                        assert_eq!(passed_on.get_str("user"), Some("role"));
                        assert_eq!(passed_on.negotiation(), None);
                    }
                    other => panic!("a backend would read {other:?}"),
                },
                Err(WireError::StartupLength { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        Ok(_) => {}
        Err(error) => check_error(&ClientError::from(&error)),
    }
}

/// A user name.
pub fn user_name(bytes: &[u8]) {
    match request::parse(bytes, None) {
        Ok((_, rest)) => assert_eq!(rest, None),
        Err(error) => check_error(&ClientError::from(&error)),
    }
}

/// The `options` of a startup packet: a second parse leaves the rest for Postgres unchanged.
pub fn options(bytes: &[u8]) {
    // A parameter's value ends at a zero byte.
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    for user in [&b""[..], b"instance:a"] {
        match request::parse(user, Some(bytes)) {
            Ok((_, None)) => {}
            Ok((_, Some(rest))) => {
                assert!(rest.len() <= bytes.len());
                let again = request::parse(b"instance:a", Some(&rest));
                assert_eq!(again.map(|(_, rest)| rest), Ok(Some(rest)));
            }
            Err(error) => check_error(&ClientError::from(&error)),
        }
    }
}

/// Both messages of a SCRAM exchange. The first byte encodes whether it is in TLS and whether the user
/// exists, the next two the length of the first message. No exchange succeeds without the password,
/// and the challenge begins with the client's nonce and has one line.
pub fn scram(bytes: &[u8]) {
    let [flags, length @ .., _] = bytes.first_chunk::<4>().copied().unwrap_or_default();
    let rest = bytes.get(3..).unwrap_or_default();
    let (first, second) = rest.split_at(usize::from(u16::from_be_bytes(length)).min(rest.len()));
    let Some(initial) = decode_sasl_initial(Bytes::copy_from_slice(first)) else {
        return;
    };
    let end_point = (flags & 1 != 0).then(|| vec![7; 32]);
    let verifier: Verifier = VERIFIER.parse().expect("it is a verifier");
    let account = if flags & 2 != 0 {
        Account::User(verifier)
    } else {
        Account::Mock(MockSecret::random().verifier("alice", &Users::new()))
    };
    let exchange = Exchange::new(account, end_point);
    let offered = exchange.mechanisms();
    let challenged = match exchange.begin(&initial.mechanism, &initial.data) {
        Ok(challenged) => challenged,
        Err(error) => return assert_ne!(error, ScramError::Denied),
    };
    assert!(offered.contains(&initial.mechanism.as_str()));
    let challenge = challenged.challenge().to_owned();
    assert!(challenge.len() < 2 * bytes.len() + 200 && challenge.is_ascii());
    assert!(!challenge.contains(['\n', '\0']), "{challenge:?}");
    let nonces = challenge
        .strip_prefix("r=")
        .and_then(|rest| rest.split(",s=").next())
        .expect("a challenge begins with the nonces");
    let second = String::from_utf8_lossy(second).replace(NONCES, nonces);
    assert!(challenged.finish(second.as_bytes()).is_err());
}

/// A backend's stream in chunks, the first byte of each its length: the backend is idle exactly if the
/// stream ends in ReadyForQuery.
pub fn idle(bytes: &[u8]) {
    let mut tail = Tail::default();
    let mut stream = Vec::new();
    let mut left = bytes;
    while let Some((length, rest)) = left.split_first() {
        let (chunk, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        tail.feed(chunk);
        stream.extend_from_slice(chunk);
        left = rest;
        let ready = stream.ends_with(b"Z\0\0\0\x05I");
        assert_eq!(tail.state() == TailState::Idle, ready);
    }
}

/// A client's messages in a session of the console: they decode the same wherever they are cut, and every statement has
/// an answer.
pub fn console(bytes: &[u8]) {
    let whole = messages(&mut BytesMut::from(bytes));
    let (mut buffer, mut pieces) = (BytesMut::new(), Vec::new());
    for byte in bytes {
        buffer.extend_from_slice(&[*byte]);
        pieces.extend(messages(&mut buffer));
        if pieces.last().is_some_and(Result::is_err) {
            break;
        }
    }
    assert_eq!(pieces, whole);
    for message in whole {
        let statements = match message {
            Ok(ClientMessage::Query(text) | ClientMessage::Parse { text, .. }) => {
                crate::console::parse(&text)
            }
            Ok(_) => continue,
            Err(error) => return check_error(&ClientError::from(&error)),
        };
        if let Err(error) = statements {
            check_error(&ClientError::from(&error));
        }
    }
}

/// All whole messages in these bytes, up to a fault.
fn messages(buffer: &mut BytesMut) -> Vec<Result<ClientMessage, WireError>> {
    let next = || decode_client(buffer, CONSOLE_BODY_LENGTH_MAX).transpose();
    let mut has_failed = false;
    std::iter::from_fn(next)
        .take_while(|message| !std::mem::replace(&mut has_failed, message.is_err()))
        .collect()
}

/// An error is a message that a client can read, with any part of the input in it.
fn check_error(error: &ClientError) {
    let mut out = BytesMut::new();
    error.encode(&mut out);
    assert!(out.len() <= ERROR_BYTES_MAX, "{} bytes", out.len());
    assert!(!error.message.contains(['\n', '\r']), "{error}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn kept_corpus_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let files = std::fs::read_dir(corpus.join(name)).expect("each target has a corpus");
            let mut inputs = 0;
            for file in files.flatten() {
                let bytes = std::fs::read(file.path()).expect("an input can be read");
                let held = std::panic::catch_unwind(|| target(&bytes));
                assert!(held.is_ok(), "{}", file.path().display());
                inputs += 1;
            }
            assert!(inputs > 3, "{name} has {inputs} inputs");
        }
    }
}
