//! The runtimes of Postgres, as the actors see them.
//!
//! A runtime answers for the servers of its own kind alone, and only while it answers at all. So every question has
//! three answers: the server runs, nothing runs, or nobody can tell. The last one is an error, after which nothing is
//! done to the data.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use multidb_store::{InstanceRecord, InstanceUid, RuntimeKind};
use serde::Serialize;

use super::{DiskError, Endpoint};
use crate::instance::{Found, InstanceError};

/// Runs Postgres on instances' data: in a container, or as a local process.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// The kind that runs new instances.
    fn kind(&self) -> RuntimeKind;

    /// Whether it can start new instances. Asks anew only where the last answer was missing.
    async fn available(&self) -> Result<(), Unavailable>;

    /// Starts Postgres on the instance's data and returns once it accepts connections.
    ///
    /// Leaves nothing running when it fails or when its future is dropped. Has no time limit of its own:
    /// the caller sets one.
    async fn start(&self, record: &InstanceRecord) -> Result<RunningPostgres, StartError>;

    /// Shuts Postgres down and returns once it has exited and its container is removed.
    ///
    /// Begins with Postgres' fast shutdown (SIGINT: sessions end with 57P01, the data is clean), and
    /// follows with an immediate one after `timeout`. Returns at once if nothing runs.
    async fn stop(&self, server: ServerId, timeout: Duration) -> Result<(), ServerError>;

    /// The servers of multidb, by container labels or postmaster.pid, not by records.
    async fn running(&self) -> FoundServers;

    /// The running server of this clone, as [`running`](Self::running) would find it. Waits for a start or
    /// stop of it in progress. `None` means that nothing runs on the data; an error, that something may.
    async fn find(&self, server: ServerId) -> Result<Option<FoundPostgres>, ServerError>;
}

/// Names the server of a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId {
    /// The clone.
    pub uid: InstanceUid,
    /// Its runtime; `None` where no record tells: then no runtime may have a server on the data.
    pub runtime: Option<RuntimeKind>,
}

impl From<&InstanceRecord> for ServerId {
    fn from(record: &InstanceRecord) -> Self {
        Self {
            uid: record.uid,
            runtime: record.runtime,
        }
    }
}

/// The longest time for the runtime's answer: longer than a stop in progress, for which it waits.
pub(crate) const FIND_TIMEOUT: Duration = Duration::from_secs(120);

/// Looks for a server. A timeout is an error.
pub(crate) async fn find_server(
    runtime: &dyn Runtime,
    server: ServerId,
    timeout: Duration,
) -> Result<Option<FoundPostgres>, ServerError> {
    let answer = tokio::time::timeout(timeout, runtime.find(server)).await;
    answer.unwrap_or_else(|elapsed| {
        Err(ServerError::Failed(RuntimeError {
            for_clients: false,
            message: elapsed.to_string(),
            hint: None,
        }))
    })
}

/// A Postgres that accepts connections.
pub struct RunningPostgres {
    /// Its address.
    pub endpoint: Endpoint,
    /// Resolves when it has exited, with a description of the exit for the log.
    pub exited: BoxFuture<'static, String>,
}

/// A server of multidb that was found running.
pub struct FoundPostgres {
    /// The clone that it runs on.
    pub uid: InstanceUid,
    /// The server, to take over.
    pub postgres: RunningPostgres,
}

/// The servers that an earlier daemon left.
#[derive(Default)]
pub struct FoundServers {
    /// The running ones.
    pub running: Vec<FoundPostgres>,
    /// The clones on which a Postgres may run: the runtime cannot tell.
    pub undecided: Vec<InstanceUid>,
    /// The kinds whose servers cannot be looked for.
    pub unavailable: HashMap<RuntimeKind, Unavailable>,
}

impl FoundServers {
    /// The result of the search for the record's server.
    pub fn take(&mut self, record: &InstanceRecord) -> Found {
        let position = self
            .running
            .iter()
            .position(|found| found.uid == record.uid);
        if let Some(position) = position {
            return Found::Running(self.running.swap_remove(position).postgres);
        }
        let undecided = self.undecided.iter().position(|uid| *uid == record.uid);
        if let Some(position) = undecided {
            self.undecided.swap_remove(position);
            return Found::Unknown(InstanceError::Unknown(RuntimeError {
                for_clients: false,
                message: "its server could be neither taken over nor stopped".to_owned(),
                hint: None,
            }));
        }
        match record.runtime.and_then(|kind| self.unavailable.get(&kind)) {
            Some(unavailable) => Found::Unknown(unavailable.clone().into()),
            None => Found::NotRunning,
        }
    }
}

