//! Idle sessions.

use super::*;
use crate::ports::BackendActivity;

const SHORT: Duration = Duration::from_millis(30);

fn short_sessions(limits: &mut Limits) {
    limits.idle.session = SHORT;
}

fn set_activity(fixture: &Fixture, activity: Option<BackendActivity>) {
    *fixture.probe.activity.lock().unwrap() = activity;
}

#[test]
fn idle_session_gets_its_sqlstate_and_its_backend_a_terminate() {
    run_test(short_sessions, |fixture| async move {
        let began = tokio::time::Instant::now();
        let mut client = fixture.session("instance:a").await;
        assert_eq!(client.refusal().await, "57P05");
        // The statistics have whole milliseconds.
        assert!(began.elapsed() + Duration::from_millis(1) >= SHORT);
        client.until_closed().await;
        eventually(|| fixture.postgres.terminates() == 1).await;
        assert!(fixture.deps.sessions.all().is_empty());
        assert_eq!(fixture.probe.asked.lock().unwrap()[0], 1000);
    });
}

#[test]
fn session_with_a_busy_or_unreachable_backend_continues() {
    run_test(short_sessions, |fixture| async move {
        for (activity, unreachable) in [
            (Some(BackendActivity::Active), false),
            (Some(BackendActivity::IdleInTransaction), false),
            (None, false),
            (Some(BackendActivity::Idle), true),
        ] {
            fixture.probe.asked.lock().unwrap().clear();
            set_activity(&fixture, activity);
            *fixture.probe.unreachable.lock().unwrap() = unreachable;
            let mut client = fixture.session("instance:a").await;
            fixture.until_probed(4).await;
            client.answers().await;
        }
    });
}

#[test]
fn running_query_without_output_is_not_idle() {
    run_test(short_sessions, |fixture| async move {
        set_activity(&fixture, Some(BackendActivity::Active));
        let mut client = fixture.session("instance:a").await;
        client.query("sleep").await;
        fixture.until_probed(4).await;
        let mut canceller = fixture.connect().await;
        canceller.send(&cancel_request(1000)).await;
        assert_eq!(client.message().await.unwrap().tag, b'E');
        assert_eq!(client.until_ready().await, "Z");
    });
}

#[test]
fn session_used_during_the_probe_continues() {
    run_test(short_sessions, |fixture| async move {
        let closed = fixture.probe.answer_gate.write().await;
        let mut client = fixture.session("instance:a").await;
        fixture.until_probed(1).await;
        // The pending answer is idle.
        set_activity(&fixture, Some(BackendActivity::Active));
        client.answers().await;
        drop(closed);
        fixture.until_probed(3).await;
        client.answers().await;
        set_activity(&fixture, Some(BackendActivity::Idle));
        assert_eq!(client.refusal().await, "57P05");
    });
}

#[test]
fn transaction_has_its_own_limit() {
    run_test(
        |limits| {
            limits.idle.session = SHORT;
            limits.idle.transaction = SHORT * 4;
        },
        |fixture| async move {
            set_activity(&fixture, Some(BackendActivity::IdleInTransaction));
            let mut client = fixture.session("instance:a").await;
            let began = tokio::time::Instant::now();
            client.query("begin").await;
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(client.refusal().await, "25P03");
            assert!(began.elapsed() + Duration::from_millis(1) >= SHORT * 4);
            client.until_closed().await;
        },
    );
}

#[test]
fn transaction_limit_below_the_session_limit_is_enforced_in_time() {
    run_test(
        |limits| {
            limits.idle.session = Duration::from_secs(600);
            limits.idle.transaction = SHORT;
        },
        |fixture| async move {
            set_activity(&fixture, Some(BackendActivity::IdleInTransaction));
            let mut client = fixture.session("instance:a").await;
            client.query("begin").await;
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(client.refusal().await, "25P03");
        },
    );
}

