//! Connections that hold on: slow heads, slow bodies, and silence of one address do not keep another one out.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use multidb_integration_tests::{HttpClient, raise_file_limit};

use tokio::time::Instant;

use super::Served;

/// As of `http/connections.rs`.
const OPEN_MAX: usize = 768;
pub(super) const CLOSED: &str = "too many connections to the API and the web page";
const SLOW_HEAD: &[u8] = b"GET /v1/status HTTP/1.1\r\nHost: ";
const SLOW_BODY: &[u8] =
    b"POST /v1/instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Content-Length: 9\r\n\r\n{";
const SLOW_FORM: &[u8] = b"POST /login HTTP/1.1\r\nHost: localhost\r\n\
    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nu";
const KEPT_ALIVE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Connections from another address than that of [`HttpClient`].
pub(super) fn hold(port: u16, count: usize, sent: &[u8]) -> Vec<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let connect = || async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
        let stream = socket
            .connect(SocketAddr::from(([127, 0, 0, 1], port)))
            .await?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok::<_, std::io::Error>(stream)
    };
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = runtime.block_on(connect()).expect("it accepts");
        // It may be closed for the next one already.
        let _ = stream.write_all(sent);
        held.push(stream);
    }
    held
}

/// The longest that an answer takes now.
pub(super) fn longest(client: &HttpClient, path: &str) -> Duration {
    let waited = (0..5).map(|_| {
        let asked = Instant::now();
        client.get(path).expect(200);
        asked.elapsed()
    });
    waited.max().unwrap_or_default()
}

#[test]
fn one_address_with_slow_requests_keeps_no_other_out() {
    raise_file_limit();
    let served = Served::trusting(|daemon| daemon);
    served.daemon.expect_log(CLOSED);
    let port = served.port.number();
    let mut held = Vec::new();
    for sent in [SLOW_HEAD, SLOW_BODY, SLOW_FORM, KEPT_ALIVE, b""] {
        held.extend(hold(port, 400, sent));
        let waited = longest(&served.plain(), "/v1/status");
        assert!(waited < Duration::from_secs(10), "{waited:?}");
    }
    served.daemon.wait_log(CLOSED);
    assert!(held.len() > 2 * OPEN_MAX);
}

#[test]
fn one_address_that_says_nothing_before_tls_keeps_no_other_out() {
    raise_file_limit();
    let served = Served::secured(|daemon| daemon);
    let _held = hold(served.port.number(), 2_000, b"");
    let waited = longest(&served.of("alice"), "/v1/instances");
    assert!(waited < Duration::from_secs(20), "{waited:?}");
}
