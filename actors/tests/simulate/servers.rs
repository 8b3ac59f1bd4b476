//! The servers: they outlive the daemon that started them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, BytesMut};
use multidb_actors::ports::{BackendActivity, Endpoint};
use multidb_actors::wire::{StartupRequest, decode_frame, decode_startup};
use multidb_store::{InstanceName, InstanceUid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

use crate::world::{World, lock};

/// The longest message.
pub const BODY_LENGTH_MAX: u32 = 1 << 16;

/// The running servers.
#[derive(Default)]
pub struct Servers {
    pub by_uid: BTreeMap<InstanceUid, Arc<Server>>,
    /// Held while a clone's server is started or stopped.
    pub locks: BTreeMap<InstanceUid, Arc<tokio::sync::Mutex<()>>>,
    started: u64,
    /// Whether the runtime does not answer.
    pub away: bool,
}

/// A server.
pub struct Server {
    pub uid: InstanceUid,
    pub endpoint: Endpoint,
    ended: watch::Sender<bool>,
    backends: Mutex<BTreeMap<i32, Arc<Backend>>>,
}

/// A backend.
struct Backend {
    activity: Mutex<BackendActivity>,
    terminate: Notify,
}

impl Servers {
    pub fn at(&self, endpoint: &Endpoint) -> Option<Arc<Server>> {
        let mut servers = self.by_uid.values();
        servers.find(|server| server.endpoint == *endpoint).cloned()
    }

    /// The lock of a clone's server.
    pub fn lock_of(&mut self, uid: InstanceUid) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.entry(uid).or_default().clone()
    }
}

impl Server {
    /// Resolves when it has exited.
    pub async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender is in this struct.
        let _open = ended.wait_for(|ended| *ended).await;
    }

    pub fn activity(&self, process_id: i32) -> Option<BackendActivity> {
        let backend = lock(&self.backends).get(&process_id)?.clone();
        Some(*lock(&backend.activity))
    }

    pub fn terminate(&self, process_id: i32) {
        if let Some(backend) = lock(&self.backends).get(&process_id) {
            backend.terminate.notify_one();
        }
    }
}

impl World {
    /// A Postgres begins to run on this data.
    pub fn launch_server(self: &Arc<Self>, uid: InstanceUid) -> Arc<Server> {
        let mut servers = self.servers();
        servers.started += 1;
        let path: PathBuf = self.sockets.join(servers.started.to_string());
        let listener = UnixListener::bind(&path).expect("a new path can be bound");
        let server = Arc::new(Server {
            uid,
            endpoint: Endpoint::Unix(path.clone()),
            ended: watch::channel(false).0,
            backends: Mutex::default(),
        });
        let other = servers.by_uid.insert(uid, server.clone());
        drop(servers);
        self.trace(format_args!("a server runs on {uid}"));
        // A server syncs its first file, and with it XFS all that came before.
        if let Some(directory) = self.disk().instances.get_mut(&uid) {
            directory.synced = true;
        }
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
            std::fs::remove_file(&path).expect("a socket can be removed");
        });
        server
    }

    /// The server of this data exits.
    pub fn end_server(&self, uid: InstanceUid) {
        let server = self.servers().by_uid.remove(&uid);
        if let Some(server) = server {
            self.trace(format_args!("the server on {uid} has exited"));
            server.ended.send_replace(true);
        }
    }
}

async fn serve(socket: UnixStream, process_id: i32, world: Arc<World>, server: Arc<Server>) {
    let backend = Arc::new(Backend {
        activity: Mutex::new(BackendActivity::Idle),
        terminate: Notify::new(),
    });
    lock(&server.backends).insert(process_id, backend.clone());
    let mut connection = Connection {
        socket,
        unread: BytesMut::new(),
        process_id,
        world: world.clone(),
        server: server.clone(),
        backend: backend.clone(),
        name: None,
    };
    let is_ended = tokio::select! {
        biased;
        () = server.ended() => true,
        () = backend.terminate.notified() => true,
        // A client that disconnects ends its backend.
        _result = connection.run() => false,
    };
    if is_ended {
        let error = error(
            "57P01",
            "terminating connection due to administrator command",
        );
        // A backend does not wait for a client that does not read.
        let _full = connection.socket.try_write(&error);
    }
    if let Some(name) = &connection.name {
        world.oracle().session_ended(name, world.observed());
    }
    lock(&server.backends).remove(&process_id);
}

struct Connection {
    socket: UnixStream,
    unread: BytesMut,
    process_id: i32,
    world: Arc<World>,
    server: Arc<Server>,
    backend: Arc<Backend>,
    /// The instance that the client asked for.
    name: Option<InstanceName>,
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        let startup = loop {
            match decode_startup(&mut self.unread).map_err(io::Error::other)? {
                Some(startup) => break startup,
                None => self.read().await?,
            }
        };
        let StartupRequest::Startup(_) = startup else {
            return Ok(());
        };
        let mut key = self.process_id.to_be_bytes().to_vec();
        key.extend([7; 4]);
        let greeting = [
            message(b'R', &[0; 4]),
            message(b'K', &key),
            message(b'Z', b"I"),
        ];
        self.socket.write_all(&greeting.concat()).await?;
        loop {
            let frame = decode_frame(&mut self.unread, BODY_LENGTH_MAX);
            let Some(frame) = frame.map_err(io::Error::other)? else {
                self.read().await?;
                continue;
            };
            if frame.tag == b'X' {
                return Ok(());
            }
            let query = String::from_utf8_lossy(&frame.body);
            let query = query.trim_end_matches('\0').to_owned();
            *lock(&self.backend.activity) = BackendActivity::Active;
            let tag = self.execute(&query).await;
            let status = match &*query {
                "begin" => b'T',
                _ => b'I',
            };
            *lock(&self.backend.activity) = match status {
                b'T' => BackendActivity::IdleInTransaction,
                _ => BackendActivity::Idle,
            };
            let answer = [message(b'C', tag.as_bytes()), message(b'Z', &[status])];
            self.socket.write_all(&answer.concat()).await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// What a query does is promised from here on: its client may see the answer at any time.
    async fn execute(&mut self, query: &str) -> String {
        let (verb, argument) = query.split_once(' ').unwrap_or((query, ""));
        let uid = self.server.uid;
        match verb {
            "hello" => {
                let name: InstanceName = argument.parse().expect("a client names its instance");
                self.world.served(&name, uid);
                self.name = Some(name);
            }
            "commit" => {
                let write = argument.parse().expect("a client numbers its writes");
                self.world.committed(uid, write);
            }
            "work" => {
                let millis = argument.parse().expect("a client says how long");
                tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
            }
            _ => {}
        }
        format!("{verb}\0")
    }
}

/// A message with a tag.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.put_u32(u32::try_from(body.len() + 4).expect("messages are short"));
    message.extend(body);
    message
}

fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{sqlstate}\0M{text}\0\0").as_bytes())
}