#[test]
fn client_sets_the_idle_limits_of_its_own_session() {
    run_test(
        |limits| {
            limits.idle.session = Duration::from_secs(600);
            limits.idle.transaction = Duration::from_secs(600);
        },
        |fixture| async move {
            let mut other = fixture.session("instance:a").await;
            let user = "instance:a,session_idle_timeout:30ms,transaction_idle_timeout=60ms";
            let mut client = fixture.session(user).await;
            assert_eq!(client.refusal().await, "57P05");
            set_activity(&fixture, Some(BackendActivity::IdleInTransaction));
            let mut client = fixture.session(user).await;
            client.query("begin").await;
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(client.refusal().await, "25P03");
            other.answers().await;
        },
    );
}

#[test]
fn client_can_raise_its_idle_limit_above_the_default() {
    run_test(short_sessions, |fixture| async move {
        let mut long = fixture.session("instance:a,session_idle_timeout:10m").await;
        let mut short = fixture.session("instance:a").await;
        assert_eq!(short.refusal().await, "57P05");
        tokio::time::sleep(SHORT * 4).await;
        long.answers().await;
    });
}

#[test]
fn listener_continues_while_its_instance_has_other_sessions() {
    run_test(short_sessions, |fixture| async move {
        set_activity(&fixture, Some(BackendActivity::Listening));
        let other = fixture.session("instance:a,session_idle_timeout:10m").await;
        let mut listener = fixture.session("instance:a").await;
        fixture.until_probed(4).await;
        listener.answers().await;
        drop(other);
        // Two listeners do not keep the instance running for each other.
        let mut second = fixture.session("instance:a").await;
        assert_eq!(listener.refusal().await, "57P05");
        assert_eq!(second.refusal().await, "57P05");
    });
}

#[test]
fn listener_has_its_own_limit_if_one_is_set() {
    run_test(
        |limits| limits.idle.listen = Some(SHORT),
        |fixture| async move {
            set_activity(&fixture, Some(BackendActivity::Listening));
            let _other = fixture.session("instance:a,listen_idle_timeout:10m").await;
            let mut listener = fixture.session("instance:a").await;
            assert_eq!(listener.refusal().await, "57P05");
        },
    );
}

#[test]
fn copy_has_a_limit_only_if_one_is_set() {
    run_test(short_sessions, |fixture| async move {
        set_activity(&fixture, Some(BackendActivity::InCopy { waits: true }));
        let mut unlimited = fixture.session("instance:a").await;
        fixture.until_probed(4).await;
        unlimited.answers().await;
        let mut limited = fixture.session("instance:a,copy_idle_timeout:60ms").await;
        assert_eq!(limited.refusal().await, "57P05");
    });
}

#[test]
fn query_and_replication_have_limits_only_if_they_are_set() {
    for (activity, key) in [
        (BackendActivity::Active, "active_timeout"),
        (BackendActivity::InCopy { waits: false }, "active_timeout"),
        (BackendActivity::Replicating, "replication_timeout"),
    ] {
        run_test(short_sessions, |fixture| async move {
            set_activity(&fixture, Some(activity));
            let mut unlimited = fixture.session("instance:a").await;
            fixture.until_probed(4).await;
            unlimited.answers().await;
            assert!(fixture.probe.terminated.lock().unwrap().is_empty());
            let _limited = fixture.session(&format!("instance:a,{key}:60ms")).await;
            eventually(|| fixture.probe.terminated.lock().unwrap().len() == 1).await;
        });
    }
}

#[test]
fn instance_stops_after_its_last_idle_session_has_ended() {
    run_test(
        |limits| {
            limits.idle.session = SHORT;
            limits.instance_idle_timeout = SHORT;
        },
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            assert_eq!(client.refusal().await, "57P05");
            eventually(|| fixture.actors.runtime.running_now().is_empty()).await;
            fixture.session("instance:a").await;
            assert_eq!(fixture.actors.runtime.started.lock().unwrap().len(), 2);
        },
    );
}
