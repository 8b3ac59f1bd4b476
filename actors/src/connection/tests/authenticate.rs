//! Password authentication, before anything is looked up.

use std::collections::BTreeMap;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::password::scram_sha_256;
use tokio::sync::watch;

use super::*;
use crate::auth::attempts::FAILURES_MAX;
use crate::auth::{Attempts, MockSecret, User, Users};

/// Runs a test with the user `alice`, whose password is "right" and whose role is `app`.
fn with_users<F: Future<Output = ()>>(
    change: impl FnOnce(&mut Limits),
    test: impl FnOnce(Fixture, watch::Sender<Users>) -> F,
) {
    run_test(change, |mut fixture| async move {
        let (sender, users) = watch::channel(users("right"));
        fixture.deps.method = Method::Scram {
            users,
            secret: MockSecret::random(),
            attempts: Attempts::default(),
        };
        test(fixture, sender).await;
    });
}

fn users(password: &str) -> Users {
    let verifier = scram_sha_256(password.as_bytes()).parse().unwrap();
    let alice = User {
        verifier,
        roles: vec!["app".to_owned()],
        projects: None,
        max_instances: None,
        creations_per_minute: None,
        tokens: Vec::new(),
        admin: false,
    };
    BTreeMap::from([("alice".to_owned(), Arc::new(alice))])
}

impl Client {
    /// Logs in with this user name and password, and returns the proxy's verdict.
    async fn log_in(&mut self, user: &str, password: &str) -> Frame {
        match self.challenged(user, password).await {
            Ok(scram) => self.prove(scram).await,
            Err(refusal) => refusal,
        }
    }

    /// Begins the exchange, up to the challenge or an error.
    async fn challenged(&mut self, user: &str, password: &str) -> Result<ScramSha256, Frame> {
        self.send(&startup(&[("user", user)])).await;
        let offer = self.message().await.unwrap();
        if offer.tag == b'E' {
            return Err(offer);
        }
        assert_eq!(&offer.body[..], b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let binding = ChannelBinding::unsupported();
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        let first = scram.message();
        let length = u32::try_from(first.len()).unwrap().to_be_bytes();
        let initial = [b"SCRAM-SHA-256\0", &length[..], first].concat();
        self.send(&message(b'p', &initial)).await;
        let challenge = self.message().await.unwrap();
        assert_eq!(challenge.body[..4], 11_u32.to_be_bytes());
        scram.update(&challenge.body[4..]).unwrap();
        Ok(scram)
    }

    async fn prove(&mut self, mut scram: ScramSha256) -> Frame {
        self.send(&message(b'p', scram.message())).await;
        let last = self.message().await.unwrap();
        if last.tag == b'R' {
            scram.finish(&last.body[4..]).unwrap();
        }
        last
    }
}

#[test]
fn correct_password_opens_a_session() {
    with_users(
        |_| {},
        |fixture, _users| async move {
            let mut client = fixture.connect().await;
            let user = "instance:a,user:alice,role:app";
            let last = client.log_in(user, "right").await;
            assert_eq!(last.body[..4], 12_u32.to_be_bytes());
            assert_eq!(client.until_ready().await, "RSKZ");
            client.answers().await;
            assert_eq!(fixture.deps.sessions.all()[0].user, "alice");
        },
    );
}

#[test]
fn wrong_password_and_unknown_user_get_the_same_error_and_start_nothing() {
    with_users(
        |_| {},
        |fixture, _users| async move {
            for user in ["instance:a,user:alice", "instance:nosuch,user:mallory"] {
                let mut client = fixture.connect().await;
                let error = client.log_in(user, "wrong").await;
                assert_eq!(sqlstate(&error), "28P01");
                assert!(client.message().await.is_none());
            }
            assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn malformed_sasl_messages_are_refused() {
    let long = message(b'p', &[b'x'; 5000]);
    let stray = message(b'Q', b"select 1\0");
    let shapeless = message(b'p', b"SCRAM-SHA-256");
    with_users(
        |_| {},
        |fixture, _users| async move {
            for bytes in [long, stray, shapeless] {
                let mut client = fixture.connect().await;
                let login = startup(&[("user", "instance:a,user:alice")]);
                client.send(&login).await;
                assert_eq!(client.message().await.unwrap().tag, b'R');
                client.send(&bytes).await;
                assert_eq!(client.refusal().await, "08P01");
                client.until_closed().await;
            }
            assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn client_that_sends_no_password_reaches_the_login_timeout() {
    with_users(
        |limits| limits.login_timeout = Duration::from_millis(100),
        |fixture, _users| async move {
            let mut client = fixture.connect().await;
            let login = startup(&[("user", "instance:a,user:alice")]);
            client.send(&login).await;
            assert_eq!(client.message().await.unwrap().tag, b'R');
            assert_eq!(client.refusal().await, "57014");
        },
    );
}

#[test]
fn role_that_the_user_may_not_use_is_refused() {
    with_users(
        |_| {},
        |fixture, _users| async move {
            let mut client = fixture.connect().await;
            let user = "instance:a,user:alice,role:postgres";
            assert_eq!(client.log_in(user, "right").await.tag, b'R');
            assert_eq!(client.refusal().await, "28000");
            assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn changed_password_takes_effect_at_once() {
    with_users(
        |_| {},
        |fixture, sender| async move {
            sender.send_replace(users("new"));
            let mut client = fixture.connect().await;
            let error = client.log_in("instance:a,user:alice", "right").await;
            assert_eq!(sqlstate(&error), "28P01");
            let mut client = fixture.connect().await;
            let last = client.log_in("instance:a,user:alice", "new").await;
            assert_eq!(last.tag, b'R');
        },
    );
}

#[test]
fn user_with_too_many_failures_is_refused_and_others_at_the_address_are_not() {
    with_users(
        |_| {},
        |fixture, sender| async move {
            for _ in 0..FAILURES_MAX {
                let mut client = fixture.connect().await;
                let error = client.log_in("instance:a,user:alice", "wrong").await;
                assert_eq!(sqlstate(&error), "28P01");
            }
            let mut client = fixture.connect().await;
            let error = client.log_in("instance:a,user:alice", "right").await;
            assert_eq!(sqlstate(&error), "28000");
            let mut all = users("right");
            all.insert("bob".to_owned(), all["alice"].clone());
            sender.send_replace(all);
            let mut client = fixture.connect().await;
            let last = client.log_in("instance:a,user:bob", "right").await;
            assert_eq!(last.tag, b'R', "the right password of another user");
        },
    );
}

#[test]
fn concurrent_attempts_count_as_many_failures_as_sequential_ones() {
    with_users(
        // Many exchanges take a while without optimization.
        |limits| limits.login_timeout = TIMEOUT * 3,
        |fixture, _users| async move {
            let mut begun = Vec::new();
            for _ in 0..2 * FAILURES_MAX {
                let mut client = fixture.connect().await;
                let scram = client.challenged("instance:a,user:alice", "wrong").await;
                begun.push((client, scram.ok().unwrap()));
            }
            let mut tried = 0;
            for (mut client, scram) in begun {
                match sqlstate(&client.prove(scram).await).as_str() {
                    "28P01" => tried += 1,
                    other => assert_eq!(other, "28000"),
                }
            }
            assert_eq!(tried, FAILURES_MAX);
        },
    );
}
