//! Tokens: passwords of programs, each of which ends and may do less than its user.
//!
//! A token is `mdb_ID_SECRET`. Its secret has 256 random bits, so it cannot be found from its SHA-256: the many
//! rounds of a password's verifier are for passwords that people choose. A check takes microseconds.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::users::{Identity, Users};

/// The prefix of all tokens, by which scanners for secrets can find them.
const PREFIX: &str = "mdb";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// The rights of a token's bearer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See all that an ordinary user may see.
    Read,
    /// See and change all that an ordinary user may.
    Use,
    /// All that the token's user may, as with the password.
    #[default]
    Admin,
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Names it.
    pub id: String,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// The rights of its bearer.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
    /// The purpose, for people.
    pub label: Option<String>,
}

/// The SHA-256 of a token's secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

/// A token as its bearer has it. There is no `Debug`, so that no log has it.
pub struct BearerToken {
    id: String,
    secret: [u8; SECRET_BYTES],
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of multidb.
    #[error("malformed token")]
    Malformed,
    /// There is no such token, or none any more.
    #[error("unknown or revoked token")]
    Unknown,
    /// It has ended.
    #[error("the token ended at {ended}")]
    Expired {
        /// When.
        ended: Timestamp,
    },
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Read, Self::Use, Self::Admin];

    /// Its word in the file of users and in commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Use => "use",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|scope| scope.name() == text)
            .ok_or_else(|| format!("\"{text}\" is none of read, use and admin"))
    }
}

impl BearerToken {
    /// A new one.
    pub fn random() -> Self {
        let id: [u8; ID_BYTES] = rand::random();
        Self {
            id: hex::encode(id),
            secret: rand::random(),
        }
    }

    /// Its name in the file of users.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The hash that is stored.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.secret).into())
    }

    /// The text for its bearer.
    pub fn reveal(&self) -> String {
        let secret = BASE64_URL_SAFE_NO_PAD.encode(self.secret);
        format!("{PREFIX}_{}_{secret}", self.id)
    }

    /// Parses a bearer's text.
    fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text
            .strip_prefix(PREFIX)?
            .strip_prefix('_')?
            .split_once('_')?;
        let secret = BASE64_URL_SAFE_NO_PAD.decode(secret).ok()?;
        Some(Self {
            id: id.to_owned(),
            secret: secret.try_into().ok()?,
        })
    }
}

/// Finds the user of a token, and the token's scope.
///
/// Unlike failures of passwords, failures are not counted: no number of attempts finds a secret.
///
/// # Errors
///
/// It is no token, there is none of this id and secret, or it has ended.
pub fn check(users: &Users, token: &str, now: Timestamp) -> Result<(Identity, Scope), TokenError> {
    let bearer = BearerToken::parse(token).ok_or(TokenError::Malformed)?;
    let hash = bearer.hash();
    let found = users.iter().find_map(|(name, user)| {
        let mut tokens = user.tokens.iter();
        let token = tokens.find(|token| token.id == bearer.id)?;
        token.hash.is(&hash).then_some((name, user, token))
    });
    let (name, user, token) = found.ok_or(TokenError::Unknown)?;
    if let Some(ended) = token.expires_at.filter(|end| *end <= now) {
        return Err(TokenError::Expired { ended });
    }
    let identity = Identity {
        name: name.clone(),
        user: Some(user.clone()),
    };
    Ok((identity, token.scope))
}

impl SecretHash {
    /// Whether both are the same, in a time that does not tell where they differ.
    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(***)")
    }
}

impl FromStr for SecretHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| "is not the SHA-256 of a token, in 64 hexadecimal digits")?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::{MockSecret, User};

    fn with(tokens: Vec<Token>) -> Users {
        let verifier = MockSecret::random().verifier("alice", &Users::new());
        let user = User {
            verifier,
            roles: vec!["app".to_owned()],
            projects: None,
            admin: false,
            max_instances: None,
            creations_per_minute: None,
            tokens,
        };
        Users::from([("alice".to_owned(), Arc::new(user))])
    }

    #[test]
    fn token_is_its_users_until_it_ends_or_is_revoked() {
        let now = Timestamp::UNIX_EPOCH;
        let bearer = BearerToken::random();
        let token = |expires_at| Token {
            id: bearer.id().to_owned(),
            hash: bearer.hash().to_string().parse().unwrap(),
            scope: Scope::Read,
            created_at: now,
            expires_at,
            label: None,
        };
        let checked = |users: &Users, text: &str| {
            check(users, text, now).map(|(identity, scope)| (identity.name, scope))
        };
        let text = bearer.reveal();
        let alice = Ok(("alice".to_owned(), Scope::Read));
        assert_eq!(checked(&with(vec![token(None)]), &text), alice);
        let later = now + jiff::SignedDuration::from_secs(1);
        assert_eq!(checked(&with(vec![token(Some(later))]), &text), alice);
        let ended = with(vec![token(Some(now))]);
        assert_eq!(
            checked(&ended, &text),
            Err(TokenError::Expired { ended: now })
        );
        assert_eq!(checked(&with(Vec::new()), &text), Err(TokenError::Unknown));
        // Another secret learns nothing of the token's end.
        let other = BearerToken {
            id: bearer.id.clone(),
            secret: [0; SECRET_BYTES],
        };
        assert_eq!(checked(&ended, &other.reveal()), Err(TokenError::Unknown));
        for malformed in [
            "",
            "mdb",
            "mdb_",
            "mdb_x_y",
            "ghp_0123",
            &text[1..],
            &text[..50],
        ] {
            let refused = checked(&ended, malformed);
            assert_eq!(refused, Err(TokenError::Malformed), "{malformed}");
        }
    }
}
