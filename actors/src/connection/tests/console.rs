//! Sessions of the console: both protocols, errors, limits and ends.

use super::*;
use crate::console::ConsoleError;
use crate::sessions::EndReason::{Drained, Killed};

const CONSOLE: &[(&str, &str)] = &[("user", "user:bob"), ("database", "multidb")];

impl Fixture {
    async fn console(&self) -> Client {
        let mut client = self.connect().await;
        client.send(&startup(CONSOLE)).await;
        let tags = client.until_ready().await;
        assert!(tags.starts_with("RS") && tags.ends_with("SKZ"), "{tags}");
        client
    }
}

/// A message of texts, each with its terminator, and other bytes behind them.
fn texts(tag: u8, texts: &[&str], rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in texts {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.extend(rest);
    message(tag, &body)
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    texts(b'P', &[name, text], &[0, 0])
}

/// Binds the unnamed portal, with parameters in text, and columns in this form.
fn bind(statement: &str, parameters: &[&str], format: u8) -> Vec<u8> {
    let mut rest = vec![0, 0];
    rest.extend(u16::try_from(parameters.len()).unwrap().to_be_bytes());
    for parameter in parameters {
        rest.extend(u32::try_from(parameter.len()).unwrap().to_be_bytes());
        rest.extend(parameter.as_bytes());
    }
    rest.extend([0, 1, 0, format]);
    texts(b'B', &["", statement], &rest)
}

fn execute(rows_max: u32) -> Vec<u8> {
    texts(b'E', &[""], &rows_max.to_be_bytes())
}

fn describe_portal() -> Vec<u8> {
    message(b'D', b"P\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

impl Client {
    /// Reads up to ReadyForQuery: the tags of all messages, with the SQLSTATE of each error.
    async fn answer(&mut self) -> String {
        let mut tags = String::new();
        loop {
            let frame = self.message().await;
            let frame = frame.unwrap_or_else(|| panic!("closed after {tags}"));
            tags.push(char::from(frame.tag));
            if frame.tag == b'E' {
                tags.push_str(&format!("({})", sqlstate(&frame)));
            }
            if frame.tag == b'Z' {
                tags.push(char::from(frame.body[0]));
                return tags;
            }
        }
    }
}

#[test]
fn both_protocols_answer() {
    run_test(
        |_| {},
        |fixture| async move {
            *fixture.console.rows.lock().unwrap() = 2;
            let mut client = fixture.console().await;
            for (query, expected) in [
                ("", "IZI"),
                (" -- nothing", "IZI"),
                ("show instances", "TDDCZI"),
                ("SHOW JOBS; SHOW HELP", "TDDCTDDDDDDDDDDDDDDDCZI"),
                ("START INSTANCE a", "NCZI"),
                ("SELECT current_schema(), session_user", "TDCZI"),
                ("BEGIN", "CZT"),
                ("DROP INSTANCE a", "NCZT"),
                ("nonsense", "E(42601)ZT"),
                ("ROLLBACK", "NCZI"),
                ("SHOW JOBS; nonsense", "E(42601)ZI"),
                ("SHOW INSTANCE $1", "E(42P02)ZI"),
                ("SET application_name = 'x'", "SCZI"),
            ] {
                client.query(query).await;
                assert_eq!(client.answer().await, expected, "{query}");
            }
            for (messages, expected) in [
                (
                    vec![parse("s", "SHOW INSTANCE $1"), message(b'D', b"Ss\0")],
                    "1tTZI",
                ),
                (
                    vec![bind("s", &["a"], 1), describe_portal(), execute(0)],
                    "2TDDCZI",
                ),
                (
                    vec![bind("s", &["a"], 0), execute(1), execute(1), execute(1)],
                    "2DsDCCZI",
                ),
                (vec![bind("s", &["a b"], 0), execute(0)], "E(22023)ZI"),
                (vec![bind("s", &[], 0), execute(0)], "E(08P01)ZI"),
                (vec![bind("t", &[], 0), execute(0)], "E(26000)ZI"),
                (vec![execute(0), parse("u", "SHOW JOBS")], "E(34000)ZI"),
                (vec![parse("s", "SHOW JOBS")], "E(42P05)ZI"),
                (vec![parse("", "SHOW JOBS; SHOW JOBS")], "E(42601)ZI"),
                (
                    vec![
                        parse("", ""),
                        bind("", &[], 0),
                        describe_portal(),
                        execute(0),
                    ],
                    "12nIZI",
                ),
                (
                    vec![parse("", "STOP INSTANCE a"), bind("", &[], 0), execute(0)],
                    "12NCZI",
                ),
                (
                    vec![message(b'C', b"Ss\0"), bind("s", &["a"], 0)],
                    "3E(26000)ZI",
                ),
                (vec![message(b'd', b"copied")], "ZI"),
            ] {
                client.send(&messages.concat()).await;
                client.send(&sync()).await;
                assert_eq!(client.answer().await, expected);
            }
            let begun = fixture.console.begun.lock().unwrap();
            assert!(begun.iter().all(|(user, _)| user == "bob"), "{begun:?}");
        },
    );
}

#[test]
fn rows_are_in_the_form_that_is_asked_for() {
    run_test(
        |_| {},
        |fixture| async move {
            *fixture.console.rows.lock().unwrap() = 1;
            let mut client = fixture.console().await;
            for (format, created_at) in [(0, &b"2026-02-02 02:40:00.123456+00"[..]), (1, &[])] {
                let messages = [parse("", "SHOW JOBS"), bind("", &[], format), execute(0)];
                client.send(&messages.concat()).await;
                client.send(&sync()).await;
                let row = loop {
                    let frame = client.message().await.unwrap();
                    if frame.tag == b'D' {
                        break frame.body;
                    }
                };
                assert_eq!(client.answer().await, "CZI");
                let has = |bytes: &[u8]| row.windows(bytes.len().max(1)).any(|w| w == bytes);
                assert!(has(b"row0") && has(b"[1]"), "{row:?}");
                if format == 0 {
                    assert!(has(created_at), "{row:?}");
                } else {
                    assert!(has(&(-5_i64).to_be_bytes()), "{row:?}");
                    let since_2000 = 1_770_000_000_123_456_i64 - 946_684_800_000_000;
                    assert!(has(&since_2000.to_be_bytes()), "{row:?}");
                }
            }
        },
    );
}

#[test]
fn messages_after_an_error_are_skipped_up_to_sync() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.console().await;
            let messages = [
                parse("", "nonsense"),
                bind("", &[], 0),
                execute(0),
                texts(b'Q', &["SHOW JOBS"], b""),
                sync(),
                texts(b'Q', &["SHOW JOBS"], b""),
            ];
            client.send(&messages.concat()).await;
            assert_eq!(client.answer().await, "E(42601)ZI");
            assert_eq!(client.answer().await, "TCZI");
            client.send(&message(b'F', b"")).await;
            assert_eq!(client.answer().await, "E(0A000)ZI");
            // An error is sent at once: a client may wait for it before its Sync.
            client.send(&parse("", "nonsense")).await;
            let error = client.message().await.expect("the session goes on");
            assert_eq!(sqlstate(&error), "42601");
            client.send(&sync()).await;
            assert_eq!(client.answer().await, "ZI");
        },
    );
}

