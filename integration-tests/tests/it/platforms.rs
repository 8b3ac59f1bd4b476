//! The main promises on each file system with each engine.

use std::time::Duration;

use multidb_integration_tests::{
    Daemon, DaemonBuilder, Disk, Engine, MONDAY_ROWS, TUESDAY_ROWS, eventually,
};

use crate::daemon_on;

/// Makes a module of tests for a platform from functions that take a daemon builder.
macro_rules! platform {
    ($module:ident, $disk:ident, $engine:ident, $($scenario:ident),* $(,)?) => {
        mod $module {
            use super::{Disk, Engine, daemon_on};
            $(
                #[test]
                fn $scenario() {
                    super::$scenario(daemon_on(Disk::$disk, Engine::$engine));
                }
            )*
        }
    };
}

macro_rules! platforms {
    ($($module:ident: $disk:ident $engine:ident),* ; $scenarios:tt) => {
        $( platforms!(@one $module $disk $engine $scenarios); )*
    };
    (@one $module:ident $disk:ident $engine:ident ($($scenario:ident),* $(,)?)) => {
        platform!($module, $disk, $engine, $($scenario),*);
    };
}

platforms! {
    process_on_xfs: Xfs Process,
    process_on_btrfs: Btrfs Process,
    docker_on_xfs: Xfs Docker,
    docker_on_btrfs: Btrfs Docker;
    (
        first_connection_creates_the_instance_and_the_next_finds_it,
        instances_do_not_see_each_other,
        idle_instance_stops_and_wakes_with_its_data,
        killed_daemon_takes_over_running_servers,
        killed_postgres_comes_back_with_its_data,
        removed_instance_leaves_nothing,
        running_instance_is_cloned,
        running_instance_becomes_a_snapshot,
    )
}

fn rows(daemon: &Daemon, user: &str) -> u32 {
    let rows = daemon
        .connect(user)
        .one("select count(*) from polls_question");
    rows.parse().expect("a count is a number")
}

fn first_connection_creates_the_instance_and_the_next_finds_it(builder: DaemonBuilder) {
    let daemon = builder.start();
    let session = daemon.connect("instance:first,gitref:main");
    assert_eq!(
        session.one("select count(*) from polls_question"),
        TUESDAY_ROWS.to_string()
    );
    session
        .query("create table mine (x int)")
        .expect("it is writable");
    drop(session);
    let again = daemon.connect("instance:first");
    assert_eq!(again.one("select count(*) from mine"), "0");
    assert_eq!(daemon.instance("first")["snapshot"], "tuesday");
}

fn running_instance_is_cloned(builder: DaemonBuilder) {
    crate::branching::branch(&builder.start());
}

fn running_instance_becomes_a_snapshot(builder: DaemonBuilder) {
    crate::publishing::publish(&builder.start());
}

fn instances_do_not_see_each_other(builder: DaemonBuilder) {
    let daemon = builder.start();
    let one = daemon.connect("instance:one,snapshot:monday");
    let two = daemon.connect("instance:two,snapshot:monday");
    one.query("delete from polls_choice")
        .expect("it is writable");
    assert_eq!(one.one("select count(*) from polls_choice"), "0");
    assert_eq!(two.one("select count(*) from polls_choice"), "5000");
    assert_eq!(rows(&daemon, "instance:three,snapshot:monday"), MONDAY_ROWS);
}

fn idle_instance_stops_and_wakes_with_its_data(builder: DaemonBuilder) {
    let daemon = builder.limit("instance_idle_timeout", "1s").start();
    let session = daemon.connect("instance:sleeper,gitref:main");
    session
        .query("create table kept as select 42 as x")
        .expect("it is writable");
    assert_eq!(daemon.state("sleeper"), "running");
    drop(session);
    daemon.wait_state("sleeper", "stopped");
    assert!(!daemon.data_dir("sleeper").join("postmaster.pid").exists());
    let woken = daemon.connect("instance:sleeper");
    assert_eq!(woken.one("select x from kept"), "42");
    assert_eq!(daemon.state("sleeper"), "running");
}

fn killed_daemon_takes_over_running_servers(builder: DaemonBuilder) {
    let daemon = builder.start();
    let session = daemon.connect("instance:survivor,gitref:main");
    session
        .query("create table kept as select 42 as x")
        .expect("it is writable");
    let started = session.one("select pg_postmaster_start_time()");
    daemon.kill9();
    assert_eq!(session.wait_end(Duration::from_secs(30)).code, None);
    daemon.start();
    let again = daemon.connect("instance:survivor");
    assert_eq!(again.one("select x from kept"), "42");
    assert_eq!(again.one("select pg_postmaster_start_time()"), started);
    assert_eq!(daemon.state("survivor"), "running");
}

fn killed_postgres_comes_back_with_its_data(builder: DaemonBuilder) {
    let daemon = builder.start();
    let session = daemon.connect("instance:victim,gitref:main");
    session
        .query("create table kept as select 42 as x")
        .expect("it is writable");
    daemon.expect_log("postgres");
    let data = daemon.data_dir("victim").display().to_string();
    multidb_integration_tests::kill_servers_of(&data);
    session.wait_end(Duration::from_secs(30));
    let again = daemon.connect("instance:victim");
    assert_eq!(again.one("select x from kept"), "42");
}

fn removed_instance_leaves_nothing(builder: DaemonBuilder) {
    let daemon = builder.start();
    drop(daemon.connect("instance:gone,gitref:main"));
    let data = daemon.data_dir("gone");
    daemon.cli(&["instance", "rm", "gone"]).ok();
    daemon.wait_state("gone", "");
    eventually("its directory is deleted", Duration::from_secs(30), || {
        !data.exists() && is_empty(&daemon, "trash") && is_empty(&daemon, "instances")
    });
    assert_eq!(daemon.refused("instance:gone").sqlstate(), "3D000");
    let again = daemon.connect("instance:gone,snapshot:monday");
    assert_eq!(
        again.one("select count(*) from polls_question"),
        MONDAY_ROWS.to_string()
    );
}

fn is_empty(daemon: &Daemon, directory: &str) -> bool {
    std::fs::read_dir(daemon.root().join(directory))
        .is_ok_and(|mut entries| entries.next().is_none())
}
