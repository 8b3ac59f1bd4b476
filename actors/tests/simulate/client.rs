//! The clients: they speak Postgres' protocol over sockets, as the daemon's own connections do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use multidb_actors::connection::DetachedSocket;
use multidb_actors::testing::message;
use multidb_actors::wire::{Frame, decode_frame};
use multidb_store::InstanceName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::world::{Life, World};

/// Longer than all the limits that a client can meet one after the other: a fetch, a clone, a stop, a slot, a start
/// and a login.
pub const WAIT_MAX: Duration = Duration::from_secs(600);

/// The longest message.
const BODY_LENGTH_MAX: u32 = 1 << 16;

/// A connection to the daemon.
pub struct Client {
    world: Arc<World>,
    life: Arc<Life>,
    socket: UnixStream,
    unread: BytesMut,
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Ready,
    /// By an error with this SQLSTATE.
    Refused(String),
    /// The connection, or the daemon, is gone.
    Lost,
}

impl Client {
    /// Connects, and sends the startup packet. `None` where no daemon serves.
    pub async fn connect(world: &Arc<World>, user: &str) -> Option<Self> {
        let daemon = world.daemon()?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("descriptors suffice");
        ours.set_nonblocking(true).expect("a socket can be set so");
        let socket = UnixStream::from_std(ours).expect("a runtime runs");
        daemon.clients.send(DetachedSocket::Unix(theirs)).ok()?;
        let mut client = Self {
            world: world.clone(),
            life: daemon.life,
            socket,
            unread: BytesMut::new(),
        };
        let mut body = vec![0, 3, 0, 0];
        for text in ["user", user, "database", "app"] {
            body.extend(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).expect("it is short");
        let packet = [&length.to_be_bytes()[..], &body].concat();
        client.socket.write_all(&packet).await.ok()?;
        Some(client)
    }

    /// Sends a query and waits for its end.
    pub async fn query(&mut self, text: &str) -> Reply {
        let query = message(b'Q', format!("{text}\0").as_bytes());
        if self.socket.write_all(&query).await.is_err() {
            // The last error may still be there.
            tracing::debug!("the backend has closed");
        }
        self.ready().await
    }

    /// The first query, of a client that asked for an instance at this time.
    pub async fn hello(&mut self, name: &InstanceName, asked: Duration) -> Reply {
        self.query(&format!("hello {name} {}", asked.as_nanos()))
            .await
    }

    /// Waits for the end of the login.
    pub async fn logged_in(&mut self) -> Reply {
        let began = Instant::now();
        let reply = self.ready().await;
        if began.elapsed() > WAIT_MAX {
            self.world
                .violated(format_args!("a client waited for {:?}", began.elapsed()));
        }
        reply
    }

    /// Waits for ReadyForQuery, or for an error.
    async fn ready(&mut self) -> Reply {
        loop {
            match self.frame().await {
                Ok(frame) if frame.tag == b'Z' => return Reply::Ready,
                Ok(frame) if frame.tag == b'E' => return Reply::Refused(sqlstate(&frame)),
                Ok(_) => {}
                Err(_) => return Reply::Lost,
            }
        }
    }

    /// The next message. Bytes from a dead daemon count as lost, as they may be with a connection over TCP.
    async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let decoded = decode_frame(&mut self.unread, BODY_LENGTH_MAX);
            if let Some(frame) = decoded.map_err(io::Error::other)? {
                return Ok(frame);
            }
            let read = tokio::select! {
                biased;
                () = self.life.over() => return Err(io::ErrorKind::ConnectionReset.into()),
                read = self.socket.read_buf(&mut self.unread) => read?,
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn sqlstate(error: &Frame) -> String {
    let mut fields = error.body.split(|byte| *byte == 0);
    let field = fields.find(|field| field.first() == Some(&b'C'));
    String::from_utf8_lossy(field.map_or(b"", |field| &field[1..])).into_owned()
}

/// The user name for an instance and its source.
pub fn user(name: &InstanceName, source: Option<&str>) -> String {
    match source {
        Some(source) => format!("instance:{name},{source}"),
        None => format!("instance:{name}"),
    }
}

/// One visit: a login, some queries, an end.
pub async fn visit(world: &Arc<World>, name: &InstanceName) -> Reply {
    let choice = world.chance().below(10);
    let source = match choice {
        0..4 => None,
        4..7 => Some("snapshot:latest"),
        7..9 => Some("gitref:main"),
        _ => Some("gitref:old"),
    };
    let expected = world.oracle().expectation(name);
    let asked = world.elapsed();
    let Some(mut client) = Client::connect(world, &user(name, source)).await else {
        return Reply::Lost;
    };
    let gives_up = world.chance().below(12) == 0;
    if gives_up {
        let time = world.time(1, 60_000);
        return tokio::time::timeout(time, client.logged_in())
            .await
            .unwrap_or(Reply::Lost);
    }
    let reply = client.logged_in().await;
    match &reply {
        Reply::Ready => {}
        Reply::Lost => {
            world.oracle().counts.lost += 1;
            return reply;
        }
        Reply::Refused(code) => {
            world.trace(format_args!("a client of {name} is refused: {code}"));
            world.oracle().counts.refused += 1;
            if code == "3D000" {
                world.denied(name, expected);
            }
            return reply;
        }
    }
    let reply = client.hello(name, asked).await;
    if reply != Reply::Ready {
        return reply;
    }
    let queries = world.chance().below(8);
    for _ in 0..queries {
        let (least, most) = world.settings.pace.think;
        tokio::time::sleep(world.time(least, most)).await;
        let choice = world.chance().below(10);
        let query = match choice {
            0 => "begin".to_owned(),
            1 => format!("work {}", world.time(1, most).as_millis()),
            _ => format!("commit {}", world.chance().next()),
        };
        let is_working = query.starts_with("work");
        let reply = client.query(&query).await;
        if is_working && reply == Reply::Refused("57P05".to_owned()) {
            // The idle limit may end the session just before the query is sent.
            world.trace(format_args!("a session of {name} was idle for too long"));
        }
        if reply != Reply::Ready {
            return reply;
        }
    }
    Reply::Ready
}

/// Visits instances for ever.
pub async fn live(world: Arc<World>, names: Vec<InstanceName>) {
    let (least, most) = world.settings.pace.visit;
    loop {
        tokio::time::sleep(world.time(least, most)).await;
        if world.is_calm() {
            return;
        }
        let name = world.chance().pick(&names).clone();
        visit(&world, &name).await;
    }
}
