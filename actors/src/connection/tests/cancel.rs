//! Cancel requests.

use super::*;

#[test]
fn cancel_request_reaches_only_the_backend_that_it_names() {
    run_test(
        |_| {},
        |fixture| async move {
            // The second instance runs on a server of its own.
            let other = FakePostgres::start();
            let mut first = fixture.session("instance:a").await;
            let endpoints = &fixture.actors.runtime.endpoints;
            *endpoints.lock().unwrap() = [other.endpoint.clone()].into();
            let mut second = fixture.session("instance:b").await;
            // The backends of two servers may have the same process id, not the same secret; the
            // fakes have, so one of them moves on.
            drop(second);
            eventually(|| fixture.deps.sessions.all().len() == 1).await;
            second = fixture.session("instance:b").await;
            first.query("sleep").await;
            second.query("sleep").await;
            eventually(|| fixture.postgres.queries().len() + other.queries().len() == 2).await;

            let mut canceller = fixture.connect().await;
            canceller.send(&cancel_request(1001)).await;
            assert_eq!(canceller.read_to_end().await, b"");
            canceller.until_closed().await;
            assert_eq!(second.message().await.unwrap().tag, b'E');
            assert_eq!(second.until_ready().await, "Z");
            assert_eq!(other.cancelled(), [1001]);
            assert!(fixture.postgres.cancelled().is_empty());
            let sessions = fixture.deps.sessions.all();
            assert_eq!(sessions[0].stats.state(), SessionState::Active);
        },
    );
}

#[test]
fn cancel_request_for_no_session_is_ignored_and_starts_nothing() {
    run_test(
        |_| {},
        |fixture| async move {
            drop(fixture.session("instance:a").await);
            eventually(|| fixture.deps.sessions.all().is_empty()).await;
            for process_id in [1000, 1, -1] {
                let mut canceller = fixture.connect().await;
                canceller.send(&cancel_request(process_id)).await;
                assert_eq!(canceller.read_to_end().await, b"");
                canceller.until_closed().await;
            }
            assert!(fixture.postgres.cancelled().is_empty());
            assert_eq!(fixture.actors.runtime.started.lock().unwrap().len(), 1);
        },
    );
}

#[test]
fn cancel_request_with_a_wrong_secret_is_ignored() {
    run_test(
        |_| {},
        |fixture| async move {
            let _session = fixture.session("instance:a").await;
            let mut canceller = fixture.connect().await;
            let body = [&1000i32.to_be_bytes()[..], &[8; 4]].concat();
            canceller.send(&request(5678, &body)).await;
            assert_eq!(canceller.read_to_end().await, b"");
            assert!(fixture.postgres.cancelled().is_empty());
        },
    );
}

#[test]
fn next_query_waits_until_the_cancel_request_has_ended() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.session("instance:a").await;
            client.query("sleep").await;
            eventually(|| fixture.postgres.queries().len() == 1).await;
            fixture.postgres.hold_cancels(true);
            let mut canceller = fixture.connect().await;
            canceller.send(&cancel_request(1000)).await;
            assert_eq!(client.message().await.unwrap().tag, b'E');
            assert_eq!(client.until_ready().await, "Z");
            client.query("next").await;
            // A login passes after the query was sent, and the query still has not arrived.
            let _other = fixture.session("instance:a").await;
            assert_eq!(fixture.postgres.queries(), ["sleep"]);
            fixture.postgres.hold_cancels(false);
            assert_eq!(canceller.read_to_end().await, b"");
            assert_eq!(client.until_ready().await, "CZ");
            assert_eq!(fixture.postgres.queries(), ["sleep", "next"]);
        },
    );
}
