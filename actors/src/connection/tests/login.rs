//! From the startup packet to the first ReadyForQuery.

use super::*;
use crate::testing::{Login, Starts, error};

#[test]
fn a_new_instance_is_announced_between_authentication_and_the_backend() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.connect().await;
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

            let [startup] = &bench.postgres.startups()[..] else {
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
            let [session] = &bench.deps.sessions.all()[..] else {
                panic!("one session");
            };
            assert_eq!(session.user, "bob");
            assert_eq!((&*session.role, &*session.database), ("alice", "app"));
        },
    );
}

#[test]
fn a_client_whose_source_would_choose_anew_is_told_and_served() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.connect().await;
            client
                .send(&startup(&[("user", "instance:a,gitref:main")]))
                .await;
            assert_eq!(client.until_ready().await, "RNSKZ");
            let mut client = bench.connect().await;
            client
                .send(&startup(&[("user", "instance:a,gitref:old")]))
                .await;
            assert_eq!(client.until_ready().await, "RSKZ");
        },
    );
}

#[test]
fn an_unknown_version_or_extension_is_negotiated_before_authentication() {
    bench(
        |_| {},
        |bench| async move {
            for (minor, name) in [(9, "user"), (0, "_pq_.x\0on\0user")] {
                let mut client = bench.connect().await;
                let body = [&[0, 3, 0, minor], name.as_bytes(), b"\0instance:a\0\0"];
                client.send(&packet(&body.concat())).await;
                assert_eq!(client.until_ready().await, "vRSKZ");
            }
            let startups = bench.postgres.startups();
            assert_eq!((startups[0].version.minor, startups.len()), (2, 2));
            assert_eq!(startups[1].get("_pq_.x"), None);
        },
    );
}

#[test]
fn user_names_that_ask_for_nothing_are_refused_and_create_nothing() {
    bench(
        |_| {},
        |bench| async move {
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
                let mut client = bench.connect().await;
                client.send(&startup(&[("user", user)])).await;
                assert_eq!(client.refusal().await, expected, "{user}");
                client.over().await;
            }
            assert!(bench.world.runtime.started.lock().unwrap().is_empty());
            assert!(bench.world.cloner.made.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn what_the_backend_says_against_a_login_arrives_as_it_is() {
    bench(
        |_| {},
        |bench| async move {
            let text = "role \"x\" does not exist";
            bench.postgres.plan([Login::Refuse("28000", text)]);
            let mut client = bench.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.rest().await, error("28000", text));
            client.over().await;
        },
    );
}

#[test]
fn a_backend_that_starts_up_or_breaks_off_is_asked_again() {
    bench(
        |_| {},
        |bench| async move {
            let starting = Login::Refuse("57P03", "the database system is starting up");
            bench.postgres.plan([
                starting.clone(),
                starting,
                Login::HangUp,
                Login::AskPassword,
            ]);
            let mut client = bench.session("instance:a").await;
            client.answers().await;
            assert_eq!(bench.postgres.startups().len(), 5);
        },
    );
}

#[test]
fn a_backend_that_never_lets_in_is_given_up() {
    bench(
        |limits| limits.start_timeout = Duration::from_millis(50),
        |bench| async move {
            bench.postgres.plan([Login::Hang]);
            let mut client = bench.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.refusal().await, "57P03");
            let starting = Login::Refuse("57P03", "the database system is starting up");
            bench.postgres.plan(vec![starting; 1000]);
            let mut client = bench.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.refusal().await, "57P03");
        },
    );
}

#[test]
fn an_instance_that_does_not_start_is_explained() {
    bench(
        |limits| limits.start_timeout = Duration::from_millis(50),
        |bench| async move {
            for (starts, expected) in [(Starts::Fail, "58000"), (Starts::Hang, "57P03")] {
                *bench.world.runtime.starts.lock().unwrap() = starts;
                let mut client = bench.connect().await;
                client.send(&startup(&[("user", "instance:a")])).await;
                assert_eq!(client.refusal().await, expected);
                client.over().await;
            }
        },
    );
}

#[test]
fn a_client_that_leaves_while_its_instance_starts_costs_the_others_nothing() {
    bench(
        |_| {},
        |bench| async move {
            *bench.world.runtime.starts.lock().unwrap() = Starts::Hang;
            let mut client = bench.connect().await;
            client.send(&startup(&[("user", "instance:a")])).await;
            eventually(|| bench.world.runtime.started.lock().unwrap().len() == 1).await;
            let Client { socket, ended, .. } = client;
            drop(socket);
            let ended = tokio::time::timeout(PATIENCE, ended).await;
            assert!(ended.expect("its actor ends").is_err());
            *bench.world.runtime.starts.lock().unwrap() = Starts::Succeed;
            let mut other = bench.session("instance:b").await;
            other.answers().await;
            assert_eq!(bench.deps.sessions.all().len(), 1);
        },
    );
}

#[test]
fn a_query_that_comes_with_the_login_is_answered_after_it() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.connect().await;
            let login = startup(&[("user", "instance:a")]);
            let query = message(b'Q', b"first\0");
            client.send(&[login, query].concat()).await;
            assert_eq!(client.until_ready().await, "RSKZ");
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(bench.postgres.queries(), ["first"]);

            // It may also come while the instance starts, and be long.
            let mut client = bench.connect().await;
            let login = startup(&[("user", "instance:new,snapshot:latest")]);
            client.send(&login).await;
            let long = "x".repeat(200_000);
            client.query(&long).await;
            assert_eq!(client.until_ready().await, "RNSKZ");
            assert_eq!(client.until_ready().await, "CZ");
            assert!(bench.postgres.queries()[1] == long);
        },
    );
}
