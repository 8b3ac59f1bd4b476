//! Repositories that are elsewhere.

use std::net::TcpListener;

use crate::daemon;

#[test]
fn mirror_is_made_and_a_revision_that_it_lacks_is_fetched() {
    let remote = daemon().without_snapshots().prepare();
    let url = format!("file://{}", remote.repository().path().display());
    let daemon = daemon().git(&url).start();
    drop(daemon.connect("instance:a,gitref:v1"));
    assert_eq!(daemon.instance("a")["snapshot"], "monday");
    let commit = remote.repository().commit(&[
        "auth.0001_initial",
        "polls.0001_initial",
        "polls.0002_closed_at",
        "polls.0009_later",
    ]);
    drop(daemon.connect(&format!("instance:b,gitref:{}", &commit[..12])));
    assert_eq!(daemon.instance("b")["commit"], commit.as_str());
    assert_eq!(daemon.instance("b")["snapshot"], "tuesday");
}

#[test]
fn remote_that_hangs_is_given_up_and_in_nobody_elses_way() {
    // It accepts connections into its backlog and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it has an address");
    let daemon = daemon()
        .git(&format!("http://{address}/repository.git"))
        .limit("start_timeout", "8s")
        .start();
    daemon
        .expect_log("git")
        .expect_log("fetch")
        .expect_log("mirror");
    let config = daemon.config("instance:stuck,gitref:main");
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| multidb_integration_tests::Session::connect(&config).err());
        for number in 0..5 {
            let session = daemon.connect(&format!("instance:free{number},snapshot:latest"));
            session.one("select 1");
        }
        assert!(
            !stuck.is_finished(),
            "the remote did not hang, so this tested nothing"
        );
        let failure = stuck.join().expect("no panic").expect("it is refused");
        assert!(
            matches!(failure.sqlstate(), "22023" | "57P03" | "58000"),
            "{failure:?}"
        );
    });
}

#[test]
fn repository_that_is_not_there_is_said_so_and_snapshots_still_serve() {
    let daemon = daemon().git("/no/such/repository").start();
    daemon.expect_log("/no/such/repository");
    let failure = daemon.refused("instance:a,gitref:main");
    assert!(
        matches!(failure.sqlstate(), "22023" | "58000"),
        "{failure:?}"
    );
    daemon.connect("instance:a,snapshot:latest").one("select 1");
}
