//! Requests that are malformed, too large or too slow, and the form of errors.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::Served;

/// Requests, their bodies, and the status and code of their answers.
const REFUSED: [(&str, &str, &str); 15] = [
    ("GET /v1/instances/no-such", "", "404 no_such_instance"),
    ("GET /v1/instances/a%00b", "", "400 invalid_argument"),
    ("GET /v1/instances/%2e%2e%2fa", "", "400 invalid_argument"),
    ("GET /v1/instances/%ff", "", "400 invalid_argument"),
    ("GET /v1/instances/../status", "", "404 no_such_path"),
    ("GET /v1/instances?limit=-1", "", "400 invalid_argument"),
    ("GET /v1/jobs/x", "", "400 invalid_argument"),
    ("GET /v1/nowhere", "", "404 no_such_path"),
    ("POST /v1/instances/a/explode", "{}", "404 no_such_path"),
    ("PUT /v1/instances/a", "{}", "405 method_not_allowed"),
    ("HEAD /v1/status", "", "405"),
    ("TRACE /v1/status", "", "405 method_not_allowed"),
    ("POST /v1/instances", "{}", "400 invalid_argument"),
    ("POST /v1/instances", "[", "400 invalid_argument"),
    ("DELETE /v1/snapshots/monday", "", "409 snapshot_in_use"),
];

#[test]
fn errors_are_problems_with_a_code() {
    let served = Served::secured(|daemon| daemon);
    let root = served.of("root");
    root.post("/v1/instances", &json!({"name": "a", "snapshot": "monday"}))
        .expect(200);
    for (request, body, expected) in REFUSED {
        let (method, path) = request.split_once(' ').expect("it is written so");
        let (status, code) = expected.split_once(' ').unwrap_or((expected, ""));
        let status: u16 = status.parse().expect("it is written so");
        let body = (!body.is_empty()).then(|| body.to_owned());
        let refused = root.ask(method, path, body);
        assert_eq!(refused.status, status, "{method} {path}: {refused:?}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
        if code.is_empty() {
            continue;
        }
        let problem = refused.json();
        assert_eq!(problem["code"], code, "{method} {path}: {refused:?}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["detail"].is_string() && problem["title"].is_string());
    }
    let wrong = root.ask("PUT", "/v1/instances/a", None);
    assert_eq!(wrong.header("allow"), "DELETE, GET");
    let long = root.ask("POST", "/v1/instances", Some("x".repeat(70_000)));
    assert_eq!(long.expect(413)["code"], "body_too_large");
    let form = root.clone().header("Content-Type", "text/plain");
    let refused = form.ask("POST", "/v1/instances", Some("{}".to_owned()));
    assert_eq!(refused.expect(415)["code"], "unsupported_media_type");
    // The admin socket's form is as it was.
    let shown = served.daemon.cli(&["instance", "show", "no-such"]);
    assert!(
        shown.stderr.contains("hint: \"multidb instance ls\""),
        "{shown:?}"
    );
}

#[test]
fn slow_and_malformed_clients_are_disconnected_and_others_served() {
    let served = Served::trusting(|daemon| daemon);
    let port = served.port.number();
    let connect = |sent: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
        let limit = Some(Duration::from_secs(60));
        stream
            .set_read_timeout(limit)
            .expect("a timeout can be set");
        stream.write_all(sent).expect("it reads");
        stream
    };
    let slow_heads: Vec<_> = (0..200)
        .map(|_| connect(b"GET /healthz HTTP/1.1\r\nHost: "))
        .collect();
    let body = b"POST /v1/instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    let slow_bodies: Vec<_> = (0..50).map(|_| connect(body)).collect();
    let huge = [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ".as_slice(),
        &[b'x'; 300_000],
    ]
    .concat();
    for malformed in [
        b"GET /\0 HTTP/1.1\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x00\xff",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/instances HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/instances HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ] {
        let mut stream = connect(malformed);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    let _ = stream.write_all(&huge);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 2"));
    served.plain().get("/v1/status").expect(200);
    for mut stream in slow_heads {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"));
    }
    for mut stream in slow_bodies {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert_eq!(served.plain().get("/v1/instances").expect(200), json!([]));
}
