//! Requests that come while no daemon runs, on a socket that systemd holds.

use std::thread;

use multidb_integration_tests::HeldSockets;

use super::Served;

#[test]
fn requests_that_come_while_no_daemon_runs_wait_for_the_next() {
    let served = Served::prepare(|daemon| daemon);
    let sockets = HeldSockets::of(&served.daemon).and(served.port.number());
    served.daemon.start_with_sockets(&sockets);
    let client = served.plain();
    client.get("/v1/status").expect(200);
    assert!(served.daemon.stop().success());
    thread::scope(|scope| {
        let waiting = [(); 8].map(|()| scope.spawn(|| client.get("/v1/status").status));
        served.daemon.start_with_sockets(&sockets);
        for request in waiting {
            assert_eq!(request.join().expect("it was answered"), 200);
        }
    });
    let log = served.daemon.log();
    let address = format!("127.0.0.1:{}", served.port.number());
    let taken = log.lines().filter(|line| {
        line.contains("systemd hands over this listener") && line.contains(&address)
    });
    assert_eq!(taken.count(), 2, "{log}");
}
