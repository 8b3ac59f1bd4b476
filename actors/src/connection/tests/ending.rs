//! The end of sessions: by the client, the backend, an administrator or the daemon.

use super::*;
use crate::instance::OverLimit;
use crate::ports::BackendActivity;

#[test]
fn disconnect_of_the_client_ends_its_backend() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            client.send(&message(b'X', &[])).await;
            assert!(client.message().await.is_none());
            client.until_closed().await;
            assert_eq!(fixture.postgres.terminates(), 1);

            let Client { socket, ended, .. } = fixture.session("instance:a").await;
            drop(socket);
            let ended = tokio::time::timeout(TIMEOUT, ended).await;
            assert!(ended.expect("its actor ends").is_err());
            eventually(|| fixture.postgres.backends() == 0).await;
        },
    );
}

#[test]
fn killed_active_session_gets_the_error_of_its_backend() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            client.query("sleep").await;
            eventually(|| fixture.postgres.queries() == ["sleep"]).await;
            *fixture.probe.activity.lock().unwrap() = Some(BackendActivity::Active);
            let killed = client.actor.send(EndConnection(EndReason::Killed));
            killed.await.unwrap();
            eventually(|| *fixture.probe.terminated.lock().unwrap() == [1000]).await;
            fixture.postgres.terminate(1000);
            assert_eq!(client.refusal().await, "57P01");
            client.until_closed().await;
            assert!(fixture.deps.sessions.all().is_empty());
        },
    );
}

#[test]
fn killed_idle_session_gets_an_error_of_the_proxy() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            *fixture.probe.activity.lock().unwrap() = Some(BackendActivity::Idle);
            let killed = client.actor.send(EndConnection(EndReason::Killed));
            killed.await.unwrap();
            assert_eq!(client.refusal().await, "57P01");
            client.until_closed().await;
            assert_eq!(fixture.postgres.terminates(), 1);
            assert!(fixture.probe.terminated.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn killed_session_with_an_unreachable_backend_is_closed() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            *fixture.probe.unreachable.lock().unwrap() = true;
            let killed = client.actor.send(EndConnection(EndReason::Killed));
            killed.await.unwrap();
            assert!(client.message().await.is_none());
            client.until_closed().await;
            eventually(|| fixture.postgres.backends() == 0).await;
        },
    );
}

#[test]
fn drained_session_ends_once_it_is_idle_and_not_before() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            client.query("begin").await;
            assert_eq!(client.until_ready().await, "CZ");
            let drained = client.actor.send(EndConnection(EndReason::Drained));
            drained.await.unwrap();
            client.answers().await;
            assert!(fixture.probe.asked.lock().unwrap().is_empty());

            let mut quiet = fixture.session("instance:a").await;
            *fixture.probe.activity.lock().unwrap() = Some(BackendActivity::Active);
            let drained = quiet.actor.send(EndConnection(EndReason::Drained));
            drained.await.unwrap();
            fixture.until_probed(2).await;
            quiet.answers().await;
            *fixture.probe.activity.lock().unwrap() = Some(BackendActivity::Idle);
            assert_eq!(quiet.refusal().await, "57P01");
            quiet.until_closed().await;
            client.answers().await;
        },
    );
}

#[test]
fn draining_ends_sessions_that_begin_later_too_and_clients_without_one_are_told() {
    run_test(
        |_| {},
        |fixture| async move {
            *fixture.probe.activity.lock().unwrap() = Some(BackendActivity::Idle);
            let before = fixture.session("instance:a").await;
            assert_eq!(fixture.deps.sessions.drain(), 1);
            let later = fixture.session("instance:a").await;
            for mut session in [before, later] {
                assert_eq!(session.refusal().await, "57P01");
                session.until_closed().await;
            }
            let mut silent = fixture.connect().await;
            fixture.deps.admission.shut_down();
            assert_eq!(silent.refusal().await, "57P01");
            silent.until_closed().await;
            fixture.deps.admission.all_closed().await;
        },
    );
}

#[test]
fn sessions_of_a_crashed_postgres_end_and_the_next_one_is_served() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            let uid = fixture.deps.sessions.all()[0]
                .instance()
                .unwrap()
                .server
                .endpoint
                .clone();
            assert_eq!(uid, fixture.postgres.endpoint);
            fixture.postgres.terminate(1000);
            let running = fixture.actors.runtime.running_now();
            running
                .iter()
                .for_each(|uid| fixture.actors.runtime.crash(*uid));
            assert_eq!(client.refusal().await, "57P01");
            client.until_closed().await;
            fixture.session("instance:a").await.answers().await;
        },
    );
}

#[test]
fn killed_session_ends_although_its_client_does_not_read() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            client.query("flood").await;
            let [session] = &fixture.deps.sessions.all()[..] else {
                panic!("one session");
            };
            let mut passed = 0;
            while session.stats.from_backend_bytes() != passed || passed < 100_000 {
                passed = session.stats.from_backend_bytes();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let killed = client.actor.send(EndConnection(EndReason::Killed));
            killed.await.unwrap();
            eventually(|| fixture.probe.terminated.lock().unwrap().len() == 1).await;
            fixture.postgres.terminate(1000);
            let Client { socket, ended, .. } = client;
            let ended = tokio::time::timeout(TIMEOUT, ended).await;
            assert!(ended.expect("its actor ends").is_err());
            assert!(fixture.deps.sessions.all().is_empty());
            drop(socket);
        },
    );
}

#[test]
fn session_whose_server_stops_for_a_limit_is_told_why() {
    run_test(
        |_| {},
        |fixture| async move {
            let end = || {
                EndConnection(EndReason::OverLimit(OverLimit::MaxInstanceBytes {
                    exclusive_bytes: 2 << 30,
                    limit_bytes: 1 << 30,
                }))
            };
            let idle = fixture.session("instance:a").await;
            let mut active = fixture.session("instance:a").await;
            active.query("sleep").await;
            eventually(|| fixture.postgres.queries() == ["sleep"]).await;
            for mut client in [idle, active] {
                client.actor.send(end()).await.unwrap();
                assert_eq!(client.refusal().await, "57P01");
                client.until_closed().await;
            }
            assert!(fixture.probe.asked.lock().unwrap().is_empty());
        },
    );
}
