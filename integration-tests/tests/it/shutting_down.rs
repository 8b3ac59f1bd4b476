//! SIGTERM: no new clients, running queries finish within the grace period, servers stop cleanly.

use std::time::Duration;

use multidb_integration_tests::{RawClient, eventually, is_alive, postmaster_pid};
use rustix::process::Signal;

use crate::daemon;
use crate::metrics::metrics;

#[test]
fn idle_sessions_are_told_and_servers_stop_cleanly() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    session.one("select 1");
    let data = daemon.data_dir("a");
    let postgres = postmaster_pid(&data).expect("it runs");
    assert!(daemon.stop().success());
    let end = session.wait_end(Duration::from_secs(10));
    assert_eq!(end.sqlstate(), "57P01", "{end:?}");
    assert!(!is_alive(postgres));
    assert!(!data.join("postmaster.pid").exists());
}

#[test]
fn running_query_may_finish_and_a_new_client_is_refused() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    let query = session.start("select pg_sleep(3), 42");
    eventually("the query runs", Duration::from_secs(30), || {
        daemon.connect("instance:a").one(
            "select count(*) from pg_stat_activity where query like '%pg_sleep(3)%' and pid <> pg_backend_pid()",
        ) == "1"
    });
    daemon.signal(Signal::TERM);
    eventually("new clients are refused", Duration::from_secs(10), || {
        let refusal = daemon.try_connect("instance:a").err();
        refusal.is_some_and(|failure| matches!(failure.sqlstate(), "57P01" | ""))
    });
    let rows = query.wait().expect("the query gets its time");
    assert_eq!(rows[0][1].as_deref(), Some("42"));
    assert!(daemon.wait_exit().success());
}

#[test]
fn clients_that_have_sent_nothing_are_told() {
    let daemon = daemon().start();
    let mut clients = [(); 5].map(|()| RawClient::connect(daemon.port()));
    eventually("they are accepted", Duration::from_secs(10), || {
        metrics(&daemon).get("multidb_unauthenticated_connections") == Some(&5.0)
    });
    assert!(daemon.stop().success());
    for client in &mut clients {
        let (kind, body) = client.read_message();
        let body = String::from_utf8_lossy(&body);
        assert!(kind == 'E' && body.contains("57P01"), "{kind}: {body}");
        assert!(client.read_to_end().is_empty());
    }
}
