//! Cancel requests reach their backend, and queries of vanished clients end.

use std::time::Duration;

use multidb_integration_tests::eventually;

use crate::daemon;

const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

const ACTIVE: &str =
    "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()
    and backend_type = 'client backend'";

#[test]
fn cancel_ends_the_query_and_keeps_the_session() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    let other = daemon.connect("instance:b,gitref:main");
    let observer = daemon.connect("instance:a");
    let (mine, theirs) = (
        session.start("select pg_sleep(60)"),
        other.start("select pg_sleep(5)"),
    );
    eventually("the query runs", WAIT_TIMEOUT, || {
        observer.one(ACTIVE) == "1"
    });
    session.cancel();
    let failure = mine.wait().expect_err("it was cancelled");
    assert_eq!(failure.sqlstate(), "57014", "{failure:?}");
    assert_eq!(session.one("select 1"), "1");
    theirs.wait().expect("another instance's query goes on");
}

#[test]
fn cancel_with_a_wrong_key_does_nothing() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    let pid = session.backend_pid();
    let query = session.start("select pg_sleep(3)");
    let mut client = daemon.raw();
    client.send(&[0, 0, 0, 16, 0x04, 0xD2, 0x16, 0x2E]);
    client.send(&pid.to_be_bytes());
    client.send(&[1, 2, 3, 4]);
    assert!(client.read_to_end().is_empty());
    query.wait().expect("it was not cancelled");
}

#[test]
fn cancel_never_wakes_an_instance() {
    let daemon = daemon().limit("instance_idle_timeout", "1s").start();
    let mut client = daemon.raw();
    client.send_startup(
        196_608,
        &[("user", "instance:a,gitref:main"), ("database", "app")],
    );
    let key = client.read_until('K');
    client.read_until('Z');
    drop(client);
    daemon.wait_state("a", "stopped");
    let mut canceller = daemon.raw();
    canceller.send(&[0, 0, 0, 16, 0x04, 0xD2, 0x16, 0x2E]);
    canceller.send(&key);
    assert!(canceller.read_to_end().is_empty());
    assert_eq!(daemon.state("a"), "stopped");
}

#[test]
fn query_of_a_client_that_vanishes_ends() {
    let interval = ("client_connection_check_interval", "200ms");
    let daemon = daemon()
        .set("postgres.settings", interval.0, interval.1)
        .start();
    let observer = daemon.connect("instance:a,gitref:main");
    let sleeping = || {
        let sql = "select count(*) from pg_stat_activity
            where query like '%sleep(600)%' and pid <> pg_backend_pid()";
        observer.one(sql)
    };
    let mut hangs_up = daemon.raw_session("instance:a");
    // Unread bytes turn its close into a reset.
    let mut resets = daemon.raw_session("instance:a");
    resets.send(b"Q\0\0\0\x0dselect 1\0");
    for client in [&mut hangs_up, &mut resets] {
        client.send(b"Q\0\0\0\x19select pg_sleep(600)\0");
    }
    eventually("both queries run", WAIT_TIMEOUT, || sleeping() == "2");
    drop((hangs_up, resets));
    eventually("both queries have ended", WAIT_TIMEOUT, || {
        sleeping() == "0"
    });
}

#[test]
fn instances_check_for_vanished_clients_by_default() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    assert_eq!(session.one("show client_connection_check_interval"), "10s");
}
