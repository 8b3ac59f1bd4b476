//! Cancel requests.

use super::*;

#[test]
fn a_cancel_request_reaches_the_backend_that_it_names_and_no_other() {
    bench(
        |_| {},
        |bench| async move {
            // The second instance runs on a server of its own.
            let other = FakePostgres::start();
            let mut first = bench.session("instance:a").await;
            let endpoints = &bench.world.runtime.endpoints;
            *endpoints.lock().unwrap() = [other.endpoint.clone()].into();
            let mut second = bench.session("instance:b").await;
            // The backends of two servers may have the same process id, not the same secret; the
            // fakes have, so one of them moves on.
            drop(second);
            eventually(|| bench.deps.sessions.all().len() == 1).await;
            second = bench.session("instance:b").await;
            first.query("sleep").await;
            second.query("sleep").await;
            eventually(|| bench.postgres.queries().len() + other.queries().len() == 2).await;

            let mut canceller = bench.connect().await;
            canceller.send(&cancel_request(1001)).await;
            assert_eq!(canceller.rest().await, b"");
            canceller.over().await;
            assert_eq!(second.message().await.unwrap().tag, b'E');
            assert_eq!(second.until_ready().await, "Z");
            assert_eq!(other.cancelled(), [1001]);
            assert!(bench.postgres.cancelled().is_empty());
            let sessions = bench.deps.sessions.all();
            assert_eq!(sessions[0].stats.state(), SessionState::Active);
        },
    );
}

#[test]
fn a_cancel_request_that_names_no_session_is_ignored_and_starts_nothing() {
    bench(
        |_| {},
        |bench| async move {
            drop(bench.session("instance:a").await);
            eventually(|| bench.deps.sessions.all().is_empty()).await;
            for process_id in [1000, 1, -1] {
                let mut canceller = bench.connect().await;
                canceller.send(&cancel_request(process_id)).await;
                assert_eq!(canceller.rest().await, b"");
                canceller.over().await;
            }
            assert!(bench.postgres.cancelled().is_empty());
            assert_eq!(bench.world.runtime.started.lock().unwrap().len(), 1);
        },
    );
}

#[test]
fn a_cancel_request_with_a_wrong_secret_is_ignored() {
    bench(
        |_| {},
        |bench| async move {
            let _session = bench.session("instance:a").await;
            let mut canceller = bench.connect().await;
            let body = [&1000i32.to_be_bytes()[..], &[8; 4]].concat();
            canceller.send(&request(5678, &body)).await;
            assert_eq!(canceller.rest().await, b"");
            assert!(bench.postgres.cancelled().is_empty());
        },
    );
}
