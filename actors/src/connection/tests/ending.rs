//! Sessions that end: by their client, their backend, an administrator, or with the daemon.

use super::*;
use crate::ports::BackendActivity;

#[test]
fn a_client_that_leaves_ends_its_backend() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.session("instance:a").await;
            client.send(&message(b'X', &[])).await;
            assert!(client.message().await.is_none());
            client.over().await;
            assert_eq!(bench.postgres.terminates(), 1);

            let Client { socket, ended, .. } = bench.session("instance:a").await;
            drop(socket);
            let ended = tokio::time::timeout(PATIENCE, ended).await;
            assert!(ended.expect("its actor ends").is_err());
            eventually(|| bench.postgres.backends() == 0).await;
        },
    );
}

#[test]
fn a_killed_session_ends_by_the_word_of_its_backend() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.session("instance:a").await;
            client.query("sleep").await;
            eventually(|| bench.postgres.queries() == ["sleep"]).await;
            *bench.probe.activity.lock().unwrap() = Some(BackendActivity::Active);
            let killed = client.actor.send(EndConnection(EndReason::Killed));
            killed.await.unwrap();
            eventually(|| *bench.probe.terminated.lock().unwrap() == [1000]).await;
            bench.postgres.terminate(1000);
            assert_eq!(client.refusal().await, "57P01");
            client.over().await;
            assert!(bench.deps.sessions.all().is_empty());
        },
    );
}

#[test]
fn a_killed_session_that_waits_for_its_client_ends_by_a_word_of_ours() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.session("instance:a").await;
            *bench.probe.activity.lock().unwrap() = Some(BackendActivity::Idle);
            let killed = client.actor.send(EndConnection(EndReason::Killed));
            killed.await.unwrap();
            assert_eq!(client.refusal().await, "57P01");
            client.over().await;
            assert_eq!(bench.postgres.terminates(), 1);
            assert!(bench.probe.terminated.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn a_killed_session_whose_backend_cannot_be_told_is_cut() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.session("instance:a").await;
            *bench.probe.unreachable.lock().unwrap() = true;
            let killed = client.actor.send(EndConnection(EndReason::Killed));
            killed.await.unwrap();
            assert!(client.message().await.is_none());
            client.over().await;
            eventually(|| bench.postgres.backends() == 0).await;
        },
    );
}

#[test]
fn a_drained_session_ends_once_it_is_idle_and_not_before() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.session("instance:a").await;
            client.query("begin").await;
            assert_eq!(client.until_ready().await, "CZ");
            let drained = client.actor.send(EndConnection(EndReason::Drained));
            drained.await.unwrap();
            client.answers().await;
            assert!(bench.probe.asked.lock().unwrap().is_empty());

            let mut quiet = bench.session("instance:a").await;
            *bench.probe.activity.lock().unwrap() = Some(BackendActivity::Active);
            let drained = quiet.actor.send(EndConnection(EndReason::Drained));
            drained.await.unwrap();
            bench.asked(2).await;
            quiet.answers().await;
            *bench.probe.activity.lock().unwrap() = Some(BackendActivity::Idle);
            assert_eq!(quiet.refusal().await, "57P01");
            quiet.over().await;
            client.answers().await;
        },
    );
}

#[test]
fn the_sessions_of_a_postgres_that_dies_end_and_the_next_one_is_served() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.session("instance:a").await;
            let uid = bench.deps.sessions.all()[0].endpoint.clone();
            assert_eq!(uid, bench.postgres.endpoint);
            bench.postgres.terminate(1000);
            let running = bench.world.runtime.running_now();
            running
                .iter()
                .for_each(|uid| bench.world.runtime.crash(*uid));
            assert_eq!(client.refusal().await, "57P01");
            client.over().await;
            bench.session("instance:a").await.answers().await;
        },
    );
}

#[test]
fn a_killed_session_whose_client_does_not_read_ends_too() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.session("instance:a").await;
            client.query("flood").await;
            let [session] = &bench.deps.sessions.all()[..] else {
                panic!("one session");
            };
            let mut passed = 0;
            while session.stats.from_backend_bytes() != passed || passed < 100_000 {
                passed = session.stats.from_backend_bytes();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let killed = client.actor.send(EndConnection(EndReason::Killed));
            killed.await.unwrap();
            eventually(|| bench.probe.terminated.lock().unwrap().len() == 1).await;
            bench.postgres.terminate(1000);
            let Client { socket, ended, .. } = client;
            let ended = tokio::time::timeout(PATIENCE, ended).await;
            assert!(ended.expect("its actor ends").is_err());
            assert!(bench.deps.sessions.all().is_empty());
            drop(socket);
        },
    );
}
