//! The published status of an instance, and its errors.

use std::sync::Arc;

use multidb_store::{InstanceRecord, SnapshotId};
use serde::Serialize;
use tokio::time::Instant;

use crate::instance::OverLimit;
use crate::instance::lifecycle::State;
use crate::ports::{CloneError, Endpoint, RuntimeError, ServerError, StartError, Unavailable};
use crate::slots::NoSlot;

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

impl InstanceStatus {
    /// An unused instance in this state.
    pub fn unused(record: impl Into<Arc<InstanceRecord>>, state: State) -> Self {
        Self {
            record: record.into(),
            state,
            sessions: 0,
            unused: true,
            endpoint: None,
            failure: None,
            waits_for_slot: false,
            resident_until: None,
        }
    }
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
    /// Too much of the memory was used all the time.
    #[error("{used_percent}% of the memory are used, and no instance starts above {mark_percent}%")]
    #[serde(rename = "too_little_memory")]
    NoMemory {
        /// The used part, in percent.
        used_percent: u8,
        /// `memory_high_water`.
        mark_percent: u8,
        /// How long the instance waited for memory.
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
    /// Whether its Postgres runs is not known. It is looked for again.
    #[error("it cannot be told whether postgres runs, retrying")]
    #[serde(rename = "server_unknown")]
    Unknown(
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
    /// Its actor panicked again and again, and is not rebuilt by itself any more.
    #[error("a defect of multidb ended the instance's actor again and again")]
    #[serde(rename = "given_up")]
    GivenUp,
    /// Its data is missing, or is not its own.
    #[error("the instance's data cannot be used: {why}")]
    #[serde(rename = "data_unusable")]
    DataUnusable {
        /// The fault of the data.
        why: String,
    },
    /// It may not take more of the disk.
    #[error("the instance may not take more disk space")]
    #[serde(rename = "over_limit")]
    OverLimit(#[source] OverLimit),
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
    /// It ended uncleanly without fsync, and no fresh clone could be made in its place.
    #[error(
        "it ended uncleanly without fsync, and was not cloned afresh from snapshot \"{snapshot}\""
    )]
    #[serde(rename = "not_renewed")]
    Renew {
        /// Its snapshot.
        snapshot: SnapshotId,
        /// Why there is no clone.
        #[source]
        #[serde(skip)]
        error: CloneError,
    },
    /// Its clone could not be made.
    #[error("the clone failed")]
    #[serde(untagged)]
    Clone(#[source] CloneError),
    /// Its Postgres did not start.
    #[error("postgres did not start")]
    #[serde(untagged)]
    Start(#[source] StartError),
    /// Its runtime is away.
    #[error("the instance is unavailable")]
    #[serde(untagged)]
    Unavailable(#[source] Unavailable),
}

impl From<Unavailable> for InstanceError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<StartError> for InstanceError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            error => Self::Start(error),
        }
    }
}

impl From<ServerError> for InstanceError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            ServerError::Failed(error) => Self::Unknown(error),
        }
    }
}

impl InstanceError {
    /// The error of an instance that waited so long for a slot.
    pub(super) fn of_slot(lacking: NoSlot, waited: std::time::Duration) -> Self {
        match lacking {
            NoSlot::Running(max) => Self::NoSlot { max, waited },
            NoSlot::Memory {
                used_percent,
                mark_percent,
            } => Self::NoMemory {
                used_percent,
                mark_percent,
                waited,
            },
        }
    }

    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::StartTimeout { .. } => "start_timeout",
            Self::NoSlot { .. } => "too_many_running",
            Self::NoMemory { .. } => "too_little_memory",
            Self::Stop(_) => "stop_failed",
            Self::Unknown(_) => "server_unknown",
            Self::Stopped => "instance_stopped",
            Self::Deleted => "instance_deleted",
            Self::Died => "actor_ended",
            Self::GivenUp => "given_up",
            Self::DataUnusable { .. } => "data_unusable",
            Self::OverLimit(_) => "over_limit",
            Self::Storage(_) => "storage_failed",
            Self::Delete(_) => "delete_failed",
            Self::Clone(error) => error.code(),
            Self::Renew { .. } => "not_renewed",
            Self::Start(error) => error.code(),
            Self::Unavailable(unavailable) => unavailable.code(),
        }
    }
}
