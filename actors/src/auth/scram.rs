//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), as in Postgres: the
//! user is that of the startup packet, and the user name within the exchange is ignored.
//!
//! ```text
//! client   n,,n=,r=<nonce>                       client-first
//! server   r=<both nonces>,s=<salt>,i=<count>    server-first
//! client   c=<header>,r=<both nonces>,p=<proof>  client-final
//! server   v=<signature>                         server-final
//! ```
//!
//! A user that does not exist gets the same exchange with a mock verifier, and fails at its end.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::users::Users;
use super::verifier::{KEY_BYTES, Verifier};

/// The mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The only type of channel binding that Postgres supports (RFC 5929).
const BINDING: &str = "tls-server-end-point";
/// The length of the server's nonce before base64, as in Postgres (`SCRAM_RAW_NONCE_LEN`).
const NONCE_BYTES: usize = 18;
/// The length of a mock salt without users, as in Postgres (`SCRAM_DEFAULT_SALT_LEN`).
const MOCK_SALT_BYTES: usize = 16;
/// The iterations of a mock verifier without users, as in Postgres
/// (`SCRAM_SHA_256_DEFAULT_ITERATIONS`).
const MOCK_ITERATIONS: u32 = 4096;

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The client breaks the protocol.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The client's channel binding does not match the server's offer: an attacker may have removed
    /// the offer.
    #[error("SCRAM channel binding was not negotiated as it was offered")]
    Downgraded,
    /// The password is wrong, or the user does not exist.
    #[error("the password is wrong")]
    Denied,
}

/// The secret from which the verifiers of users that do not exist are derived. The same name gets the
/// same salt, also after a restart, so that repeated logins do not reveal whether a user exists.
#[derive(Clone)]
pub struct MockSecret([u8; KEY_BYTES]);

impl MockSecret {
    /// Its length in bytes.
    pub const BYTES: usize = KEY_BYTES;

    /// A random secret.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// A stored secret.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// A verifier that no password matches. It has the iterations and the salt length of one of the
    /// users, always the same one for a name: other values would reveal that the user does not exist.
    pub fn verifier(&self, user: &str, users: &Users) -> Verifier {
        let [choice, salt] =
            [b"choice", &b"salt"[..]].map(|purpose| hmac(&self.0, &[purpose, user.as_bytes()]));
        let choice = u64::from_be_bytes(choice[..8].try_into().unwrap_or_default());
        let like = usize::try_from(choice % (users.len() as u64).max(1)).unwrap_or_default();
        let like = users.values().nth(like).map(|user| &user.verifier);
        let salt_bytes = like.map_or(MOCK_SALT_BYTES, |verifier| verifier.salt.len());
        Verifier {
            iterations: like.map_or(MOCK_ITERATIONS, |verifier| verifier.iterations),
            salt: salt.iter().copied().cycle().take(salt_bytes).collect(),
            stored_key: rand::random(),
            server_key: rand::random(),
        }
    }
}

impl fmt::Debug for MockSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MockSecret(***)")
    }
}

/// The account that a client tries to log in to.
#[derive(Debug, Clone)]
pub enum Account {
    /// A user's, with the user's verifier.
    User(Verifier),
    /// An unknown user's, with a verifier of [`MockSecret::verifier`].
    Mock(Verifier),
}

/// One exchange, before the client's first message.
#[derive(Debug)]
pub struct Exchange {
    verifier: Verifier,
    exists: bool,
    /// The hash to bind to, under TLS.
    end_point: Option<Vec<u8>>,
    nonce: String,
}

/// An exchange that waits for the client's final message.
#[derive(Debug)]
pub struct Challenged {
    exchange: Exchange,
    /// The expected value of `c=`.
    binding: String,
    client_first_bare: String,
    server_first: String,
    /// Both nonces.
    nonces: String,
}

impl Exchange {
    /// An exchange for this account. `end_point` is the certificate's hash, under TLS.
    pub fn new(account: Account, end_point: Option<Vec<u8>>) -> Self {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let (verifier, exists) = match account {
            Account::User(verifier) => (verifier, true),
            Account::Mock(verifier) => (verifier, false),
        };
        Self {
            verifier,
            exists,
            end_point,
            nonce: STANDARD.encode(nonce),
        }
    }

