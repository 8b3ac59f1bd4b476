//! The sessions of users who are logged in to the web page. In memory: a restart of the daemon ends all these sessions.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multidb_actors::auth::{Identity, User, Users, Verifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// A session that was not used for so long has ended.
const IDLE_MAX: Duration = Duration::from_secs(8 * 3600);
/// No session lasts longer.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most sessions of one user. The one that was unused for longest gives way to a new one.
const OF_USER_MAX: usize = 16;

/// The sessions. What a browser keeps is not here, only its SHA-256: memory that is read by others gives no access.
pub(crate) struct Sessions {
    sessions: Mutex<HashMap<[u8; 32], Session>>,
    /// The token in the forms of those who need no login.
    trusted_token: String,
}

struct Session {
    user: String,
    /// The password as it was at the login: another one ends the session.
    verifier: Verifier,
    token: String,
    began_at: Instant,
    used_at: Instant,
}

/// A session as a request finds it.
pub(super) struct Found {
    /// Who is logged in.
    pub(super) identity: Identity,
    /// The token that each of its forms must carry.
    pub(super) token: String,
}

/// Whether a request is a use of the session. Refreshes of an open page are not, else it would last for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Somebody opened a page, or sent a form.
    Counts,
    /// The script of an open page asked for news.
    Ignored,
}

impl Sessions {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            sessions: Mutex::default(),
            trusted_token: secret(),
        }
    }

    /// The token in the forms of those who need no login.
    pub(super) fn trusted_token(&self) -> &str {
        &self.trusted_token
    }

    /// Begins a session of this user, and returns the secret for its cookie.
    pub(super) fn begin(&self, name: &str, user: &User) -> String {
        let (secret, token, now) = (secret(), secret(), Instant::now());
        let mut sessions = self.lock();
        sessions.retain(|_, session| !session.is_over(now));
        let of_user = sessions.iter().filter(|(_, session)| session.user == name);
        if of_user.clone().count() >= OF_USER_MAX {
            let oldest = of_user.min_by_key(|(_, session)| session.used_at);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                sessions.remove(&key);
            }
        }
        let session = Session {
            user: name.to_owned(),
            verifier: user.verifier.clone(),
            token,
            began_at: now,
            used_at: now,
        };
        sessions.insert(key(&secret), session);
        secret
    }

    /// The session of this secret, if it goes on: its user exists and has the same password.
    pub(super) fn find(&self, secret: &str, users: &Users, usage: Use) -> Option<Found> {
        let now = Instant::now();
        let key = key(secret);
        let mut sessions = self.lock();
        let session = sessions.get_mut(&key)?;
        let user = users.get(&session.user);
        let user = user.filter(|user| user.verifier == session.verifier);
        let Some(user) = user.filter(|_| !session.is_over(now)) else {
            sessions.remove(&key);
            return None;
        };
        if usage == Use::Counts {
            session.used_at = now;
        }
        Some(Found {
            identity: Identity {
                name: session.user.clone(),
                user: Some(user.clone()),
            },
            token: session.token.clone(),
        })
    }

    /// Ends the session of this secret, if there is one.
    pub(super) fn end(&self, secret: &str) {
        self.lock().remove(&key(secret));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.used_at) >= IDLE_MAX || now.duration_since(self.began_at) >= AGE_MAX
    }
}

/// 256 random bits, in hexadecimal digits.
pub(super) fn secret() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// Whether two secrets are the same, in a time that tells nothing about them.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn key(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn user(password: &str) -> User {
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        User {
            verifier: verifier.parse().unwrap(),
            roles: vec!["app".to_owned()],
            projects: None,
            admin: false,
            max_instances: None,
            creations_per_minute: None,
            tokens: Default::default(),
        }
    }

    fn users(alice: &User) -> Users {
        [("alice".to_owned(), Arc::new(alice.clone()))].into()
    }

    fn goes_on(sessions: &Sessions, secret: &str, users: &Users) -> bool {
        sessions.find(secret, users, Use::Counts).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn session_ends_when_unused_or_old() {
        let (sessions, alice) = (Sessions::new(), user("secret"));
        let users = users(&alice);
        let secret = sessions.begin("alice", &alice);
        tokio::time::advance(IDLE_MAX / 2).await;
        assert!(sessions.find(&secret, &users, Use::Ignored).is_some());
        tokio::time::advance(IDLE_MAX / 2).await;
        assert!(!goes_on(&sessions, &secret, &users), "it was not used");

        let secret = sessions.begin("alice", &alice);
        let steps = AGE_MAX.as_secs() / (IDLE_MAX / 2).as_secs();
        for step in 1..=steps {
            tokio::time::advance(IDLE_MAX / 2).await;
            let goes_on = goes_on(&sessions, &secret, &users);
            assert_eq!(goes_on, step < steps, "{step}");
        }
    }

    #[tokio::test]
    async fn session_ends_with_its_user_its_password_and_the_logout() {
        let (sessions, alice) = (Sessions::new(), user("secret"));
        let known = users(&alice);
        let begin = || sessions.begin("alice", &alice);
        assert!(goes_on(&sessions, &begin(), &known));
        assert!(!goes_on(&sessions, &begin(), &users(&user("other"))));
        assert!(!goes_on(&sessions, &begin(), &Users::new()));
        assert!(!goes_on(&sessions, "guessed", &known));
        let secret = begin();
        sessions.end(&secret);
        assert!(!goes_on(&sessions, &secret, &known));
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_session_of_a_user_gives_way() {
        let (sessions, alice) = (Sessions::new(), user("secret"));
        let known = users(&alice);
        let mut begun = Vec::new();
        for _ in 0..=OF_USER_MAX {
            begun.push(sessions.begin("alice", &alice));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(!goes_on(&sessions, &begun[0], &known));
        assert!(
            begun[1..]
                .iter()
                .all(|secret| goes_on(&sessions, secret, &known))
        );
    }
}
