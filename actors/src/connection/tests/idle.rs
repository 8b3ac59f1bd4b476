//! Idle sessions.

use super::*;
use crate::ports::BackendActivity;

const SHORT: Duration = Duration::from_millis(30);

fn short_sessions(limits: &mut Limits) {
    limits.idle.session = SHORT;
}

fn says(bench: &Bench, activity: Option<BackendActivity>) {
    *bench.probe.activity.lock().unwrap() = activity;
}

#[test]
fn an_idle_session_ends_with_its_sqlstate_and_a_goodbye() {
    bench(short_sessions, |bench| async move {
        let began = tokio::time::Instant::now();
        let mut client = bench.session("instance:a").await;
        assert_eq!(client.refusal().await, "57P05");
        // The stats counts whole milliseconds.
        assert!(began.elapsed() + Duration::from_millis(1) >= SHORT);
        client.over().await;
        eventually(|| bench.postgres.terminates() == 1).await;
        assert!(bench.deps.sessions.all().is_empty());
        assert_eq!(bench.probe.asked.lock().unwrap()[0], 1000);
    });
}

#[test]
fn a_session_whose_backend_works_or_cannot_be_asked_goes_on() {
    bench(short_sessions, |bench| async move {
        for (activity, unreachable) in [
            (Some(BackendActivity::Active), false),
            (Some(BackendActivity::IdleInTransaction), false),
            (None, false),
            (Some(BackendActivity::Idle), true),
        ] {
            bench.probe.asked.lock().unwrap().clear();
            says(&bench, activity);
            *bench.probe.unreachable.lock().unwrap() = unreachable;
            let mut client = bench.session("instance:a").await;
            bench.asked(4).await;
            client.answers().await;
        }
    });
}

#[test]
fn a_silent_query_is_not_idleness() {
    bench(short_sessions, |bench| async move {
        says(&bench, Some(BackendActivity::Active));
        let mut client = bench.session("instance:a").await;
        client.query("sleep").await;
        bench.asked(4).await;
        let mut canceller = bench.connect().await;
        canceller.send(&cancel_request(1000)).await;
        assert_eq!(client.message().await.unwrap().tag, b'E');
        assert_eq!(client.until_ready().await, "Z");
    });
}

#[test]
fn a_session_that_spoke_while_its_backend_was_asked_goes_on() {
    bench(short_sessions, |bench| async move {
        let closed = bench.probe.answer_gate.write().await;
        let mut client = bench.session("instance:a").await;
        bench.asked(1).await;
        // The answer that is on its way says idle.
        says(&bench, Some(BackendActivity::Active));
        client.answers().await;
        drop(closed);
        bench.asked(3).await;
        client.answers().await;
        says(&bench, Some(BackendActivity::Idle));
        assert_eq!(client.refusal().await, "57P05");
    });
}

#[test]
fn a_transaction_has_a_limit_of_its_own() {
    bench(
        |limits| {
            limits.idle.session = SHORT;
            limits.idle.transaction = SHORT * 4;
        },
        |bench| async move {
            says(&bench, Some(BackendActivity::IdleInTransaction));
            let mut client = bench.session("instance:a").await;
            let began = tokio::time::Instant::now();
            client.query("begin").await;
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(client.refusal().await, "25P03");
            assert!(began.elapsed() + Duration::from_millis(1) >= SHORT * 4);
            client.over().await;
        },
    );
}

#[test]
fn a_transaction_limit_below_the_session_limit_is_kept_in_time() {
    bench(
        |limits| {
            limits.idle.session = Duration::from_secs(600);
            limits.idle.transaction = SHORT;
        },
        |bench| async move {
            says(&bench, Some(BackendActivity::IdleInTransaction));
            let mut client = bench.session("instance:a").await;
            client.query("begin").await;
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(client.refusal().await, "25P03");
        },
    );
}