    /// The offered mechanisms, best first.
    pub fn mechanisms(&self) -> Vec<&'static str> {
        match self.end_point {
            Some(_) => vec![MECHANISM_PLUS, MECHANISM],
            None => vec![MECHANISM],
        }
    }

    /// Reads the client's choice and its first message. The answer to it is
    /// [`Challenged::challenge`].
    pub fn begin(self, mechanism: &str, message: &[u8]) -> Result<Challenged, ScramError> {
        let plus = match mechanism {
            MECHANISM => false,
            MECHANISM_PLUS if self.end_point.is_some() => true,
            _ => return Err(ScramError::Malformed("unknown mechanism")),
        };
        let message = text(message)?;
        let (header, bare) = split_header(message)?;
        let (flag, authzid) = header.split_once(',').unwrap_or((header, ""));
        if !authzid.trim_end_matches(',').is_empty() {
            return Err(ScramError::Malformed("an authorization identity is given"));
        }
        let bound = match flag.split_once('=') {
            Some(("p", BINDING)) => true,
            Some(("p", _)) => return Err(ScramError::Malformed("unknown channel binding")),
            None if flag == "n" => false,
            // "y": the client supports binding, and believes that the server does not.
            None if flag == "y" && self.end_point.is_some() => return Err(ScramError::Downgraded),
            None if flag == "y" => false,
            _ => return Err(ScramError::Malformed("no channel binding flag")),
        };
        if bound != plus {
            return Err(ScramError::Malformed(
                "mechanism and channel binding differ",
            ));
        }
        // The user name is ignored, as in Postgres. asyncpg repeats the startup packet's here without
        // escaping its commas, so the nonce is searched behind them.
        if !bare.starts_with("n=") {
            return Err(ScramError::Malformed("no user name"));
        }
        let nonce = bare
            .split(',')
            .find_map(|attribute| attribute.strip_prefix("r="));
        let printable =
            |nonce: &&str| !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic());
        let nonce = nonce.filter(printable);
        let nonce = nonce.ok_or(ScramError::Malformed("no nonce"))?;

        let mut binding = header.as_bytes().to_vec();
        if bound {
            binding.extend(self.end_point.as_deref().unwrap_or_default());
        }
        let nonces = format!("{nonce}{}", self.nonce);
        let server_first = format!(
            "r={nonces},s={},i={}",
            STANDARD.encode(&self.verifier.salt),
            self.verifier.iterations
        );
        Ok(Challenged {
            binding: STANDARD.encode(binding),
            client_first_bare: bare.to_owned(),
            server_first,
            nonces,
            exchange: self,
        })
    }
}

impl Challenged {
    /// The server's first message.
    pub fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's proof, and returns the server's.
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let message = text(message)?;
        let split = message.rsplit_once(",p=");
        let (without_proof, proof) = split.ok_or(ScramError::Malformed("no proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|text| text.strip_prefix("c="));
        let nonces = attributes.next().and_then(|text| text.strip_prefix("r="));
        if nonces != Some(self.nonces.as_str()) {
            return Err(ScramError::Malformed("another nonce"));
        }
        if binding != Some(self.binding.as_str()) {
            return Err(ScramError::Downgraded);
        }
        let proof = STANDARD.decode(proof).ok();
        let proof: Option<[u8; KEY_BYTES]> = proof.and_then(|proof| proof.try_into().ok());
        let proof = proof.ok_or(ScramError::Malformed("the proof has another length"))?;

        let verifier = &self.exchange.verifier;
        // AuthMessage in RFC 5802.
        let messages = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            without_proof.as_bytes(),
        ];
        let signature = hmac(&verifier.stored_key, &messages);
        let mut client_key = proof;
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let stored_key: [u8; KEY_BYTES] = Sha256::digest(client_key).into();
        let is_right: bool = stored_key.ct_eq(&verifier.stored_key).into();
        // Not `&&`, so that both cases take the same time.
        if is_right & self.exchange.exists {
            let signature = hmac(&verifier.server_key, &messages);
            Ok(format!("v={}", STANDARD.encode(signature)))
        } else {
            Err(ScramError::Denied)
        }
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

/// Splits the GS2 header (RFC 5801), including both its commas, from the rest.
fn split_header(message: &str) -> Result<(&str, &str), ScramError> {
    let commas: Vec<_> = message
        .match_indices(',')
        .map(|(at, _)| at)
        .take(2)
        .collect();
    match commas[..] {
        [_, second] => Ok(message.split_at(second + 1)),
        _ => Err(ScramError::Malformed("no header")),
    }
}

fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    // HMAC pads a shorter key with zeros (RFC 2104).
    let mut block = [0; 64];
    block[..KEY_BYTES].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
