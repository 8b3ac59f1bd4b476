//! The daemon is killed at random moments under load: no acknowledged write is lost, and there are
//! no leftovers.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Engine, RandomDelays, Session, eventually, poll};

use crate::docker::containers;
use crate::{daemon, daemon_on};

/// The load on a daemon.
struct Storm {
    /// The number of clients.
    clients: usize,
    /// The number of kills.
    kills: u32,
    /// The longest time between two kills, in milliseconds.
    calm: u64,
}

/// Per instance, the highest number whose insert was acknowledged.
type Told = Mutex<BTreeMap<String, u64>>;

/// Connects to new and existing instances and inserts numbers until it is stopped.
fn work(config: &tokio_postgres::Config, client: usize, told: &Told, stop: &AtomicBool) {
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        // Each name is used three times: created, found again, found again. Then the client's first one,
        // which may have been stopped meanwhile.
        let number = if round % 4 == 3 { 0 } else { round / 4 };
        let name = format!("c{client}-{number}");
        let mut config = config.clone();
        config.user(format!("instance:{name},gitref:main"));
        let Ok(session) = Session::connect(&config) else {
            continue;
        };
        note(told, &name, 0);
        insert(&session, &name, told);
    }
}

fn insert(session: &Session, name: &str, told: &Told) {
    if session
        .query("create table if not exists told (n bigint)")
        .is_err()
    {
        return;
    }
    for _ in 0..20 {
        let sql = "insert into told select coalesce(max(n), 0) + 1 from told returning n";
        match session.query(sql) {
            Ok(rows) => {
                let number = rows[0][0].as_deref().and_then(|n| n.parse().ok());
                note(told, name, number.expect("a number is returned"));
            }
            Err(_) => return,
        }
    }
}

fn note(told: &Told, name: &str, number: u64) {
    let mut told = told.lock().expect("no client panics");
    let entry = told.entry(name.to_owned()).or_default();
    *entry = number.max(*entry);
}

/// Every acknowledged instance has every acknowledged number.
fn check(daemon: &Daemon, told: &BTreeMap<String, u64>) {
    for (name, &number) in told {
        let session = daemon.connect(&format!("instance:{name}"));
        if number > 0 {
            let found: u64 = session
                .one("select count(*) from told")
                .parse()
                .expect("a count is a number");
            assert!(
                found >= number,
                "{name}: {found} rows, {number} were acknowledged"
            );
        }
    }
}

/// Kills the daemon at random moments under load, and checks that no acknowledged write is lost
/// and that no directory is left over.
fn weather(daemon: &Daemon, storm: &Storm) {
    // A server that was stopping when its daemon was killed exits while the next daemon runs.
    daemon.expect_log("exited unexpectedly");
    let config = daemon.config("");
    let (told, stop) = (Told::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for client in 0..storm.clients {
            let (config, told, stop) = (&config, &told, &stop);
            scope.spawn(move || work(config, client, told, stop));
        }
        let mut delays = RandomDelays::new();
        for _ in 0..storm.kills {
            std::thread::sleep(delays.milliseconds(100, storm.calm));
            daemon.kill9();
            daemon.start();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let told = told.into_inner().expect("no client panics");
    assert!(
        told.len() >= storm.clients,
        "the clients got nowhere: {told:?}"
    );
    check(daemon, &told);
    let known = daemon.json(&["instance", "ls"]);
    let known = known.as_array().map_or(0, Vec::len);
    eventually(
        "each directory has its instance",
        Duration::from_secs(30),
        || {
            let count =
                |name: &str| std::fs::read_dir(daemon.root().join(name)).map_or(0, Iterator::count);
            count("instances") == known && count("trash") == 0
        },
    );
}

#[test]
fn daemon_killed_at_random_moments_loses_nothing_and_leaves_no_leftovers() {
    let daemon = daemon().limit("instance_idle_timeout", "400ms").start();
    let storm = Storm {
        clients: 4,
        kills: 6,
        calm: 1200,
    };
    weather(&daemon, &storm);
}

#[test]
fn daemon_killed_at_random_moments_loses_nothing_in_containers() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .limit("instance_idle_timeout", "400ms")
        .start();
    let storm = Storm {
        clients: 2,
        kills: 5,
        calm: 2000,
    };
    weather(&daemon, &storm);
    // Each instance stops when idle, and its container is removed. An unknown one would stay.
    poll("no container is left", Duration::from_secs(60), || {
        let left = containers(&daemon);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let states = daemon.json(&["status"])["instances"].to_string();
    assert!(!states.contains("failed"), "{states}");
}
