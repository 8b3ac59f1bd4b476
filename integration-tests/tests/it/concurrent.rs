//! Many clients at once.

use std::time::Duration;

use multidb_integration_tests::{Daemon, Session, eventually};

use crate::daemon;

/// Connects this many clients at once, each with the user name for its number.
fn all_at_once(daemon: &Daemon, clients: usize, user: impl Fn(usize) -> String) -> Vec<Session> {
    let configs: Vec<_> = (0..clients).map(|n| daemon.config(&user(n))).collect();
    std::thread::scope(|scope| {
        let tasks: Vec<_> = configs
            .iter()
            .map(|config| scope.spawn(|| Session::connect(config)))
            .collect();
        tasks
            .into_iter()
            .map(|task| {
                task.join()
                    .expect("a client does not panic")
                    .unwrap_or_else(|failure| panic!("a client was refused: {failure:?}"))
            })
            .collect()
    })
}

#[test]
fn twenty_clients_that_name_the_same_new_instance_get_one() {
    let daemon = daemon().start();
    let sessions = all_at_once(&daemon, 20, |_| "instance:shared,gitref:main".to_owned());
    sessions[0]
        .query("create table mark (x int)")
        .expect("it is writable");
    for session in &sessions {
        assert_eq!(session.one("select count(*) from mark"), "0");
    }
    let instances = daemon.json(&["instance", "ls"]);
    assert_eq!(instances.as_array().map(Vec::len), Some(1), "{instances}");
    assert_eq!(instances[0]["connections"], 20);
    let directories = std::fs::read_dir(daemon.root().join("instances"))
        .expect("it can be listed")
        .count();
    assert_eq!(directories, 1);
}

#[test]
fn eight_new_instances_at_once_are_eight() {
    let daemon = daemon().start();
    let sessions = all_at_once(&daemon, 8, |n| format!("instance:i{n},snapshot:latest"));
    for (number, session) in sessions.iter().enumerate() {
        session
            .query(&format!("create table own_{number} (x int)"))
            .expect("it is writable");
    }
    for session in &sessions {
        assert_eq!(
            session.one("select count(*) from pg_tables where tablename like 'own%'"),
            "1"
        );
    }
}

#[test]
fn client_that_gives_up_during_creation_breaks_nothing() {
    let daemon = daemon().start();
    for attempt in 0..10 {
        let user = format!("instance:impatient{attempt},gitref:main");
        let limit = Duration::from_millis(attempt * 15);
        drop(Session::connect_within(&daemon.config(&user), limit));
    }
    for attempt in 0..10 {
        let session = daemon.connect(&format!("instance:impatient{attempt},gitref:main"));
        assert_eq!(session.one("select 1"), "1");
    }
    eventually("only open sessions count", Duration::from_secs(30), || {
        daemon.json(&["status"])["connections"] == 0
    });
}

#[test]
fn client_beyond_max_connections_is_refused() {
    let daemon = daemon().set_raw("limits", "max_connections", "3").start();
    let mut sessions = all_at_once(&daemon, 3, |_| "instance:full,gitref:main".to_owned());
    let failure = daemon.refused("instance:full");
    assert_eq!(failure.sqlstate(), "53300", "{failure:?}");
    sessions.pop();
    eventually("a place is free again", Duration::from_secs(30), || {
        daemon.try_connect("instance:full").is_ok()
    });
}

#[test]
fn commands_do_not_wait_for_a_crowd_of_creations() {
    const CREATIONS: usize = 30;
    let daemon = daemon().start();
    for name in ["pinned", "removed"] {
        drop(daemon.connect(&format!("instance:{name},snapshot:monday")));
        daemon.cli(&["instance", "stop", name, "--yes"]).ok();
    }
    let creating = || {
        let listed = daemon.json(&["instance", "ls", "--state", "cloning"]);
        listed.as_array().map_or(0, Vec::len)
    };
    let configs: Vec<_> = (0..CREATIONS)
        .map(|number| daemon.config(&format!("instance:i{number},snapshot:monday")))
        .collect();
    std::thread::scope(|scope| {
        for config in &configs {
            scope.spawn(|| Session::connect(config).expect("it is served"));
        }
        eventually("they are being created", Duration::from_secs(30), || {
            creating() > CREATIONS / 2
        });
        daemon.cli(&["instance", "pin", "pinned"]).ok();
        daemon.instance("pinned");
        daemon.cli(&["instance", "rm", "--yes", "removed"]).ok();
        assert!(creating() > 0, "the commands waited for all of them");
    });
}
