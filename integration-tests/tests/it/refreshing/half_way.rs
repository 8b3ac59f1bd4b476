//! A physical copy of which a part has come: its progress, and its leftovers when the daemon dies or the disk is full.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use multidb_integration_tests::{Daemon, PlainPostgres, poll};
use serde_json::Value;

use super::faults::assert_nothing_left;
use super::{COUNT, SECTION, answer, daemon, source};

const TIMEOUT: Duration = Duration::from_secs(60);
/// The bytes that come of a copy, which has some tens of megabytes.
const HALF_BYTES: u64 = 8 << 20;

/// A way to a server on which a copy comes to a halt half-way, until it is released.
struct HalfWay {
    port: u16,
    state: Arc<State>,
}

struct State {
    /// The bytes that may still come from the server.
    left: Mutex<u64>,
    released: Condvar,
}

impl HalfWay {
    fn to(source: &PlainPostgres) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has one").port();
        let state = Arc::new(State {
            left: Mutex::new(HALF_BYTES),
            released: Condvar::new(),
        });
        let (of_threads, server) = (state.clone(), source.port());
        // It ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let clones = (client.try_clone(), server.try_clone());
                let (Ok(from_client), Ok(to_server)) = clones else {
                    continue;
                };
                let state = of_threads.clone();
                thread::spawn(move || relay(from_client, to_server, |_| {}));
                thread::spawn(move || relay(server, client, |bytes| state.wait_for(bytes)));
            }
        });
        Self { port, state }
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/app", self.port)
    }

    fn release(&self) {
        *self.state.left.lock().expect("nobody panicked") = u64::MAX;
        self.state.released.notify_all();
    }
}

impl State {
    /// Waits until these bytes may come.
    fn wait_for(&self, bytes: usize) {
        let left = self.left.lock().expect("nobody panicked");
        let bytes = bytes as u64;
        let mut left = self
            .released
            .wait_while(left, |left| *left < bytes)
            .expect("nobody panicked");
        *left -= bytes;
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, before: impl Fn(usize)) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        before(read);
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Waits until about half has come, and returns the job.
fn wait_half_way(daemon: &Daemon, job: &Value) -> Value {
    let id = job["id"].to_string();
    poll("a part of the copy has come", TIMEOUT, || {
        let shown = daemon.json(&["job", "show", &id]);
        match shown["bytes_done"].as_u64() {
            Some(bytes) if bytes > HALF_BYTES / 2 => Ok(shown),
            _ => Err(shown),
        }
    })
}

fn refresh(daemon: &Daemon) -> Value {
    daemon.json(&["snapshot", "refresh", "--project", "demo", "--detach"])
}

#[test]
fn progress_of_a_physical_copy_is_told_in_bytes() {
    let source = source();
    let way = HalfWay::to(&source);
    let daemon = daemon()
        .without_snapshots()
        .set(SECTION, "source", &way.url())
        .start();
    let job = refresh(&daemon);
    let shown = wait_half_way(&daemon, &job);
    assert_eq!(shown["step"], "copying from the server");
    let size = "select sum(pg_database_size(oid)) from pg_database";
    let total = source
        .psql("app", size)
        .ok()
        .parse::<u64>()
        .expect("it is a number");
    assert_eq!(shown["bytes_total"], total, "{shown}");
    assert!(shown["bytes_done"].as_u64() < Some(total), "{shown}");
    way.release();
    let ended = daemon.json(&["job", "wait", &job["id"].to_string()]);
    assert_eq!(ended["state"], "done", "{ended}");
    let id = ended["snapshot"].as_str().expect("it has one");
    assert_eq!(answer(&daemon, id, COUNT), "1000");
}

#[test]
fn daemon_that_dies_during_a_physical_copy_leaves_the_last_snapshot_and_no_program() {
    let source = source();
    let way = HalfWay::to(&source);
    let daemon = daemon().set(SECTION, "source", &way.url()).start();
    let ids = || {
        let listed = daemon.json(&["snapshot", "ls"]);
        let listed = listed.as_array().cloned().unwrap_or_default();
        listed
            .iter()
            .map(|one| one["id"].clone())
            .collect::<Vec<_>>()
    };
    let before = ids();
    let job = refresh(&daemon);
    wait_half_way(&daemon, &job);
    daemon.kill9();
    way.release();
    poll("pg_basebackup has ended", TIMEOUT, || {
        let senders = "select count(*) from pg_stat_activity where backend_type = 'walsender'";
        match source.psql("app", senders).ok() {
            "0" => Ok(()),
            some => Err(some.to_owned()),
        }
    });
    daemon.start();
    let failed = daemon.json(&["job", "show", &job["id"].to_string()]);
    assert_eq!(failed["error"]["code"], "daemon_stopped");
    assert_nothing_left(&daemon);
    assert_eq!(ids(), before);
    // Nothing is in the way of the next one.
    daemon
        .cli(&["snapshot", "refresh", "--project", "demo"])
        .ok();
}

#[test]
fn physical_copy_that_fills_the_disk_leaves_nothing() {
    let source = source();
    let url = super::url(&source);
    for reserve in ["16MiB", "0B"] {
        let daemon = daemon()
            .without_snapshots()
            .small_disk(512 << 20)
            .limit("disk_reserve", reserve)
            .set(SECTION, "source", &url)
            .start();
        let filler = daemon.root().join("filler");
        let free_bytes = || {
            let stat = rustix::fs::statvfs(daemon.root()).expect("it is mounted");
            stat.f_bavail * stat.f_frsize
        };
        let free = free_bytes();
        // Less than the source has is left.
        let file = std::fs::File::create(&filler).expect("it can be made");
        rustix::fs::fallocate(
            &file,
            rustix::fs::FallocateFlags::empty(),
            0,
            free - (28 << 20),
        )
        .expect("there is room");
        let failed = daemon.cli(&["snapshot", "refresh", "--project", "demo"]);
        assert_eq!(failed.code, Some(1), "{failed:?}");
        let said = failed.stderr.to_lowercase();
        assert!(
            said.contains("no disk space") || said.contains("no space left on device"),
            "{failed:?}"
        );
        assert_nothing_left(&daemon);
        drop(file);
        std::fs::remove_file(filler).expect("it can be removed");
        // XFS frees the blocks of a removed file in the background.
        poll("the room is free again", TIMEOUT, || match free_bytes() {
            bytes if bytes >= free - (16 << 20) => Ok(()),
            bytes => Err(bytes),
        });
        daemon
            .cli(&["snapshot", "refresh", "--project", "demo"])
            .ok();
    }
}