#[test]
fn malformed_and_oversized_messages_end_the_session() {
    run_test(
        |_| {},
        |fixture| async move {
            let oversized = [&b"Q"[..], &(70_000_u32).to_be_bytes()].concat();
            let open = texts(b'P', &["", "SHOW JOBS"], &[0xFF, 0xFF]);
            for bytes in [oversized, open, message(b'p', b""), message(b'E', b"a")] {
                let mut client = fixture.console().await;
                client.send(&bytes).await;
                assert_eq!(client.refusal().await, "08P01");
            }
            eventually(|| fixture.deps.sessions.all().is_empty()).await;
        },
    );
}

#[test]
fn cancel_request_ends_the_wait_and_a_change_goes_on() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.console().await;
            let session = fixture.deps.sessions.all().remove(0);
            let (process_id, key) = session.cancel_key.clone();
            assert!(session.instance().is_none() && process_id >= 0);
            let cancel = request(5678, &[&process_id.to_be_bytes()[..], &key].concat());
            for (query, goes_on) in [("SHOW JOBS", false), ("RESET INSTANCE a", true)] {
                let before = *fixture.console.answered.lock().unwrap();
                let begun = fixture.console.begun.lock().unwrap().len();
                let closed = fixture.console.answer_gate.write().await;
                client.query(query).await;
                eventually(|| fixture.console.begun.lock().unwrap().len() > begun).await;
                let mut canceller = fixture.connect().await;
                canceller.send(&cancel).await;
                assert_eq!(canceller.read_to_end().await, b"");
                assert_eq!(client.answer().await, "E(57014)ZI", "{query}");
                drop(closed);
                if goes_on {
                    eventually(|| *fixture.console.answered.lock().unwrap() == before + 1).await;
                }
                client.query("SHOW STATUS").await;
                assert_eq!(client.answer().await, "TCZI");
                let answered = *fixture.console.answered.lock().unwrap();
                assert_eq!(answered, before + 1 + usize::from(goes_on), "{query}");
            }
        },
    );
}

