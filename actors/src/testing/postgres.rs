//! A fake Postgres with the part of the protocol that a proxy meets: logins, cancel requests, and
//! queries that are answered, begin a transaction (`begin`), run until they are cancelled (`sleep`),
//! or send rows without end (`flood`).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::lock;
use super::{Backend, error, message};
use crate::ports::Endpoint;
use crate::wire::{StartupMessage, StartupRequest};

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

/// A server on its own Unix socket. Its backends have the process ids 1000, 1001 and so on.
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
    /// Whether the connections of cancel requests stay open.
    holds_cancels: watch::Sender<bool>,
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

    /// Keeps the connections of cancel requests open after their queries have ended, or closes them.
    pub fn hold_cancels(&self, hold: bool) {
        self.shared.holds_cancels.send_replace(hold);
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
    let mut backend = Backend::new(socket, process_id);
    lock(&shared.backends).insert(process_id, end);
    let terminated = tokio::select! {
        // A client that disconnects ends its backend, as in Postgres.
        _result = shared.run(&mut backend, process_id) => false,
        ended = ended => ended.is_ok(),
    };
    if terminated {
        backend.terminate();
    }
    lock(&shared.backends).remove(&process_id);
}

impl Shared {
    async fn run(&self, backend: &mut Backend, process_id: i32) -> io::Result<()> {
        match backend.startup().await? {
            StartupRequest::Ssl | StartupRequest::GssEnc => {}
            StartupRequest::Cancel(request) => {
                lock(&self.cancelled).push(request.process_id);
                let running = lock(&self.running).remove(&request.process_id);
                drop(running);
                let mut holds = self.holds_cancels.subscribe();
                // The sender is in `self`.
                let _closing = holds.wait_for(|hold| !hold).await;
            }
            StartupRequest::Startup(message) => {
                lock(&self.startups).push(message);
                let login = lock(&self.logins).pop_front().unwrap_or_default();
                if log_in(backend, login).await? {
                    self.session(backend, process_id).await?;
                }
            }
        }
        Ok(())
    }

    async fn session(&self, backend: &mut Backend, process_id: i32) -> io::Result<()> {
        let mut status = b'I';
        while let Some(query) = backend.query().await? {
            lock(&self.queries).push(query.clone());
            let answer = match query.as_str() {
                "begin" => {
                    status = b'T';
                    message(b'C', b"BEGIN\0")
                }
                "sleep" => {
                    let (end, ended) = oneshot::channel::<()>();
                    lock(&self.running).insert(process_id, end);
                    let _cancelled = ended.await;
                    error("57014", "canceling statement due to user request")
                }
                "flood" => loop {
                    let row = message(b'D', &[0; 8192]);
                    backend.socket.write_all(&row).await?;
                },
                _ => message(b'C', b"SELECT 1\0"),
            };
            backend.answer(answer, status).await?;
        }
        *lock(&self.terminates) += 1;
        Ok(())
    }
}

/// Returns whether the login succeeded.
async fn log_in(backend: &mut Backend, login: Login) -> io::Result<bool> {
    match login {
        Login::Accept => {
            backend.greet().await?;
            return Ok(true);
        }
        Login::Refuse(sqlstate, text) => {
            backend.socket.write_all(&error(sqlstate, text)).await?;
        }
        Login::AskPassword => {
            let ask = message(b'R', &[0, 0, 0, 3]);
            backend.socket.write_all(&ask).await?;
        }
        Login::HangUp => {}
        Login::Hang => std::future::pending().await,
        Login::Flood(bytes) => loop {
            backend.socket.write_all(&bytes.repeat(1000)).await?;
        },
    }
    Ok(false)
}
