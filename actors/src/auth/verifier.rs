//! A password in the form that Postgres stores (`pg_authid.rolpassword`):
//! `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The name of the mechanism, with which the text begins.
const MECHANISM: &str = "SCRAM-SHA-256";

/// The length of SHA-256, in bytes.
pub const KEY_BYTES: usize = 32;

/// What a password is checked against. It is a secret: whoever has it can try passwords, and play the
/// server to the password's owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: [u8; KEY_BYTES],
    pub(super) server_key: [u8; KEY_BYTES],
}

/// The text is not a verifier. What was given instead may well be the password, so it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not of the form SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>, as Postgres \
     stores it"
)]
pub struct NoVerifier;

impl FromStr for Verifier {
    type Err = NoVerifier;

    fn from_str(text: &str) -> Result<Self, NoVerifier> {
        let parts: Vec<_> = text.split('$').collect();
        let [MECHANISM, salted, keys] = parts[..] else {
            return Err(NoVerifier);
        };
        let (iterations, salt) = salted.split_once(':').ok_or(NoVerifier)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(NoVerifier)?;
        let iterations: u32 = iterations.parse().map_err(|_| NoVerifier)?;
        let bytes = |text| STANDARD.decode(text).map_err(|_| NoVerifier);
        let key = |text| bytes(text)?.try_into().map_err(|_| NoVerifier);
        let verifier = Self {
            iterations,
            salt: bytes(salt)?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        };
        let whole = iterations > 0 && !verifier.salt.is_empty();
        whole.then_some(verifier).ok_or(NoVerifier)
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
    fn a_verifier_is_what_postgres_stores() {
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
            assert_eq!(bad.parse::<Verifier>(), Err(NoVerifier), "{bad}");
        }
    }

    #[test]
    fn a_verifier_is_never_shown() {
        let made = postgres_protocol::password::scram_sha_256(b"secret");
        let verifier: Verifier = made.parse().unwrap();
        assert_eq!(format!("{verifier:?}"), "Verifier(***)");
    }
}
