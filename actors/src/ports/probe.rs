//! Questions to a running Postgres about its state.
//!
//! The answers are untrusted: a superuser of an instance can replace its catalog views, and even
//! the program behind its socket. An answer counts for that instance alone.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use multidb_store::InstanceRecord;

use super::{Endpoint, RuntimeError};
use crate::awake::AwakeReason;

/// How multidb itself logs in to an instance's Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SuperuserAccess {
    /// The address.
    pub endpoint: Endpoint,
    /// A superuser role.
    pub superuser: Arc<str>,
    /// The major version, which decides the settings that the login can have.
    pub postgres_major: u16,
    /// A database that accepts connections, for a server whose `postgres` and `template1` do not.
    pub database: Option<Arc<str>>,
}

impl SuperuserAccess {
    /// The access to the Postgres of this instance at this address.
    pub fn new(endpoint: Endpoint, record: &InstanceRecord) -> Self {
        Self {
            endpoint,
            superuser: record.superuser.as_str().into(),
            postgres_major: record.postgres_major,
            database: None,
        }
    }
}

/// Queries a running Postgres about its state. Each answer is bounded in size and time.
#[async_trait]
pub trait ServerProbe: Send + Sync + 'static {
    /// The activity of the backends with these process ids, by `pg_stat_activity`. Backends that have ended are left
    /// out.
    async fn backend_activities(
        &self,
        server: &SuperuserAccess,
        process_ids: &[i32],
    ) -> Result<HashMap<i32, BackendActivity>, ProbeError>;

    /// The activity outside sessions that a stop would interrupt.
    async fn awake_reasons(&self, server: &SuperuserAccess)
    -> Result<Vec<AwakeReason>, ProbeError>;

    /// Ends the backend with this process id by `pg_terminate_backend`; it sends 57P01 to its client.
    async fn terminate_backend(
        &self,
        server: &SuperuserAccess,
        process_id: i32,
    ) -> Result<(), ProbeError>;
}

/// Why a Postgres did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Its `max_connections` are in use, with the ones reserved for superusers.
    #[error("postgres has no free connection")]
    NoFreeConnection,
    /// It was not reached, or its answer was not understood.
    #[error(transparent)]
    Failed(#[from] RuntimeError),
}

/// The activity of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendActivity {
    /// It waits for its client, outside any transaction.
    Idle,
    /// It waits for its client, outside any transaction, and its last statement was LISTEN.
    Listening,
    /// It waits for its client, inside a transaction.
    IdleInTransaction,
    /// It executes a COPY.
    InCopy {
        /// Whether it waits for its client to send more.
        waits: bool,
    },
    /// It is a WAL sender that streams to its client.
    Replicating,
    /// It executes a statement.
    Active,
}

impl BackendActivity {
    /// The activity as shown by `multidb connection ls`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Listening => "listening",
            Self::IdleInTransaction => "idle in transaction",
            Self::InCopy { .. } => "in COPY",
            Self::Replicating => "replicating",
            Self::Active => "active",
        }
    }
}
