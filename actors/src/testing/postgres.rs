//! A fake Postgres with the part of the protocol that a proxy meets: logins, cancel requests, and
//! queries that are answered, begin a transaction (`begin`), run until they are cancelled (`sleep`),
//! or send rows without end (`flood`).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::lock;
use crate::ports::Endpoint;
use crate::wire::{StartupMessage, StartupRequest, decode_frame, decode_startup};

/// The longest message that a test sends.
const BODY_LENGTH_MAX: u32 = 1 << 20;

/// The outcome of one login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Login {
    /// It succeeds.
    #[default]
    Accept,
    /// It is answered with an error of this SQLSTATE and message.
    Refuse(&'static str, &'static str),
    /// It asks for a password.
    AskPassword,
    /// The connection is closed without an answer.
    HangUp,
    /// There is never an answer.
    Hang,
    /// These bytes are sent again and again.
    Flood(&'static [u8]),
}

/// A server on its own Unix socket. Its backends have the process ids 1000, 1001 and so on, and their
/// secrets are four bytes of 7.
pub struct FakePostgres {
    /// The address of the socket.
    pub endpoint: Endpoint,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
    _directory: tempfile::TempDir,
}

#[derive(Default)]
struct Shared {
    logins: Mutex<VecDeque<Login>>,
    startups: Mutex<Vec<StartupMessage>>,
    queries: Mutex<Vec<String>>,
    cancelled: Mutex<Vec<i32>>,
    running: Mutex<HashMap<i32, oneshot::Sender<()>>>,
    backends: Mutex<HashMap<i32, oneshot::Sender<()>>>,
    terminates: Mutex<usize>,
}

impl FakePostgres {
    /// Accepts connections on this thread until it is dropped.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).expect("a new path can be bound");
        let shared = Arc::new(Shared::default());
        let accepting = tokio::task::spawn_local({
            let shared = shared.clone();
            async move {
                let mut backends = tokio::task::JoinSet::new();
                for process_id in 1000.. {
                    let Ok((socket, _)) = listener.accept().await else {
                        return;
                    };
                    backends.spawn_local(serve(socket, process_id, shared.clone()));
                }
            }
        });
        Self {
            endpoint: Endpoint::Unix(path),
            shared,
            _accepting: AbortOnDropHandle::new(accepting),
            _directory: directory,
        }
    }

    /// Sets the outcomes of the next logins; later ones succeed.
    pub fn plan(&self, logins: impl IntoIterator<Item = Login>) {
        lock(&self.shared.logins).extend(logins);
    }

    /// The received startup packets, in order.
    pub fn startups(&self) -> Vec<StartupMessage> {
        lock(&self.shared.startups).clone()
    }

    /// The received queries, in order.
    pub fn queries(&self) -> Vec<String> {
        lock(&self.shared.queries).clone()
    }

    /// The process ids of the received cancel requests, in order.
    pub fn cancelled(&self) -> Vec<i32> {
        lock(&self.shared.cancelled).clone()
    }

    /// The number of received Terminate messages.
    pub fn terminates(&self) -> usize {
        *lock(&self.shared.terminates)
    }

    /// The number of backends.
    pub fn backends(&self) -> usize {
        lock(&self.shared.backends).len()
    }

    /// Ends a backend as `pg_terminate_backend` does.
    pub fn terminate(&self, process_id: i32) {
        let ended = lock(&self.shared.backends).remove(&process_id);
        if let Some(end) = ended {
            // The backend may have just ended by itself.
            let _gone = end.send(());
        }
    }
}

async fn serve(socket: UnixStream, process_id: i32, shared: Arc<Shared>) {
    let (end, ended) = oneshot::channel();
    let mut backend = Backend {
        socket,
        unread: BytesMut::new(),
        process_id,
        shared: shared.clone(),
    };
    lock(&shared.backends).insert(process_id, end);
    let terminated = tokio::select! {
        // A client that disconnects ends its backend, as in Postgres.
        _result = backend.run() => false,
        ended = ended => ended.is_ok(),
    };
    if terminated {
        let message = error(
            "57P01",
            "terminating connection due to administrator command",
        );
        // If its client does not read, a backend ends without sending its error.
        let _full = backend.socket.try_write(&message);
    }
    lock(&shared.backends).remove(&process_id);
}

struct Backend {
    socket: UnixStream,
    unread: BytesMut,
    process_id: i32,
    shared: Arc<Shared>,
}

impl Backend {
    async fn run(&mut self) -> io::Result<()> {
        let startup = loop {
            match decode_startup(&mut self.unread).map_err(io::Error::other)? {
                Some(startup) => break startup,
                None => self.read().await?,
            }
        };
        match startup {
            StartupRequest::Ssl | StartupRequest::GssEnc => {}
            StartupRequest::Cancel(request) => {
                lock(&self.shared.cancelled).push(request.process_id);
                let running = lock(&self.shared.running).remove(&request.process_id);
                drop(running);
            }
            StartupRequest::Startup(message) => {
                lock(&self.shared.startups).push(message);
                let login = lock(&self.shared.logins).pop_front().unwrap_or_default();
                if self.login(login).await? {
                    self.session().await?;
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn login(&mut self, login: Login) -> io::Result<bool> {
        match login {
            Login::Accept => {}
            Login::Refuse(sqlstate, text) => {
                self.socket.write_all(&error(sqlstate, text)).await?;
                return Ok(false);
            }
            Login::AskPassword => {
                self.socket.write_all(&message(b'R', &[0, 0, 0, 3])).await?;
                return Ok(false);
            }
            Login::HangUp => return Ok(false),
            Login::Hang => std::future::pending().await,
            Login::Flood(bytes) => loop {
                self.socket.write_all(&bytes.repeat(1000)).await?;
            },
        }
        let mut key = self.process_id.to_be_bytes().to_vec();
        key.extend([7; 4]);
        let greeting = [
            message(b'R', &[0; 4]),
            message(b'S', b"server_version\x0015.0\0"),
            message(b'K', &key),
            message(b'Z', b"I"),
        ];
        self.socket.write_all(&greeting.concat()).await?;
        Ok(true)
    }

    async fn session(&mut self) -> io::Result<()> {
        let mut status = b'I';
        loop {
            let Some(frame) =
                decode_frame(&mut self.unread, BODY_LENGTH_MAX).map_err(io::Error::other)?
            else {
                self.read().await?;
                continue;
            };
            if frame.tag == b'X' {
                *lock(&self.shared.terminates) += 1;
                return Ok(());
            }
            let query = String::from_utf8_lossy(&frame.body);
            let query = query.trim_end_matches('\0').to_owned();
            lock(&self.shared.queries).push(query.clone());
            let answer = match query.as_str() {
                "begin" => {
                    status = b'T';
                    message(b'C', b"BEGIN\0")
                }
                "sleep" => {
                    let (end, ended) = oneshot::channel::<()>();
                    lock(&self.shared.running).insert(self.process_id, end);
                    let _cancelled = ended.await;
                    error("57014", "canceling statement due to user request")
                }
                "flood" => loop {
                    self.socket.write_all(&message(b'D', &[0; 8192])).await?;
                },
                _ => message(b'C', b"SELECT 1\0"),
            };
            let answer = [answer, message(b'Z', &[status])].concat();
            self.socket.write_all(&answer).await?;
        }
    }
}

/// A message with a tag.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.put_u32(u32::try_from(body.len() + 4).expect("a test sends little"));
    message.extend(body);
    message
}

/// An ErrorResponse.
pub fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{sqlstate}\0M{text}\0\0").as_bytes())
}