#[test]
fn a_client_says_for_how_long_its_own_session_may_do_nothing() {
    bench(
        |limits| {
            limits.idle.session = Duration::from_secs(600);
            limits.idle.transaction = Duration::from_secs(600);
        },
        |bench| async move {
            let mut other = bench.session("instance:a").await;
            let user = "instance:a,session_idle_timeout:30ms,transaction_idle_timeout=60ms";
            let mut client = bench.session(user).await;
            assert_eq!(client.refusal().await, "57P05");
            says(&bench, Some(BackendActivity::IdleInTransaction));
            let mut client = bench.session(user).await;
            client.query("begin").await;
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(client.refusal().await, "25P03");
            other.answers().await;
        },
    );
}

#[test]
fn a_client_may_keep_its_session_for_longer_than_the_others() {
    bench(short_sessions, |bench| async move {
        let mut long = bench.session("instance:a,session_idle_timeout:10m").await;
        let mut short = bench.session("instance:a").await;
        assert_eq!(short.refusal().await, "57P05");
        tokio::time::sleep(SHORT * 4).await;
        long.answers().await;
    });
}

#[test]
fn a_listener_stays_while_its_instance_runs_for_others() {
    bench(short_sessions, |bench| async move {
        says(&bench, Some(BackendActivity::Listening));
        let other = bench.session("instance:a,session_idle_timeout:10m").await;
        let mut listener = bench.session("instance:a").await;
        bench.asked(4).await;
        listener.answers().await;
        drop(other);
        // Two that only listen do not keep the instance running for each other.
        let mut second = bench.session("instance:a").await;
        assert_eq!(listener.refusal().await, "57P05");
        assert_eq!(second.refusal().await, "57P05");
    });
}

#[test]
fn a_listener_has_a_limit_of_its_own_where_one_is_set() {
    bench(
        |limits| limits.idle.listen = Some(SHORT),
        |bench| async move {
            says(&bench, Some(BackendActivity::Listening));
            let _other = bench.session("instance:a,listen_idle_timeout:10m").await;
            let mut listener = bench.session("instance:a").await;
            assert_eq!(listener.refusal().await, "57P05");
        },
    );
}

#[test]
fn a_copy_has_a_limit_only_where_one_is_set() {
    bench(short_sessions, |bench| async move {
        says(&bench, Some(BackendActivity::InCopy { waits: true }));
        let mut unlimited = bench.session("instance:a").await;
        bench.asked(4).await;
        unlimited.answers().await;
        let mut limited = bench.session("instance:a,copy_idle_timeout:60ms").await;
        assert_eq!(limited.refusal().await, "57P05");
    });
}

#[test]
fn a_query_and_a_replication_have_limits_only_where_they_are_set() {
    for (activity, key) in [
        (BackendActivity::Active, "active_timeout"),
        (BackendActivity::InCopy { waits: false }, "active_timeout"),
        (BackendActivity::Replicating, "replication_timeout"),
    ] {
        bench(short_sessions, |bench| async move {
            says(&bench, Some(activity));
            let mut unlimited = bench.session("instance:a").await;
            bench.asked(4).await;
            unlimited.answers().await;
            assert!(bench.probe.terminated.lock().unwrap().is_empty());
            let _limited = bench.session(&format!("instance:a,{key}:60ms")).await;
            eventually(|| bench.probe.terminated.lock().unwrap().len() == 1).await;
        });
    }
}

#[test]
fn an_instance_whose_last_session_was_idle_comes_to_rest() {
    bench(
        |limits| {
            limits.idle.session = SHORT;
            limits.instance_idle_timeout = SHORT;
        },
        |bench| async move {
            let mut client = bench.session("instance:a").await;
            assert_eq!(client.refusal().await, "57P05");
            eventually(|| bench.world.runtime.running_now().is_empty()).await;
            bench.session("instance:a").await;
            assert_eq!(bench.world.runtime.started.lock().unwrap().len(), 2);
        },
    );
}
