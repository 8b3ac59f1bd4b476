//! Against the client of postgres-protocol, the vector of RFC 7677, and damaged messages.

use std::sync::Arc;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::password::scram_sha_256;
use proptest::prelude::*;

use super::*;
use crate::auth::User;

const END_POINT: &[u8] = &[42; 32];

fn verifier(password: &str) -> Verifier {
    scram_sha_256(password.as_bytes()).parse().unwrap()
}

fn exchange(verifier: Option<&Verifier>, end_point: Option<&[u8]>) -> Exchange {
    let mock = || Account::Mock(MockSecret([1; KEY_BYTES]).verifier("alice", &Users::new()));
    let account = verifier.cloned().map_or_else(mock, Account::User);
    Exchange::new(account, end_point.map(<[u8]>::to_vec))
}

/// Logs in with the client of postgres-protocol.
fn log_in(
    exchange: Exchange,
    mechanism: &str,
    password: &str,
    binding: ChannelBinding,
) -> Result<(), ScramError> {
    let mut client = ScramSha256::new(password.as_bytes(), binding);
    let challenged = exchange.begin(mechanism, client.message())?;
    client.update(challenged.challenge().as_bytes()).unwrap();
    let last = challenged.finish(client.message())?;
    client.finish(last.as_bytes()).unwrap();
    Ok(())
}

fn bound() -> ChannelBinding {
    ChannelBinding::tls_server_end_point(END_POINT.to_vec())
}

#[test]
fn right_password_is_proved_to_both_sides() {
    let alice = verifier("pässword");
    let plain = ChannelBinding::unsupported();
    log_in(exchange(Some(&alice), None), MECHANISM, "pässword", plain).unwrap();
    let secured = exchange(Some(&alice), Some(END_POINT));
    assert_eq!(secured.mechanisms(), [MECHANISM_PLUS, MECHANISM]);
    log_in(secured, MECHANISM_PLUS, "pässword", bound()).unwrap();
    // A client that does not support binding may log in without it, under TLS too.
    let secured = exchange(Some(&alice), Some(END_POINT));
    log_in(
        secured,
        MECHANISM,
        "pässword",
        ChannelBinding::unsupported(),
    )
    .unwrap();
}

#[test]
fn wrong_password_and_unknown_user_fail_alike() {
    let alice = verifier("right");
    for known in [Some(&alice), None] {
        let plain = ChannelBinding::unsupported();
        let failed = log_in(exchange(known, None), MECHANISM, "wrong", plain);
        assert_eq!(failed, Err(ScramError::Denied));
    }
}

#[test]
fn unknown_user_is_challenged_as_a_user() {
    let user = |text: &str| {
        let user = User {
            verifier: text.parse().unwrap(),
            roles: Vec::new(),
            projects: None,
            max_instances: None,
            creations_per_minute: None,
            tokens: Vec::new(),
            admin: false,
        };
        Arc::new(user)
    };
    // As another server stored it, with more iterations and a longer salt.
    let key = STANDARD.encode([1; KEY_BYTES]);
    let salt = STANDARD.encode([2; 24]);
    let alice = user(&format!("SCRAM-SHA-256$15000:{salt}${key}:{key}"));
    let users = Users::from([("alice".to_owned(), alice)]);
    let secret = MockSecret::random();
    let restarted = MockSecret::from_bytes(*secret.as_bytes());
    let asked = |secret: &MockSecret, name| {
        let exchange = Exchange::new(Account::Mock(secret.verifier(name, &users)), None);
        let challenged = exchange.begin(MECHANISM, b"n,,n=,r=x").unwrap();
        challenged
            .challenge()
            .split_once(",s=")
            .unwrap()
            .1
            .to_owned()
    };
    // The same name always has the same salt, another name another one.
    assert_eq!(asked(&secret, "bob"), asked(&restarted, "bob"));
    assert_ne!(asked(&secret, "bob"), asked(&secret, "carol"));
    let (salt, iterations) = (asked(&secret, "bob"), ",i=15000");
    let salt = salt.strip_suffix(iterations).unwrap();
    assert_eq!(STANDARD.decode(salt).unwrap().len(), 24);
}

#[test]
fn unescaped_commas_in_the_user_name_are_accepted() {
    let alice = verifier("right");
    let first = b"n,,n=instance=a,role=app,user=alice,r=nonce";
    let challenged = exchange(Some(&alice), None).begin(MECHANISM, first);
    assert!(challenged.unwrap().challenge().starts_with("r=nonce"));
}

