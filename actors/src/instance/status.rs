//! What an instance shows of itself, and why it could not serve.

use multidb_store::{InstanceRecord, InstanceUid};

use crate::instance::lifecycle::State;
use crate::ports::{CloneError, Endpoint, RuntimeError, StartError};

/// What an instance shows of itself: published as a whole after each change, by its actor alone.
#[derive(Debug, Clone)]
pub struct InstanceStatus {
    /// Its record.
    pub record: InstanceRecord,
    /// What it is doing.
    pub state: State,
    /// Its open sessions.
    pub sessions: usize,
    /// Whether no session is open and no client waits.
    pub unused: bool,
    /// Where its Postgres accepts connections, when it runs.
    pub endpoint: Option<Endpoint>,
    /// Why its last job failed, if it did.
    pub failure: Option<InstanceError>,
}

/// Why an instance did not serve a client or do what it was told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InstanceError {
    /// Its clone could not be made.
    #[error("the clone failed")]
    Clone(#[source] CloneError),
    /// Its Postgres did not start.
    #[error("postgres did not start")]
    Start(#[source] StartError),
    /// Its Postgres did not accept connections within `start_timeout`.
    #[error("postgres was not ready within {}", humantime::format_duration(*.limit))]
    StartTimeout {
        /// The limit.
        limit: std::time::Duration,
    },
    /// All places to run in stayed taken.
    #[error("all {max} places to run in are in use")]
    NoSlot {
        /// `max_running`.
        max: usize,
    },
    /// Its Postgres could not be stopped, which is tried again.
    #[error("postgres was not stopped, which is tried again")]
    Stop(#[source] RuntimeError),
    /// An administrator stopped it while the client waited.
    #[error("stopped by an administrator")]
    Stopped,
    /// It was deleted while the client waited. Ask the Supervisor again.
    #[error("the instance was deleted")]
    Deleted,
    /// Its actor ended without an answer: a defect, which the log has.
    #[error("the instance's actor ended")]
    Died,
    /// A record could not be written.
    #[error("the record was not written")]
    Storage(#[source] CloneError),
    /// Its data could not be deleted.
    #[error("the instance was not deleted")]
    Delete(#[source] CloneError),
}

/// A session's hold on a running instance. Dropping it tells the instance that the session ended.
#[derive(Debug)]
pub struct Lease {
    /// Where Postgres accepts connections.
    pub endpoint: Endpoint,
    /// A superuser role, for questions about the session.
    pub superuser: String,
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
            endpoint,
            superuser: record.superuser.clone(),
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
