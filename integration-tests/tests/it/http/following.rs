//! Streams of a job's events: as many as a user may have, by clients that leave, and by a flood of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use multidb_integration_tests::{Daemon, poll, raise_file_limit};

use super::Served;
use super::holding::{CLOSED, hold, longest};

/// As of `admin/server/events.rs`.
const STREAMS_MAX: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(60);

/// A job that goes on until it is cancelled: an import that waits for the rest of its dump.
struct Job {
    id: u64,
    import: Child,
}

impl Job {
    fn start(daemon: &Daemon) -> Self {
        let mut import = daemon.cli_command(&Daemon::import_args("x", &["--dump", "-"]));
        import
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let import = import.spawn().expect("multidb can be run");
        let id = poll("the import has begun", TIMEOUT, || {
            let jobs = daemon.json(&["job", "ls"]);
            let id = jobs[0]["id"].as_u64();
            id.ok_or(jobs)
        });
        Self { id, import }
    }

    /// The request of a browser that follows it. A refusal leaves the connection open if it is to be kept.
    fn request(&self, connection: &str) -> String {
        let id = self.id;
        format!(
            "GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\nAccept: text/event-stream\r\n\r\n"
        )
    }

    fn cancel(mut self, daemon: &Daemon) {
        daemon.cli(&["job", "cancel", &self.id.to_string()]).ok();
        self.import.wait().expect("it ends");
    }
}

/// Reads the first event, or the whole refusal.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n\n\r\n") && !answer.ends_with(b"}") {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).expect("it answers");
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&bytes[..read]);
    }
    String::from_utf8(answer).expect("it is a text")
}

#[test]
fn events_are_streamed_to_so_many_clients_and_one_that_leaves_is_noticed() {
    let served = Served::trusting(|daemon| daemon);
    let job = Job::start(&served.daemon);
    let open = || {
        let port = served.port.number();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
        let limit = Some(Duration::from_secs(30));
        stream
            .set_read_timeout(limit)
            .expect("a timeout can be set");
        let request = job.request("close");
        stream.write_all(request.as_bytes()).expect("it reads");
        let answer = read_answer(&mut stream);
        (stream, answer)
    };
    let mut streams: Vec<_> = (0..STREAMS_MAX).map(|_| open()).collect();
    for (_, answer) in &streams {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains("content-type: text/event-stream"),
            "{answer}"
        );
        assert!(answer.contains("event: job\ndata: {\"id\":"), "{answer}");
    }
    let (_, refused) = open();
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    streams.pop();
    poll("there is a stream more", Duration::from_secs(30), || {
        let (stream, answer) = open();
        if answer.starts_with("HTTP/1.1 200") {
            Ok(stream)
        } else {
            Err(answer)
        }
    });
    job.cancel(&served.daemon);
    let (mut first, _) = streams.swap_remove(0);
    let mut rest = String::new();
    first.read_to_string(&mut rest).ok();
    assert!(rest.contains("event: end\n"), "{rest}");
}

#[test]
fn thousand_event_streams_of_one_address_harm_nobody() {
    raise_file_limit();
    let served = Served::trusting(|daemon| daemon);
    let daemon = &served.daemon;
    daemon.expect_log(CLOSED);
    let session = daemon.connect("instance:other,snapshot:monday");
    let job = Job::start(daemon);
    let streams = hold(
        served.port.number(),
        1_000,
        job.request("keep-alive").as_bytes(),
    );
    let waited = longest(&served.plain(), "/v1/status");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    daemon.wait_log(CLOSED);
    assert_eq!(session.one("select 1"), "1");
    let shown = daemon.json(&["job", "show", &job.id.to_string()]);
    assert_eq!(shown["state"], "running", "{shown}");
    drop(streams);
    job.cancel(daemon);
    assert_eq!(session.one("select 1"), "1");
}
