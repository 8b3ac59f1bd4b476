//! The servers: they outlive the daemon that started them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multidb_actors::ports::{BackendActivity, Endpoint};
use multidb_actors::testing::{Backend, message};
use multidb_actors::wire::StartupRequest;
use multidb_store::{InstanceName, InstanceUid, RuntimeKind};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::renames::Hello;
use crate::world::{World, lock};

/// How much more often a daemon dies as a client is served than at another step.
const DEATHS_OF_THE_SERVED: u32 = 5;

/// The running servers.
#[derive(Default)]
pub struct Servers {
    pub by_uid: BTreeMap<InstanceUid, Arc<Server>>,
    /// Held while a clone's server is started or stopped.
    pub locks: BTreeMap<InstanceUid, Arc<tokio::sync::Mutex<()>>>,
    started: u64,
    /// Whether the runtime "docker" does not answer.
    pub away: bool,
}

/// A server.
pub struct Server {
    pub uid: InstanceUid,
    /// The runtime that started it.
    pub runtime: RuntimeKind,
    /// The name of its socket.
    number: u64,
    /// When it was started.
    launched: Duration,
    ended: CancellationToken,
    sessions: Mutex<BTreeMap<i32, Arc<Session>>>,
}

/// The state of a backend.
struct Session {
    /// The instance that the client asked for, as its first query says.
    name: Mutex<Option<InstanceName>>,
    activity: Mutex<BackendActivity>,
    terminate: Notify,
}

impl Servers {
    /// The lock of a clone's server.
    pub fn lock_of(&mut self, uid: InstanceUid) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.entry(uid).or_default().clone()
    }
}

impl Server {
    /// Resolves when it has exited.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub fn activity(&self, process_id: i32) -> Option<BackendActivity> {
        let session = lock(&self.sessions).get(&process_id)?.clone();
        Some(*lock(&session.activity))
    }

    /// The instances that its clients asked for. A backend at work does not notice that its client has left.
    fn clients(&self) -> Vec<InstanceName> {
        let sessions = lock(&self.sessions);
        let sessions = sessions.values();
        let idle = sessions.filter(|session| *lock(&session.activity) != BackendActivity::Active);
        idle.filter_map(|session| lock(&session.name).clone())
            .collect()
    }

    pub fn terminate(&self, process_id: i32) {
        if let Some(session) = lock(&self.sessions).get(&process_id) {
            session.terminate.notify_one();
        }
    }
}

impl World {
    /// The path of a server's socket, which moves with the root.
    fn socket_of(&self, server: &Server) -> PathBuf {
        self.sockets().join(server.number.to_string())
    }

    pub fn endpoint_of(&self, server: &Server) -> Endpoint {
        Endpoint::Unix(self.socket_of(server))
    }

    pub fn server_at(&self, endpoint: &Endpoint) -> Option<Arc<Server>> {
        let servers = self.servers();
        let mut servers = servers.by_uid.values();
        servers
            .find(|server| self.endpoint_of(server) == *endpoint)
            .cloned()
    }

    /// A Postgres begins to run on this data.
    pub fn launch_server(self: &Arc<Self>, uid: InstanceUid, runtime: RuntimeKind) -> Arc<Server> {
        let mut servers = self.servers();
        servers.started += 1;
        let server = Arc::new(Server {
            uid,
            runtime,
            number: servers.started,
            launched: self.elapsed(),
            ended: CancellationToken::new(),
            sessions: Mutex::default(),
        });
        let other = servers.by_uid.insert(uid, server.clone());
        drop(servers);
        let path = self.socket_of(&server);
        let listener = UnixListener::bind(&path).expect("a new path can be bound");
        self.trace(format_args!("a server runs on {uid} by {runtime}"));
        if other.is_some() {
            self.violated(format_args!("two servers run on {uid}"));
        }
        let (world, serving) = (self.clone(), server.clone());
        tokio::spawn(async move {
            for process_id in 1000.. {
                let socket = tokio::select! {
                    biased;
                    () = serving.ended() => break,
                    accepted = listener.accept() => accepted,
                };
                if let Ok((socket, _)) = socket {
                    tokio::spawn(serve(socket, process_id, world.clone(), serving.clone()));
                }
            }
            drop(listener);
            let path = world.socket_of(&serving);
            std::fs::remove_file(&path).expect("a socket can be removed");
        });
        server
    }

    /// The daemon stops the server of this data.
    pub fn stop_server(&self, uid: InstanceUid) {
        let server = self.servers().by_uid.get(&uid).cloned();
        for name in server.iter().flat_map(|server| server.clients()) {
            if !self.is_draining() && !self.oracle().may_be_stopped(uid) {
                self.violated(format_args!(
                    "{uid} is stopped, {name} has a session, and nobody asked for that"
                ));
            }
        }
        self.end_server(uid);
    }

    /// The server of this data exits.
    pub fn end_server(&self, uid: InstanceUid) {
        let server = self.servers().by_uid.remove(&uid);
        if let Some(server) = server {
            self.trace(format_args!("the server on {uid} has exited"));
            server.ended.cancel();
        }
    }
}

async fn serve(socket: UnixStream, process_id: i32, world: Arc<World>, server: Arc<Server>) {
    let session = Arc::new(Session {
        name: Mutex::default(),
        activity: Mutex::new(BackendActivity::Idle),
        terminate: Notify::new(),
    });
    lock(&server.sessions).insert(process_id, session.clone());
    let daemons_ended = world.daemons_ended();
    let mut backend = Backend::new(socket, process_id);
    let is_ended = tokio::select! {
        biased;
        () = server.ended() => true,
        () = session.terminate.notified() => true,
        // A client that disconnects ends its backend.
        _result = session.run(&mut backend, &world, &server) => false,
    };
    if is_ended {
        backend.terminate();
    }
    if lock(&session.name).is_some() {
        // A query may outlive its daemon, and with it its client; that is no use of the instance.
        let used = world.observed_by(daemons_ended);
        world.oracle().session_ended(server.uid, used);
    }
    lock(&server.sessions).remove(&process_id);
}

impl Session {
    async fn run(&self, backend: &mut Backend, world: &World, server: &Server) -> io::Result<()> {
        let StartupRequest::Startup(_) = backend.startup().await? else {
            return Ok(());
        };
        backend.greet().await?;
        while let Some(query) = backend.query().await? {
            *lock(&self.activity) = BackendActivity::Active;
            self.execute(&query, world, server).await;
            let (status, activity) = match &*query {
                "begin" => (b'T', BackendActivity::IdleInTransaction),
                _ => (b'I', BackendActivity::Idle),
            };
            *lock(&self.activity) = activity;
            backend.answer(message(b'C', b"OK\0"), status).await?;
        }
        Ok(())
    }

    /// The effect of a query is promised from here on: its client may see the answer at any time, even if its daemon
    /// dies.
    async fn execute(&self, query: &str, world: &World, server: &Server) {
        let uid = server.uid;
        let (verb, argument) = query.split_once(' ').unwrap_or((query, ""));
        match verb {
            "hello" => {
                let hello: Hello = argument.parse().expect("a client says when it came");
                world.served(&hello, uid, server.launched);
                *lock(&self.name) = Some(hello.name);
                world.may_kill_daemon(DEATHS_OF_THE_SERVED);
            }
            "commit" => {
                let write = argument.parse().expect("a client numbers its writes");
                world.committed(uid, write);
                world.may_kill_daemon(1);
            }
            "work" => {
                let millis = argument.parse().expect("a client says how long");
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            _ => {}
        }
    }
}
