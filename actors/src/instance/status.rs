//! The published status of an instance, its errors, and the lease of a session.

use std::sync::Arc;

use multidb_store::{InstanceRecord, InstanceUid};
use serde::Serialize;
use tokio::time::Instant;

use crate::instance::lifecycle::State;
use crate::ports::{CloneError, Endpoint, RuntimeError, StartError, SuperuserAccess};

/// The status of an instance, published by its actor after each change.
#[derive(Debug, Clone)]
pub struct InstanceStatus {
    /// Its record.
    pub record: Arc<InstanceRecord>,
    /// Its state.
    pub state: State,
    /// The number of its open sessions.
    pub sessions: usize,
    /// Whether no session is open and no client waits.
    pub unused: bool,
    /// The address of its Postgres while it runs.
    pub endpoint: Option<Endpoint>,
    /// The error of its last job, if that failed.
    pub failure: Option<InstanceError>,
    /// Whether its start waits for a slot.
    pub waits_for_slot: bool,
    /// When its residency ends: from then on it may be stopped for another instance. None before its first run.
    pub resident_until: Option<Instant>,
}

/// The reason why an instance did not serve a client or carry out a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum InstanceError {
    /// Its Postgres did not accept connections within `start_timeout`.
    #[error("postgres was not ready within {}", crate::text::duration(*.limit))]
    StartTimeout {
        /// The limit.
        limit: std::time::Duration,
    },
    /// No slot became free in time.
    #[error("all {max} slots for running instances are in use")]
    #[serde(rename = "too_many_running")]
    NoSlot {
        /// `max_running`.
        max: usize,
        /// How long the instance waited for a slot.
        waited: std::time::Duration,
    },
    /// Its Postgres could not be stopped. The stop is retried.
    #[error("postgres could not be stopped, retrying")]
    #[serde(rename = "stop_failed")]
    Stop(
        #[source]
        #[serde(skip)]
        RuntimeError,
    ),
    /// An administrator stopped it while the client waited.
    #[error("stopped by an administrator")]
    #[serde(rename = "instance_stopped")]
    Stopped,
    /// It was deleted while the client waited. Ask the Supervisor again.
    #[error("the instance was deleted")]
    #[serde(rename = "instance_deleted")]
    Deleted,
    /// Its actor panicked; the log has the cause.
    #[error("the instance's actor ended")]
    #[serde(rename = "actor_ended")]
    Died,
    /// Its data is missing, or is not its own.
    #[error("the instance's data cannot be used: {why}")]
    #[serde(rename = "data_unusable")]
    DataUnusable {
        /// What is wrong with it.
        why: String,
    },
    /// A record could not be written.
    #[error("the record was not written")]
    #[serde(rename = "storage_failed")]
    Storage(
        #[source]
        #[serde(skip)]
        CloneError,
    ),
    /// Its data could not be deleted.
    #[error("the instance was not deleted")]
    #[serde(rename = "delete_failed")]
    Delete(
        #[source]
        #[serde(skip)]
        CloneError,
    ),
    /// Its clone could not be made.
    #[error("the clone failed")]
    #[serde(untagged)]
    Clone(#[source] CloneError),
    /// Its Postgres did not start.
    #[error("postgres did not start")]
    #[serde(untagged)]
    Start(#[source] StartError),
}

impl InstanceError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::StartTimeout { .. } => "start_timeout",
            Self::NoSlot { .. } => "too_many_running",
            Self::Stop(_) => "stop_failed",
            Self::Stopped => "instance_stopped",
            Self::Deleted => "instance_deleted",
            Self::Died => "actor_ended",
            Self::DataUnusable { .. } => "data_unusable",
            Self::Storage(_) => "storage_failed",
            Self::Delete(_) => "delete_failed",
            Self::Clone(error) => error.code(),
            Self::Start(error) => error.code(),
        }
    }
}

/// A session's hold on a running instance. Dropping it tells the instance that the session ended.
#[derive(Debug)]
pub struct Lease {
    /// Where Postgres accepts connections, and how multidb asks it about the session.
    pub server: SuperuserAccess,
    /// The clone that it runs on.
    pub uid: InstanceUid,
    ended: LeaseEnd,
}

/// Tells the instance, once, when it is dropped.
#[derive(Debug)]
pub(super) struct LeaseEnd {
    pub(super) run: crate::instance::lifecycle::Job,
    pub(super) to: tokio::sync::mpsc::UnboundedSender<crate::instance::lifecycle::Job>,
}

impl Lease {
    pub(super) fn new(endpoint: Endpoint, record: &InstanceRecord, ended: LeaseEnd) -> Self {
        Self {
            server: SuperuserAccess::new(endpoint, record),
            uid: record.uid,
            ended,
        }
    }

    /// Whether the lease is of this run.
    pub(super) fn run(&self) -> crate::instance::lifecycle::Job {
        self.ended.run
    }
}

impl Drop for LeaseEnd {
    fn drop(&mut self) {
        // The channel is closed only when the instance's actor has ended and counts no more.
        let _closed = self.to.send(self.run);
    }
}
