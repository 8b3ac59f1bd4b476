//! The open sessions: their table, their statistics, and the message that ends one.
//!
//! The table serves cancel requests and `multidb connection`. A session is in it from its login until its
//! [`Registration`] is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use jiff::Timestamp;
use multidb_store::InstanceName;
use serde::Serialize;
use tokio::sync::watch;

use crate::instance::OverLimit;
use crate::ports::SuperuserAccess;

mod cancels;
mod console_signals;
mod login_faults;
mod stats;

pub use self::cancels::PendingCancels;
pub use self::console_signals::ConsoleSignals;
pub use self::login_faults::{LoginFaults, LoginPlace};
pub use self::stats::{SessionState, SessionStats};

/// The number of a connection, unique for the lifetime of the daemon process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One open session.
#[derive(Clone)]
pub struct Session {
    /// Its connection.
    pub id: ConnectionId,
    /// The client's address, for display.
    pub peer: Arc<str>,
    /// The version of TLS between the client and the proxy, if it is used.
    pub tls: Option<&'static str>,
    /// The multidb user.
    pub user: String,
    /// The instance or console that it is with.
    pub target: SessionTarget,
    /// The database.
    pub database: String,
    /// The client's `application_name`.
    pub application_name: String,
    /// When the client connected.
    pub connected_at: Timestamp,
    /// The statistics.
    pub stats: Arc<SessionStats>,
    /// The process id and the secret that its client was told.
    pub cancel_key: (i32, Vec<u8>),
    /// Ends the session.
    pub addr: Recipient<EndConnection>,
}

/// The instance or console of a session.
#[derive(Clone)]
pub enum SessionTarget {
    /// An instance.
    Instance(Arc<InstanceTarget>),
    /// The console.
    Console(Arc<ConsoleSignals>),
}

/// The instance of a session.
pub struct InstanceTarget {
    /// Its name.
    pub name: InstanceName,
    /// Its Postgres.
    pub server: SuperuserAccess,
    /// The Postgres role.
    pub role: String,
    /// The cancel requests that are on their way to the backend.
    pub cancels: Arc<PendingCancels>,
}

impl Session {
    /// Its instance; none for the console.
    pub fn instance(&self) -> Option<&InstanceTarget> {
        match &self.target {
            SessionTarget::Instance(instance) => Some(instance),
            SessionTarget::Console(_) => None,
        }
    }

    /// Ends it as soon as it is idle.
    fn drain(&self) {
        // A full mailbox has other messages that end it.
        if let Err(error) = self.addr.try_send(EndConnection(EndReason::Drained)) {
            tracing::debug!(id = %self.id, %error, "the session ends by itself");
        }
    }
}

/// Ends a session's connection.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndConnection(pub EndReason);

/// Why a session is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// An administrator ended it: at once, in any state.
    Killed,
    /// The daemon stops: as soon as the session is idle.
    Drained,
    /// Its instance may not take more of the disk, and is stopped in a moment.
    OverLimit(OverLimit),
    /// A command ends its instance's sessions, and the server stops in a moment.
    Commanded(EndingCommand),
}

/// A command that ends the sessions of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndingCommand {
    /// The instance.
    pub instance: InstanceName,
    /// The instance's state afterwards.
    pub then: InstanceThen,
    /// The issuer of the command, as messages name it: `an administrator`, `user "staff"`.
    pub by: String,
}

/// The state of an instance after a command that ends its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceThen {
    /// It is stopped, and its data kept.
    Stopped,
    /// It gets a fresh clone.
    Reset,
    /// It is deleted.
    Removed,
}

/// The table of all open sessions.
#[derive(Clone, Default)]
pub struct SessionTable {
    tables: Arc<Mutex<Tables>>,
    count: Arc<watch::Sender<usize>>,
    login_faults: LoginFaults,
}

#[derive(Default)]
struct Tables {
    sessions: HashMap<ConnectionId, Session>,
    /// The bytes of the sessions that have ended.
    ended: TransferredBytes,
    by_cancel_key: HashMap<(i32, Vec<u8>), ConnectionId>,
    /// Set when the daemon stops.
    drained: bool,
}

/// The bytes of sessions, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferredBytes {
    /// That clients sent.
    pub from_clients: u64,
    /// That backends sent.
    pub to_clients: u64,
}

impl TransferredBytes {
    fn add(&mut self, stats: &SessionStats) {
        self.from_clients += stats.from_client_bytes();
        self.to_clients += stats.from_backend_bytes();
    }
}

/// Keeps one session in the table.
pub struct Registration {
    id: ConnectionId,
    table: SessionTable,
}

impl SessionTable {
    /// Enters a session. It stays until the registration is dropped.
    pub fn register(&self, session: Session) -> Registration {
        let id = session.id;
        let mut tables = self.lock();
        let key = session.cancel_key.clone();
        // Two backends with the same process id and secret are as rare as 1 in 2^32. A cancel
        // request then reaches the newer one.
        tables.by_cancel_key.insert(key, id);
        if tables.drained {
            session.drain();
        }
        tables.sessions.insert(id, session);
        let count = tables.sessions.len();
        drop(tables);
        self.count.send_replace(count);
        Registration {
            id,
            table: self.clone(),
        }
    }

    /// Ends the sessions as they become idle, also sessions that begin later. Returns their number now.
    pub fn drain(&self) -> usize {
        let mut tables = self.lock();
        tables.drained = true;
        for session in tables.sessions.values() {
            session.drain();
        }
        tables.sessions.len()
    }

    /// The session that a cancel request names.
    pub fn by_cancel_key(&self, process_id: i32, key: &[u8]) -> Option<Session> {
        let tables = self.lock();
        let id = tables.by_cancel_key.get(&(process_id, key.to_vec()))?;
        tables.sessions.get(id).cloned()
    }

    /// One session.
    pub fn get(&self, id: ConnectionId) -> Option<Session> {
        self.lock().sessions.get(&id).cloned()
    }

    /// All sessions, the oldest first.
    pub fn all(&self) -> Vec<Session> {
        let mut all: Vec<_> = self.lock().sessions.values().cloned().collect();
        all.sort_by_key(|session| session.id);
        all
    }

    /// Whether an instance has another session than this one that does more than listen.
    pub fn serves_others(&self, instance: &InstanceName, id: ConnectionId) -> bool {
        let tables = self.lock();
        let mut sessions = tables.sessions.values();
        sessions.any(|other| {
            let of_instance = other.instance().is_some_and(|of| of.name == *instance);
            other.id != id && of_instance && !other.stats.only_listens()
        })
    }

    /// The bytes of all sessions since the start of the daemon.
    pub fn transferred(&self) -> TransferredBytes {
        let tables = self.lock();
        let mut bytes = tables.ended;
        for session in tables.sessions.values() {
            bytes.add(&session.stats);
        }
        bytes
    }

    /// The logins that Postgres refuses each time.
    pub fn login_faults(&self) -> &LoginFaults {
        &self.login_faults
    }

    /// The number of sessions, as it changes.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    fn remove(&self, id: ConnectionId) {
        let mut tables = self.lock();
        if let Some(session) = tables.sessions.remove(&id) {
            tables.ended.add(&session.stats);
            if tables.by_cancel_key.get(&session.cancel_key) == Some(&id) {
                tables.by_cancel_key.remove(&session.cancel_key);
            }
        }
        let count = tables.sessions.len();
        drop(tables);
        self.count.send_replace(count);
    }

    /// A panic while the lock is held leaves the maps consistent, since each change is one call.
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.table.remove(self.id);
    }
}