/// Why Postgres did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum StartError {
    /// It exited instead of accepting connections.
    #[error("postgres exited: {status}")]
    #[serde(rename = "postgres_exited")]
    Exited {
        /// Its exit status.
        status: String,
        /// The last lines of its log, oldest first.
        log: Vec<String>,
        /// The settings that ALTER SYSTEM made in its instance, as lines of their file.
        altered: Vec<String>,
    },
    /// The last run on the data ended uncleanly, without fsync. A fresh clone has to take its place.
    #[error("the last run ended uncleanly, without fsync")]
    EndedUncleanly,
    /// The runtime failed before Postgres ran. The serialized form leaves the cause to the log.
    #[error(transparent)]
    #[serde(rename = "start_failed")]
    Runtime(
        #[from]
        #[serde(skip)]
        RuntimeError,
    ),
    /// The disk is full, read-only, or failed.
    #[error(transparent)]
    #[serde(untagged)]
    Disk(#[from] DiskError),
    /// The instance's runtime is away.
    #[error(transparent)]
    #[serde(untagged)]
    Unavailable(#[from] Unavailable),
}

impl StartError {
    /// The error of a start whose Postgres or runtime met a fault of the disk tells that.
    #[must_use]
    pub fn with_disk_fault(self) -> Self {
        let disk = match &self {
            Self::Exited { status, log, .. } => {
                let found = log.iter().rev().find_map(|line| DiskError::in_text(line));
                found.map(|error| DiskError {
                    message: format!("postgres exited: {status}: {}", error.message),
                    log: log.clone(),
                    ..error
                })
            }
            Self::Runtime(error) => DiskError::in_text(&error.message),
            Self::Disk(_) | Self::Unavailable(_) | Self::EndedUncleanly => None,
        };
        disk.map_or(self, Self::Disk)
    }

    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "postgres_exited",
            Self::EndedUncleanly => "ended_uncleanly",
            Self::Runtime(_) => "start_failed",
            Self::Disk(error) => error.fault.code(),
            Self::Unavailable(unavailable) => unavailable.code(),
        }
    }
}

/// The runtime itself failed: no such program, no engine, no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// The error with its causes, in one line.
    pub message: String,
    /// Advice for an operator.
    pub hint: Option<String>,
    /// Whether clients are told, too: then it has no path, no container's id and no secret.
    pub for_clients: bool,
}

/// Why a server was not found or stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Its runtime is away.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The runtime failed.
    #[error(transparent)]
    Failed(#[from] RuntimeError),
}

impl ServerError {
    /// Advice for an operator.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Unavailable(Unavailable::Away { cause, .. }) | Self::Failed(cause) => {
                cause.hint.as_deref()
            }
            Self::Unavailable(Unavailable::NotConfigured { .. }) => None,
        }
    }
}

/// A runtime that cannot be asked for its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Unavailable {
    /// It does not answer.
    #[error("the runtime \"{runtime}\" does not answer")]
    #[serde(rename = "runtime_away")]
    Away {
        /// The runtime.
        runtime: RuntimeKind,
        /// The error, for the log alone.
        #[source]
        #[serde(skip)]
        cause: RuntimeError,
    },
    /// The daemon is configured for another one.
    #[error("the runtime is \"{runtime}\", but multidb is configured for \"{configured}\"")]
    #[serde(rename = "runtime_not_configured")]
    NotConfigured {
        /// The runtime.
        runtime: RuntimeKind,
        /// The configured one.
        configured: RuntimeKind,
    },
}

impl Unavailable {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Away { .. } => "runtime_away",
            Self::NotConfigured { .. } => "runtime_not_configured",
        }
    }

    /// Advice for a client or an operator.
    pub fn hint(&self) -> String {
        match self {
            Self::Away { runtime, .. } => format!(
                "Nothing is lost: it is served as soon as the runtime \"{runtime}\" answers again. Try again then."
            ),
            Self::NotConfigured { runtime, .. } => format!(
                "Nothing is lost: set runtime.kind = \"{runtime}\" and restart multidb to use it."
            ),
        }
    }
}
