//! ConnectionActor over real loopback sockets, between a client of these tests and a fake
//! Postgres, in real time.
//!
//! Paused time would not wait for the kernel's socket events. So the limits are short, and a test waits for
//! a condition, not for time to pass.

mod authenticate;
mod cancel;
mod console;
mod ending;
mod full;
mod handshake;
mod idle;
mod login;
mod tls;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use multidb_store::Phase;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::ports::FoundServers;
use crate::sessions::{EndConnection, EndReason, SessionState};
use crate::supervisor::Restore;
use crate::testing::{FakeConsole, FakePostgres, FakeProbe, Harness, limits, message, record};
use crate::wire::{Frame, decode_frame};

/// The limit for each condition that a test waits for.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest message that a test reads.
const BODY_LENGTH_MAX: u32 = 1 << 20;

/// The actors with two instances, `a` and `b`, that are stopped.
struct Fixture {
    actors: Harness,
    postgres: FakePostgres,
    probe: Arc<FakeProbe>,
    console: Arc<FakeConsole>,
    deps: ConnectionDeps,
    next: AtomicU64,
}

/// A client's end of a connection.
struct Client<S = TcpStream> {
    socket: S,
    unread: BytesMut,
    /// The actor at the other end.
    actor: Addr<ConnectionActor>,
    /// Resolves with an error when the actor has ended.
    ended: oneshot::Receiver<()>,
}

impl Fixture {
    async fn new(limits: Limits) -> Self {
        let actors = Harness::new(limits.clone());
        let postgres = FakePostgres::start();
        let endpoint = postgres.endpoint.clone();
        actors.runtime.endpoints.lock().unwrap().push_back(endpoint);
        let records = vec![record("a", 1, Phase::Ready), record("b", 2, Phase::Ready)];
        let restore = Restore {
            instances: records.into_iter().map(crate::testing::recovered).collect(),
            found: FoundServers::default(),
            leftovers: Vec::new(),
        };
        actors.supervisor.send(restore).await.unwrap();
        let probe = Arc::new(FakeProbe::default());
        let console = Arc::new(FakeConsole::default());
        let deps = ConnectionDeps {
            supervisor: actors.supervisor.clone(),
            index: actors.index.clone(),
            probe: probe.clone(),
            activities: Activities::new(probe.clone()),
            sessions: SessionTable::default(),
            admission: AdmissionControl::new(&limits),
            limits: Arc::new(limits),
            console: console.clone(),
            method: Method::Trust,
            tls: None,
            default_user: "staff".to_owned(),
            clock: actors.clock.clone(),
            metrics: actors.metrics.clone(),
        };
        Self {
            actors,
            postgres,
            probe,
            console,
            deps,
            next: AtomicU64::new(1),
        }
    }

    async fn connect(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap());
        let socket = socket.await.unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let permit = self.deps.admission.admit("peer").await;
        let actor = ConnectionActor::launch(
            ConnectionId(self.next.fetch_add(1, Ordering::Relaxed)),
            peer.to_string().into(),
            DetachedSocket::Tcp(accepted),
            permit,
            self.deps.clone(),
        );
        let (alive, ended) = oneshot::channel();
        tokio::task::spawn_local({
            let actor = actor.clone();
            async move {
                while actor.connected() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                drop::<oneshot::Sender<()>>(alive);
            }
        });
        Client {
            socket,
            unread: BytesMut::new(),
            actor,
            ended,
        }
    }

    /// Opens a session with this user name.
    async fn session(&self, user: &str) -> Client {
        let mut client = self.connect().await;
        client.send(&startup(&[("user", user)])).await;
        let tags = client.until_ready().await;
        assert!(tags.starts_with('R'), "{tags}");
        client
    }

    /// Waits until the probe was called this many times.
    async fn until_probed(&self, times: usize) {
        eventually(|| self.probe.asked.lock().unwrap().len() >= times).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    async fn query(&mut self, query: &str) {
        self.send(&message(b'Q', format!("{query}\0").as_bytes()))
            .await;
    }

    /// Reads the next message; `None` at the end of the connection.
    async fn message(&mut self) -> Option<Frame> {
        let reading = async {
            loop {
                if let Some(frame) = decode_frame(&mut self.unread, BODY_LENGTH_MAX).unwrap() {
                    return Some(frame);
                }
                if self.socket.read_buf(&mut self.unread).await.ok()? == 0 {
                    assert!(self.unread.is_empty(), "half a message: {:?}", self.unread);
                    return None;
                }
            }
        };
        tokio::time::timeout(TIMEOUT, reading).await.unwrap()
    }

    /// Reads up to ReadyForQuery, and returns the tags of all messages.
    async fn until_ready(&mut self) -> String {
        let mut tags = String::new();
        while !tags.ends_with('Z') {
            let frame = self.message().await;
            let frame = frame.unwrap_or_else(|| panic!("closed after {tags}"));
            assert_ne!(frame.tag, b'E', "{:?}", frame.body);
            tags.push(char::from(frame.tag));
        }
        tags
    }

    /// Reads an error and the end of the connection, and returns the SQLSTATE.
    async fn refusal(&mut self) -> String {
        let error = self.message().await.expect("an error comes");
        assert_eq!(error.tag, b'E', "{:?}", error.body);
        assert!(self.message().await.is_none());
        sqlstate(&error)
    }

    /// Reads all bytes up to the end of the connection.
    async fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = self.socket.read_to_end(&mut rest);
        tokio::time::timeout(TIMEOUT, read).await.unwrap().unwrap();
        rest
    }

    /// Asserts that the session answers a query.
    async fn answers(&mut self) {
        self.query("select 1").await;
        assert_eq!(self.until_ready().await, "CZ");
    }

    /// Waits until the connection's actor has ended.
    async fn until_closed(self) {
        let ended = tokio::time::timeout(TIMEOUT, self.ended).await;
        assert!(ended.expect("its actor ends").is_err());
    }
}

/// A startup packet of protocol 3.0.
fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    packet(&body)
}

/// A packet without a tag.
fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes(), body].concat()
}

/// A request with a code in place of a version: 5678 cancels, 5679 requests TLS, 5680 GSSAPI.
fn request(code: u16, body: &[u8]) -> Vec<u8> {
    let code = code.to_be_bytes();
    packet(&[&[0x04, 0xD2, code[0], code[1]], body].concat())
}

fn cancel_request(process_id: i32) -> Vec<u8> {
    request(5678, &[&process_id.to_be_bytes()[..], &[7; 4]].concat())
}

fn sqlstate(error: &Frame) -> String {
    let fields = error.body.split(|byte| *byte == 0);
    let field = fields.into_iter().find(|field| field.starts_with(b"C"));
    String::from_utf8(field.expect("it has a SQLSTATE")[1..].to_vec()).unwrap()
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting)
        .await
        .expect("it happens");
}

/// Runs a test with these limits changed.
fn run_test<F: Future<Output = ()>>(
    change: impl FnOnce(&mut Limits),
    test: impl FnOnce(Fixture) -> F,
) {
    let mut limits = limits();
    change(&mut limits);
    System::new().block_on(async { test(Fixture::new(limits).await).await });
}
