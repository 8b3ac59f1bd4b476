//! What must hold for any bytes of a stranger: the bodies of the fuzz targets in `fuzz/`.
//!
//! They stand here, so that the kept corpus runs through them with every test run, without a
//! fuzzer; each panics where something does not hold.

use bytes::{Bytes, BytesMut};

use crate::auth::{Exchange, MockSecret, ScramError, Users, Verifier};
use crate::client_error::ClientError;
use crate::request;
use crate::wire::{
    BackendStartup, STARTUP_BODY_LENGTH_MAX, StartupRequest, Tail, TailState, WireError,
    decode_sasl_initial, decode_startup,
};

/// A password that nobody knows.
const VERIFIER: &str = "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$\
    AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Panics where something does not hold for these bytes.
pub type Target = fn(&[u8]);

/// All targets by the names of their corpus.
pub const TARGETS: [(&str, Target); 5] = [
    ("startup", startup),
    ("user_name", user_name),
    ("options", options),
    ("scram", scram),
    ("idle", idle),
];

/// What a second message of SCRAM names the nonces by, which change each time.
const NONCES: &str = "NONCES";

/// The most bytes of an error that libpq reads before a login.
const ERROR_BYTES_MAX: usize = 30_000;

/// The first bytes of a connection: cut anywhere they mean the same, and what is passed on to a
/// backend is a startup packet of the role that was chosen, and of no other.
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
        Err(error) => is_told(&ClientError::from(&error)),
    }
}

/// A user name.
pub fn user_name(bytes: &[u8]) {
    match request::parse(bytes, None) {
        Ok((_, rest)) => assert_eq!(rest, None),
        Err(error) => is_told(&ClientError::from(&error)),
    }
}

/// The `options` of a startup packet: what is left for Postgres is left as it is by a second
/// reading.
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
            Err(error) => is_told(&ClientError::from(&error)),
        }
    }
}

/// Both messages of an exchange of SCRAM. The first byte says whether it is in TLS and whether the user
/// exists, the next two how long the first message is. Nobody gets in without the password, and what is
/// challenged names the client's nonce and keeps to one line.
pub fn scram(bytes: &[u8]) {
    let [flags, length @ .., _] = bytes.first_chunk::<4>().copied().unwrap_or_default();
    let rest = bytes.get(3..).unwrap_or_default();
    let (first, second) = rest.split_at(usize::from(u16::from_be_bytes(length)).min(rest.len()));
    let Some(initial) = decode_sasl_initial(Bytes::copy_from_slice(first)) else {
        return;
    };
    let end_point = (flags & 1 != 0).then(|| vec![7; 32]);
    let verifier: Verifier = VERIFIER.parse().expect("it is a verifier");
    let nobody = || MockSecret::random().verifier("alice", &Users::new());
    let verifier = (flags & 2 != 0).then_some(verifier).ok_or_else(nobody);
    let exchange = Exchange::new(verifier, end_point);
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

/// A backend's stream in chunks, the first byte of each its length: idle is exactly what ends in
/// ReadyForQuery.
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

/// An error is a message that a client can read, whatever of the input it quotes.
fn is_told(error: &ClientError) {
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
    fn the_kept_corpus_holds() {
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
