//! No space is an error for one client, and loses nothing.

use crate::daemon;

#[test]
fn reserve_that_is_reached_refuses_new_instances_and_keeps_old_ones() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:old,gitref:main");
    session.one("select 1");
    drop(session);
    daemon.stop();
    let config = std::fs::read_to_string(daemon.config_file()).expect("it is there");
    let config = config.replace("disk_reserve = \"64MiB\"", "disk_reserve = \"1TiB\"");
    std::fs::write(daemon.config_file(), config).expect("it can be written");
    daemon.expect_log("disk").expect_log("space");
    daemon.start();
    let failure = daemon.refused("instance:new,gitref:main");
    assert_eq!(failure.sqlstate(), "53100", "{failure:?}");
    daemon.connect("instance:old").one("select 1");
    assert_eq!(daemon.state("new"), "");
}
