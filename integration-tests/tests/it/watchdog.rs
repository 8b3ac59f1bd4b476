//! A daemon that cannot work any more ends: by itself, or by systemd's watchdog, which its Supervisor feeds.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use multidb_integration_tests::{Daemon, WallClock, eventually, postmaster_pid};
use rustix::process::Signal;

use crate::daemon;

/// The service manager's side of a service of `Type=notify`: its messages, which a thread reads all the time.
struct ServiceManager(Receiver<String>);

impl ServiceManager {
    /// Starts the daemon as a service with this `WatchdogSec=`.
    fn start(daemon: &Daemon, watchdog: Duration) -> Self {
        let path = daemon.dir().join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                let message = String::from_utf8_lossy(&bytes[..length]);
                if sender.send(message.trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        daemon.start_with(&[
            ("NOTIFY_SOCKET", path.to_str().expect("it is text")),
            ("WATCHDOG_USEC", &watchdog.as_micros().to_string()),
        ]);
        Self(messages)
    }

    #[track_caller]
    fn next(&self) -> String {
        let message = self.0.recv_timeout(Duration::from_secs(60));
        message.expect("the daemon sends a message")
    }
}

#[test]
fn watchdog_is_fed_while_the_daemon_works_and_while_it_stops() {
    let daemon = daemon().prepare();
    let manager = ServiceManager::start(&daemon, Duration::from_millis(200));
    assert_eq!(manager.next(), "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    let session = daemon.connect("instance:a,gitref:main");
    let query = session.start("select pg_sleep(3)");
    eventually("the query runs", Duration::from_secs(30), || {
        daemon.connect("instance:a").one(
            "select count(*) from pg_stat_activity where query like '%pg_sleep(3)%' and pid <> pg_backend_pid()",
        ) == "1"
    });
    daemon.signal(Signal::TERM);
    while manager.next() != "STOPPING=1" {}
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    query.wait().expect("the query gets its time");
    assert!(daemon.wait_exit().success());
}

#[test]
fn daemon_whose_supervisor_panics_ends_and_the_next_one_takes_its_servers_over() {
    // With it the Supervisor reads the clock every second.
    let daemon = daemon().limit("expiry_grace", "10s").prepare();
    let clock = WallClock::new(daemon.dir());
    daemon.start_with(&clock.environment());
    let session = daemon.connect("instance:a,gitref:main");
    session
        .query("create table kept as select 1 as x")
        .expect("it is writable");
    let postgres = postmaster_pid(&daemon.data_dir("a")).expect("it runs");
    daemon
        .expect_log("report this defect")
        .expect_log("panicked");
    clock.set_ahead_days(WallClock::DAYS_OUT_OF_RANGE);
    assert_eq!(daemon.wait_exit().code(), Some(70), "{}", daemon.log());
    assert!(daemon.log().contains("the supervisor"), "{}", daemon.log());
    session.wait_end(Duration::from_secs(10));
    clock.set_ahead_days(0);
    daemon.start_with(&clock.environment());
    assert_eq!(postmaster_pid(&daemon.data_dir("a")), Some(postgres));
    assert_eq!(daemon.connect("instance:a").one("select x from kept"), "1");
}
