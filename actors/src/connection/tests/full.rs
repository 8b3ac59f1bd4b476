//! Idle sessions of a Postgres that has no connection left for a question.

use super::*;
use crate::ports::BackendActivity;

const SHORT: Duration = Duration::from_millis(30);
const SESSIONS: usize = 40;

fn short_sessions(limits: &mut Limits) {
    limits.idle.session = SHORT;
    limits.idle.transaction = SHORT;
}

fn set_full(fixture: &Fixture, full: bool) {
    *fixture.probe.full.lock().unwrap() = full;
}

fn open(fixture: &Fixture) -> usize {
    fixture.deps.sessions.all().len()
}

#[test]
fn one_question_is_asked_about_all_sessions() {
    run_test(short_sessions, |fixture| async move {
        *fixture.probe.activity.lock().unwrap() = Some(BackendActivity::Active);
        let mut clients = Vec::new();
        for _ in 0..SESSIONS {
            clients.push(fixture.session("instance:a").await);
        }
        let asked = || fixture.probe.asked.lock().unwrap().len();
        let before = asked();
        let questions = *fixture.probe.questions.lock().unwrap();
        eventually(|| asked() >= before + 3 * SESSIONS).await;
        let questions = *fixture.probe.questions.lock().unwrap() - questions;
        assert!(questions <= 20, "{questions} questions");
        *fixture.probe.activity.lock().unwrap() = Some(BackendActivity::Idle);
        for client in &mut clients {
            assert_eq!(client.refusal().await, "57P05");
        }
    });
}

#[test]
fn session_that_was_idle_longest_makes_room_for_the_question() {
    run_test(short_sessions, |fixture| async move {
        set_full(&fixture, true);
        let mut busy = fixture.session("instance:a").await;
        busy.query("sleep").await;
        let mut long = fixture.session("instance:a,session_idle_timeout:10m").await;
        let mut clients = Vec::new();
        for _ in 0..SESSIONS {
            clients.push(fixture.session("instance:a").await);
        }
        eventually(|| open(&fixture) < SESSIONS + 2).await;
        assert_eq!(clients[0].refusal().await, "57P05");
        *fixture.probe.activity.lock().unwrap() = Some(BackendActivity::Idle);
        set_full(&fixture, false);
        for client in &mut clients[1..] {
            assert_eq!(client.refusal().await, "57P05");
        }
        long.answers().await;
    });
}

#[test]
fn only_sessions_over_their_limit_end_while_no_question_can_be_asked() {
    run_test(short_sessions, |fixture| async move {
        set_full(&fixture, true);
        let mut busy = fixture.session("instance:a").await;
        busy.query("sleep").await;
        let mut long = fixture.session("instance:a,session_idle_timeout:10m").await;
        let mut idle = fixture.session("instance:a").await;
        let mut open_transaction = fixture.session("instance:a").await;
        open_transaction.query("begin").await;
        assert_eq!(open_transaction.until_ready().await, "CZ");
        assert_eq!(idle.refusal().await, "57P05");
        assert_eq!(open_transaction.refusal().await, "25P03");
        fixture.until_probed(6).await;
        assert_eq!(open(&fixture), 2);
        long.answers().await;
        let mut canceller = fixture.connect().await;
        canceller.send(&cancel_request(1000)).await;
        assert_eq!(busy.message().await.unwrap().tag, b'E');
    });
}

#[test]
fn query_over_its_limit_makes_room_where_all_sessions_are_active() {
    let active = |limits: &mut Limits| limits.idle.active = Some(SHORT);
    run_test(active, |fixture| async move {
        set_full(&fixture, true);
        let mut long = fixture.session("instance:a,active_timeout:10m").await;
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(fixture.session("instance:a").await);
        }
        let mut idle = fixture.session("instance:a").await;
        for client in clients.iter_mut().chain([&mut long]) {
            client.query("sleep").await;
        }
        for client in clients {
            client.until_closed().await;
        }
        fixture.until_probed(6).await;
        let mut cancelled = fixture.postgres.cancelled();
        cancelled.sort_unstable();
        assert_eq!(cancelled, [1001, 1002]);
        idle.answers().await;
        assert_eq!(open(&fixture), 2);
    });
}

#[test]
fn killed_session_ends_though_no_question_can_be_asked() {
    run_test(
        |_| {},
        |fixture| async move {
            set_full(&fixture, true);
            let mut idle = fixture.session("instance:a").await;
            idle.actor
                .send(EndConnection(EndReason::Killed))
                .await
                .unwrap();
            assert_eq!(idle.refusal().await, "57P01");
            let mut busy = fixture.session("instance:a").await;
            busy.query("sleep").await;
            eventually(|| fixture.postgres.queries() == ["sleep"]).await;
            busy.actor
                .send(EndConnection(EndReason::Killed))
                .await
                .unwrap();
            busy.until_closed().await;
            assert_eq!(fixture.postgres.cancelled(), [1001]);
        },
    );
}

#[test]
fn drained_session_ends_though_no_question_can_be_asked() {
    run_test(
        |_| {},
        |fixture| async move {
            set_full(&fixture, true);
            let mut clients = Vec::new();
            for _ in 0..3 {
                clients.push(fixture.session("instance:a").await);
            }
            for client in &clients {
                client
                    .actor
                    .send(EndConnection(EndReason::Drained))
                    .await
                    .unwrap();
            }
            for client in &mut clients {
                assert_eq!(client.refusal().await, "57P01");
            }
        },
    );
}