#[test]
fn change_is_completed_for_a_client_that_has_left_or_is_killed() {
    run_test(
        |_| {},
        |fixture| async move {
            for kill in [false, true] {
                let before = *fixture.console.answered.lock().unwrap();
                let begun = fixture.console.begun.lock().unwrap().len();
                let closed = fixture.console.answer_gate.write().await;
                let mut client = fixture.console().await;
                client.query("RESET INSTANCE a").await;
                eventually(|| fixture.console.begun.lock().unwrap().len() > begun).await;
                if kill {
                    client.actor.send(EndConnection(Killed)).await.unwrap();
                    assert_eq!(client.refusal().await, "57P01");
                }
                drop(client);
                drop(closed);
                eventually(|| *fixture.console.answered.lock().unwrap() == before + 1).await;
                eventually(|| fixture.deps.sessions.all().is_empty()).await;
            }
        },
    );
}

#[test]
fn idle_session_and_transaction_end_by_their_limits() {
    let limit = |limits: &mut Limits| {
        limits.idle.session = Duration::from_millis(50);
        limits.idle.transaction = Duration::from_millis(100);
    };
    run_test(limit, |fixture| async move {
        let mut client = fixture.console().await;
        assert_eq!(client.refusal().await, "57P05");
        let mut client = fixture.console().await;
        client.query("BEGIN").await;
        assert_eq!(client.answer().await, "CZT");
        assert_eq!(client.refusal().await, "25P03");
    });
}

#[test]
fn drained_session_ends_after_its_statement() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut idle = fixture.console().await;
            idle.actor.send(EndConnection(Drained)).await.unwrap();
            assert_eq!(idle.refusal().await, "57P01");
            let closed = fixture.console.answer_gate.write().await;
            let mut client = fixture.console().await;
            client.query("SHOW JOBS").await;
            eventually(|| fixture.console.begun.lock().unwrap().len() == 1).await;
            client.actor.send(EndConnection(Drained)).await.unwrap();
            drop(closed);
            assert_eq!(client.answer().await, "TCZI");
            assert_eq!(client.refusal().await, "57P01");
        },
    );
}

#[test]
fn sessions_count_and_are_limited_like_all_others() {
    let limit = |limits: &mut Limits| limits.max_connections = 1;
    run_test(limit, |fixture| async move {
        let client = fixture.console().await;
        let mut second = fixture.connect().await;
        second.send(&startup(CONSOLE)).await;
        assert_eq!(second.refusal().await, "53300");
        drop(client);
        eventually(|| fixture.deps.sessions.all().is_empty()).await;
        fixture.console().await;
    });
}

#[test]
fn database_of_an_instance_may_have_the_name_of_the_console() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.connect().await;
            let user = [("user", "instance:a"), ("database", "multidb")];
            client.send(&startup(&user)).await;
            client.until_ready().await;
            let [session] = &fixture.deps.sessions.all()[..] else {
                panic!("one session");
            };
            assert!(session.instance().is_some());
            assert_eq!(session.database, "multidb");
            for (user, options) in [
                ("staff", ""),
                ("gitref:main", ""),
                ("user:bob,role:app", ""),
                ("user", ""),
                ("user:bob", "-c multidb.snapshot=latest"),
            ] {
                let mut client = fixture.connect().await;
                let user = [
                    ("user", user),
                    ("database", "multidb"),
                    ("options", options),
                ];
                client.send(&startup(&user)).await;
                assert_eq!(client.refusal().await, "22023", "{user:?}");
            }
            let mut client = fixture.connect().await;
            let by_options = [
                ("user", "app"),
                ("database", "multidb"),
                ("options", "-c multidb.user=bob"),
            ];
            client.send(&startup(&by_options)).await;
            client.until_ready().await;
            assert_eq!(fixture.deps.sessions.all()[1].user, "bob");
        },
    );
}

#[test]
fn error_of_the_service_is_told_and_the_session_goes_on() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.console().await;
            for (error, expected) in [
                (
                    ConsoleError::NoSuchInstance {
                        instance: "a".parse().unwrap(),
                    },
                    "E(3D000)ZI",
                ),
                (ConsoleError::Internal, "E(XX000)ZI"),
            ] {
                *fixture.console.failure.lock().unwrap() = Some(error);
                client.query("SHOW JOBS; SHOW STATUS").await;
                assert_eq!(client.answer().await, expected);
            }
        },
    );
}
