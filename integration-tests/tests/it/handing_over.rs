//! Sockets that systemd holds: clients wait while the daemon restarts, and none is refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use multidb_integration_tests::{Daemon, HeldSockets, PgFailure, Session};
use tokio_postgres::Config;

use crate::daemon;

/// The clients that connect again and again during the restart.
const CLIENTS: usize = 200;

fn prepared() -> Daemon {
    let builder = daemon().set_raw("postgres.settings", "max_connections", "400");
    builder.limit("shutdown_grace", "1s").prepare()
}

#[expect(
    clippy::disallowed_methods,
    reason = "no clock is paused here: the daemon is another process"
)]
fn now() -> Instant {
    Instant::now()
}

fn row(config: &Config) -> Result<(), PgFailure> {
    Session::connect(config)?.query("select 1").map(drop)
}

/// Connects until a connection that began after the restart has a row. The longest time to a row, and the connections
/// that the end of the old daemon ended.
fn client(config: &Config, stopped: &AtomicBool, restarted: &AtomicBool) -> (Duration, usize) {
    let (mut longest, mut ended) = (Duration::ZERO, 0);
    loop {
        let is_after = stopped.load(Ordering::SeqCst);
        let is_last = restarted.load(Ordering::SeqCst);
        let begun = now();
        match row(config) {
            Ok(()) => longest = longest.max(begun.elapsed()),
            Err(failure) => {
                let is_told = failure.sqlstate() == "57P01";
                assert!(is_told && !is_after, "refused: {failure:?}");
                ended += 1;
            }
        }
        if is_last {
            return (longest, ended);
        }
    }
}

#[test]
fn no_client_is_refused_while_the_daemon_restarts() {
    let daemon = prepared();
    let sockets = HeldSockets::of(&daemon);
    daemon.start_with_sockets(&sockets);
    let config = daemon.config("instance:a,gitref:main");
    row(&config).expect("the instance is made");
    let (stopped, restarted) = (AtomicBool::new(false), AtomicBool::new(false));
    let seen: Vec<(Duration, usize)> = thread::scope(|scope| {
        let run = || client(&config, &stopped, &restarted);
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(run)).collect();
        assert!(daemon.stop().success());
        stopped.store(true, Ordering::SeqCst);
        daemon.start_with_sockets(&sockets);
        restarted.store(true, Ordering::SeqCst);
        let ended = clients.into_iter().map(|client| client.join());
        ended.map(|seen| seen.expect("none is refused")).collect()
    });
    let longest = seen.iter().map(|(longest, _)| *longest).max();
    let ended: usize = seen.iter().map(|(_, ended)| ended).sum();
    report(longest.unwrap_or_default(), ended);
    let log = daemon.log();
    assert_eq!(
        log.matches("systemd hands over this listener").count(),
        4,
        "{log}"
    );
}

#[expect(clippy::print_stdout, reason = "docs/figures.md has it")]
fn report(longest: Duration, ended: usize) {
    println!(
        "{CLIENTS} clients: the longest waited {longest:?}; {ended} connections were ended with 57P01"
    );
}

#[test]
fn clients_that_come_while_no_daemon_runs_wait_on_both_sockets() {
    let daemon = prepared();
    let sockets = HeldSockets::of(&daemon);
    daemon.start_with_sockets(&sockets);
    let tcp = daemon.config("instance:a,gitref:main");
    let mut unix = Config::new();
    unix.host_path(daemon.dir()).port(daemon.port());
    unix.user("instance:a").dbname("app");
    row(&tcp).and_then(|()| row(&unix)).expect("it serves both");
    assert!(daemon.stop().success());
    assert!(daemon.unix_listener().exists(), "the socket is systemd's");
    thread::scope(|scope| {
        let waiting = [&tcp, &unix].map(|config| scope.spawn(move || row(config)));
        daemon.start_with_sockets(&sockets);
        for client in waiting {
            client.join().expect("no panic").expect("it was served");
        }
    });
}

#[test]
fn sockets_that_listen_does_not_name_are_refused() {
    let daemon = prepared();
    let sockets = HeldSockets::of(&daemon);
    let listener = format!(", \"{}\"", daemon.unix_listener().display());
    daemon.reconfigure(&listener, "");
    daemon.launch_with_sockets(&sockets);
    assert_eq!(daemon.wait_exit().code(), Some(1));
    let log = daemon.log();
    assert!(log.contains("which no `listen` names"), "{log}");
}
