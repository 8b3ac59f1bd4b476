//! A password in the form that Postgres stores (`pg_authid.rolpassword`):
//! `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The name of the mechanism, at the beginning of the text.
const MECHANISM: &str = "SCRAM-SHA-256";

/// The length of a SHA-256 hash, in bytes.
pub const KEY_BYTES: usize = 32;

/// The salted keys that a password is checked against. They are secret: they allow guessing the
/// password offline, and impersonating the server to its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: [u8; KEY_BYTES],
    pub(super) server_key: [u8; KEY_BYTES],
}

/// The text is not a verifier. The text itself may be a password, so it is not in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not of the form SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>, as Postgres \
     stores it"
)]
pub struct InvalidVerifier;

impl FromStr for Verifier {
    type Err = InvalidVerifier;

    fn from_str(text: &str) -> Result<Self, InvalidVerifier> {
        let parts: Vec<_> = text.split('$').collect();
        let [MECHANISM, salted, keys] = parts[..] else {
            return Err(InvalidVerifier);
        };
        let (iterations, salt) = salted.split_once(':').ok_or(InvalidVerifier)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(InvalidVerifier)?;
        let iterations: u32 = iterations.parse().map_err(|_| InvalidVerifier)?;
        let bytes = |text| STANDARD.decode(text).map_err(|_| InvalidVerifier);
        let key = |text| bytes(text)?.try_into().map_err(|_| InvalidVerifier);
        let verifier = Self {
            iterations,
            salt: bytes(salt)?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        };
        let whole = iterations > 0 && !verifier.salt.is_empty();
        whole.then_some(verifier).ok_or(InvalidVerifier)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifier_is_parsed_as_postgres_stores_it() {
        let made = postgres_protocol::password::scram_sha_256(b"secret");
        let verifier: Verifier = made.parse().unwrap();
        assert_eq!(verifier.iterations, 4096);
        let key = STANDARD.encode([7; KEY_BYTES]);
        let good = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
        assert!(good.parse::<Verifier>().is_ok());
        for bad in [
            "",
            "secret",
            "md5d41d8cd98f00b204e9800998ecf8427e",
            "SCRAM-SHA-256$4096:c2FsdA==",
            "SCRAM-SHA-256$4096:c2FsdA==$short:short",
            &good.replace("4096", "0"),
            &good.replace("4096", "many"),
            &good.replace("c2FsdA==", "c2FsdA="),
            &good.replace("c2FsdA==", "c2 sdA=="),
            &good.replace("c2FsdA==", ""),
            &good.replace("256", "512"),
            &format!("{good}$x"),
        ] {
            assert_eq!(bad.parse::<Verifier>(), Err(InvalidVerifier), "{bad}");
        }
    }

    #[test]
    fn verifier_is_not_in_debug_output() {
        let made = postgres_protocol::password::scram_sha_256(b"secret");
        let verifier: Verifier = made.parse().unwrap();
        assert_eq!(format!("{verifier:?}"), "Verifier(***)");
    }
}