#[test]
fn attacker_in_the_middle_is_noticed() {
    let alice = verifier("right");
    // The client saw another certificate.
    let other = ChannelBinding::tls_server_end_point(vec![43; 32]);
    let failed = log_in(
        exchange(Some(&alice), Some(END_POINT)),
        MECHANISM_PLUS,
        "right",
        other,
    );
    assert_eq!(failed, Err(ScramError::Downgraded));
    // The client supports binding, but did not get the offer.
    let unrequested = ChannelBinding::unrequested();
    let secured = exchange(Some(&alice), Some(END_POINT));
    let failed = log_in(secured, MECHANISM, "right", unrequested);
    assert_eq!(failed, Err(ScramError::Downgraded));
    let plain = exchange(Some(&alice), None);
    log_in(plain, MECHANISM, "right", ChannelBinding::unrequested()).unwrap();
}

#[test]
fn exchange_of_rfc_7677_succeeds() {
    let bytes = |text| STANDARD.decode(text).unwrap();
    let salt = bytes("W22ZaJ0SNY7soEsUEjb6gQ==");
    let alice = derived(b"pencil", salt, 4096);
    let mut exchange = exchange(Some(&alice), None);
    exchange.nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
    let challenged = exchange.begin(MECHANISM, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let challenged = challenged.unwrap();
    assert_eq!(
        challenged.challenge(),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = challenged.finish(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    assert_eq!(
        last.unwrap(),
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

/// A password's verifier by RFC 5802, section 3.
fn derived(password: &[u8], salt: Vec<u8>, iterations: u32) -> Verifier {
    let salted = pbkdf2(password, &salt, iterations);
    Verifier {
        iterations,
        salt,
        stored_key: Sha256::digest(hmac(&salted, &[b"Client Key"])).into(),
        server_key: hmac(&salted, &[b"Server Key"]),
    }
}

/// PBKDF2 of one block (RFC 8018).
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; KEY_BYTES] {
    let mac = |parts: &[&[u8]]| -> [u8; KEY_BYTES] {
        let mut mac = Hmac::<Sha256>::new_from_slice(password).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut block = mac(&[salt, &[0, 0, 0, 1]]);
    let mut sum = block;
    for _ in 1..iterations {
        block = mac(&[&block]);
        sum.iter_mut()
            .zip(block)
            .for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

#[test]
fn malformed_first_message_is_refused() {
    let alice = verifier("right");
    for first in [
        &b""[..],
        b"n",
        b"n,",
        b"n,,",
        b"n,,r=x",
        b"n,,n=",
        b"n,,n=,r=",
        b"n,,n=,r=a b",
        b"n,a=bob,n=,r=x",
        b"x,,n=,r=x",
        b"p=tls-unique,,n=,r=x",
        b"p=tls-server-end-point,,n=,r=x",
        b"n,,m=future,n=,r=x",
        b"n,,n=\xff,r=x",
    ] {
        let begun = exchange(Some(&alice), Some(END_POINT)).begin(MECHANISM, first);
        assert!(matches!(begun, Err(ScramError::Malformed(_))), "{first:?}");
    }
    let unknown = exchange(Some(&alice), None).begin(MECHANISM_PLUS, b"n,,n=,r=x");
    assert!(matches!(unknown, Err(ScramError::Malformed(_))));
}

/// The undamaged exchange of the next test succeeds.
#[test]
fn verifier_of_one_iteration_is_accepted() {
    let alice = derived(b"right", vec![1; 8], 1);
    let plain = ChannelBinding::unsupported();
    log_in(exchange(Some(&alice), None), MECHANISM, "right", plain).unwrap();
}

proptest! {
    /// Cut or changed anywhere, a client's messages never log it in, and never cause a panic.
    #[test]
    fn damaged_exchange_fails(which in 0..2usize, at: prop::sample::Index, flip in 1..=255u8, cut: bool) {
        let alice = derived(b"right", vec![1; 8], 1);
        let damage = |message: &[u8]| {
            let mut message = message.to_vec();
            let at = at.index(message.len());
            if cut { message.truncate(at) } else { message[at] ^= flip }
            message
        };
        let mut client = ScramSha256::new(b"right", ChannelBinding::unsupported());
        let first = if which == 0 { damage(client.message()) } else { client.message().to_vec() };
        let Ok(challenged) = exchange(Some(&alice), None).begin(MECHANISM, &first) else {
            return Ok(());
        };
        // The client itself notices a changed nonce.
        if client.update(challenged.challenge().as_bytes()).is_err() {
            return Ok(());
        }
        let last = if which == 1 { damage(client.message()) } else { client.message().to_vec() };
        prop_assert!(challenged.finish(&last).is_err());
    }
}
