//! From the startup packet to the first ReadyForQuery.

use super::*;
use crate::testing::{Login, Starts, error};

#[test]
fn notice_of_a_new_instance_comes_between_authentication_and_the_backend() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.connect().await;
            let user = "instance:new,gitref:main,role:alice";
            let login = startup(&[
                ("user", user),
                ("database", user),
                ("application_name", "psql"),
                ("options", "-c multidb.user=bob -c geqo=off"),
            ]);
            client.send(&login).await;
            assert_eq!(client.message().await.unwrap().body[..], [0; 4]);
            let notice = client.message().await.unwrap();
            let words = String::from_utf8_lossy(&notice.body).into_owned();
            assert_eq!(notice.tag, b'N');
            assert!(words.contains("created instance \"new\" from snapshot \"s2\""));
            assert_eq!(client.until_ready().await, "SKZ");
            client.answers().await;

            let [startup] = &fixture.postgres.startups()[..] else {
                panic!("one login");
            };
            for (name, value) in [
                ("user", "alice"),
                ("database", "app"),
                ("application_name", "psql"),
                ("options", "-c geqo=off"),
            ] {
                assert_eq!(startup.get_str(name), Some(value), "{name}");
            }
            let [session] = &fixture.deps.sessions.all()[..] else {
                panic!("one session");
            };
            assert_eq!(session.user, "bob");
            assert_eq!(
                (&*session.instance().unwrap().role, &*session.database),
                ("alice", "app")
            );
        },
    );
}

#[test]
fn client_whose_source_now_selects_another_snapshot_gets_a_notice() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.connect().await;
            client
                .send(&startup(&[("user", "instance:a,gitref:main")]))
                .await;
            assert_eq!(client.until_ready().await, "RNSKZ");
            let mut client = fixture.connect().await;
            client
                .send(&startup(&[("user", "instance:a,gitref:old")]))
                .await;
            assert_eq!(client.until_ready().await, "RSKZ");
        },
    );
}

#[test]
fn unknown_version_or_extension_is_negotiated_before_authentication() {
    run_test(
        |_| {},
        |fixture| async move {
            for (minor, name) in [(9, "user"), (0, "_pq_.x\0on\0user")] {
                let mut client = fixture.connect().await;
                let body = [&[0, 3, 0, minor], name.as_bytes(), b"\0instance:a\0\0"];
                client.send(&packet(&body.concat())).await;
                assert_eq!(client.until_ready().await, "vRSKZ");
            }
            let startups = fixture.postgres.startups();
            assert_eq!((startups[0].version.minor, startups.len()), (2, 2));
            assert_eq!(startups[1].get("_pq_.x"), None);
        },
    );
}

#[test]
fn invalid_user_names_are_refused_and_create_nothing() {
    run_test(
        |_| {},
        |fixture| async move {
            for (user, expected) in [
                ("", "22023"),
                ("alice", "22023"),
                ("instance", "22023"),
                ("instance:../x", "22023"),
                ("instance:a,instance:b", "22023"),
                ("instance:nope", "3D000"),
                ("instance:n,gitref:nope", "22023"),
                ("instance:n,gitref:empty", "55000"),
                ("instance:n,snapshot:nope", "3D000"),
                ("instance:n,snapshot:latest,project:nope", "3D000"),
            ] {
                let mut client = fixture.connect().await;
                client.send(&startup(&[("user", user)])).await;
                assert_eq!(client.refusal().await, expected, "{user}");
                client.until_closed().await;
            }
            assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());
            assert!(fixture.actors.cloner.made.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn error_of_the_backend_during_the_login_is_forwarded_unchanged() {
    run_test(
        |_| {},
        |fixture| async move {
            let text = "role \"x\" does not exist";
            fixture.postgres.plan([Login::Refuse("28000", text)]);
            let mut client = fixture.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.read_to_end().await, error("28000", text));
            client.until_closed().await;
        },
    );
}

#[test]
fn login_is_retried_while_the_backend_starts_up_or_disconnects() {
    run_test(
        |_| {},
        |fixture| async move {
            let starting = Login::Refuse("57P03", "the database system is starting up");
            fixture.postgres.plan([
                starting.clone(),
                starting,
                Login::HangUp,
                Login::AskPassword,
            ]);
            let mut client = fixture.session("instance:a").await;
            client.answers().await;
            assert_eq!(fixture.postgres.startups().len(), 5);
        },
    );
}

#[test]
fn login_at_a_backend_that_never_answers_times_out() {
    run_test(
        |limits| limits.start_timeout = Duration::from_millis(50),
        |fixture| async move {
            fixture.postgres.plan([Login::Hang]);
            let mut client = fixture.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.refusal().await, "57P03");
            let starting = Login::Refuse("57P03", "the database system is starting up");
            fixture.postgres.plan(vec![starting; 1000]);
            let mut client = fixture.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.refusal().await, "57P03");
        },
    );
}

#[test]
fn failed_start_of_the_instance_is_reported() {
    run_test(
        |limits| limits.start_timeout = Duration::from_millis(50),
        |fixture| async move {
            for (starts, expected) in [(Starts::Fail, "58000"), (Starts::Hang, "57P03")] {
                *fixture.actors.runtime.starts.lock().unwrap() = starts;
                let mut client = fixture.connect().await;
                client.send(&startup(&[("user", "instance:a")])).await;
                assert_eq!(client.refusal().await, expected);
                client.until_closed().await;
            }
        },
    );
}

#[test]
fn disconnect_during_the_start_of_an_instance_does_not_affect_others() {
    run_test(
        |_| {},
        |fixture| async move {
            *fixture.actors.runtime.starts.lock().unwrap() = Starts::Hang;
            let mut client = fixture.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            eventually(|| fixture.actors.runtime.started.lock().unwrap().len() == 1).await;
            let Client { socket, ended, .. } = client;
            drop(socket);
            let ended = tokio::time::timeout(TIMEOUT, ended).await;
            assert!(ended.expect("its actor ends").is_err());
            *fixture.actors.runtime.starts.lock().unwrap() = Starts::Succeed;
            let mut other = fixture.session("instance:b").await;
            other.answers().await;
            assert_eq!(fixture.deps.sessions.all().len(), 1);
        },
    );
}

#[test]
fn query_sent_along_with_the_login_is_answered_after_it() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.connect().await;
            let login = startup(&[("user", "instance:a")]);
            let query = message(b'Q', b"first\0");
            client.send(&[login, query].concat()).await;
            assert_eq!(client.until_ready().await, "RSKZ");
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(fixture.postgres.queries(), ["first"]);

            // Also during the start of the instance, and with a long query.
            let mut client = fixture.connect().await;
            let login = startup(&[("user", "instance:new,snapshot:latest")]);
            client.send(&login).await;
            let long = "x".repeat(200_000);
            client.query(&long).await;
            assert_eq!(client.until_ready().await, "RNSKZ");
            assert_eq!(client.until_ready().await, "CZ");
            assert!(fixture.postgres.queries()[1] == long);
        },
    );
}

#[test]
fn forged_login_is_an_error_for_its_own_client_only() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut other = fixture.session("instance:a").await;
            let forged = [
                &b"R\0\0\0\x08\0\0\0\0"[..],
                b"S\0\0\0\x08a\0b\0",
                b"N\0\0\0\x05\0",
                b"K\x7f\xff\xff\xff",
                b"HTTP/1.1 200 OK\r\n",
            ];
            let logins = forged.into_iter().cycle().map(Login::Flood);
            fixture.postgres.plan(logins.take(5000));
            let mut client = fixture.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.refusal().await, "08006");
            other.answers().await;
        },
    );
}
