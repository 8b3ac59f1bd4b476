//! Settings that a superuser made by ALTER SYSTEM.

use multidb_integration_tests::Session;

use crate::daemon;

#[test]
fn setting_that_keeps_a_server_from_starting_is_named_and_can_be_left_out() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main,role:postgres");
    session
        .query("create table kept (x int)")
        .expect("it is writable");
    session
        .query("alter system set shared_buffers = '900GB'")
        .expect("a superuser may");
    drop(session);
    daemon.json(&["instance", "stop", "a", "--yes"]);
    daemon.expect_log("start").expect_log("postgres");
    let refused = Session::connect(&daemon.config("instance:a"));
    let failure = format!("{:?}", refused.err().expect("it cannot start"));
    for told in [
        "of postgresql.auto.conf: shared_buffers = '900GB'",
        "multidb instance start a --without-alter-system",
    ] {
        assert!(failure.contains(told), "{failure}");
    }
    daemon.json(&["instance", "start", "a", "--without-alter-system"]);
    let session = daemon.connect("instance:a");
    assert_eq!(session.one("select count(*) from kept"), "0");
}
