//! The service behind every face of the daemon: admin socket, web page and console.
//!
//! A face turns its input into a typed request, names the [`Caller`], and shows the typed answer or
//! the [`ControlError`]. Policy and authorization are here. HTTP, SQL and terminals are
//! not.
//!
//! | module | owns |
//! | --- | --- |
//! | [`access`] | the rights of callers |
//! | [`advice`] | remedies for an instance's failure |
//! | [`model`] | requests and answers |
//! | [`error`] | errors |
//! | `status`, `doctor`, `instances`, `creation`, `diff`, `snapshots`, `jobs`, `refresh`, `dedup`, `keep`, `pressure`, `growth`, `notifying`, `prewarming`, `uploads`, `from_instance`, `gauges`, `publishing`, `connections`, `projects`, `users` | the requests, by noun |

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use jiff::Timestamp;
use multidb_actors::auth::Attempts;
use multidb_actors::clone_worker::CloneWorker;
use multidb_actors::connection::AdmissionControl;
use multidb_actors::history::History;
use multidb_actors::instance::OverLimit;
use multidb_actors::observed_clock::ObservedClock;
use multidb_actors::ports::{Memory, ServerProbe};
use multidb_actors::project::choose_project;
use multidb_actors::sessions::SessionTable;
use multidb_actors::snapshot_index::SnapshotIndex;
use multidb_actors::supervisor::Supervisor;
use multidb_store::{InstanceName, Layout, ProjectName, Store};

use crate::clone::TreeCloner;
use crate::config::{Config, Setting};
use crate::costs::Costs;
use crate::dedup::Deduplicator;
use crate::import::Importer;
use crate::jobs::Registry;
use crate::metrics::DaemonMetrics;
use crate::notify::Notifier;
use crate::runtime::PostgresHost;
use crate::users::LiveUsers;

use self::doctor::LastExamination;
use self::refresh::Schedules;
use self::uploads::Uploads;

pub mod access;
pub mod advice;
mod connections;
mod creation;
mod dedup;
pub(crate) mod default_branch;
mod diff;
mod doctor;
mod ending;
pub mod error;
mod extensions;
mod from_instance;
mod gauges;
mod growth;
mod instances;
mod jobs;
mod keep;
pub mod model;
mod notifying;
mod pressure;
mod prewarming;
mod projects;
mod publishing;
mod refresh;
mod snapshots;
mod status;
mod uploads;
mod users;

pub use self::access::{Caller, CallingUser};
pub use self::creation::{CreationOrder, CreationSource};
pub use self::error::ControlError;
pub use self::instances::AlterSystem;
pub use self::jobs::JobUpdates;

/// The service. Clones share their parts.
#[derive(Clone)]
pub struct Control {
    deps: Arc<ControlDeps>,
    uploads: Arc<Uploads>,
    schedules: Arc<Schedules>,
    /// Held while a snapshot is pinned, and while it is decided which ones are kept.
    keeping: Arc<tokio::sync::Mutex<()>>,
    /// Held by each comparison of instances.
    comparing: Arc<tokio::sync::Semaphore>,
    /// The last findings of the doctor.
    examination: Arc<tokio::sync::Mutex<LastExamination>>,
    /// The steps taken while the disk was last above its mark.
    pressure: Arc<std::sync::Mutex<Option<model::PressureView>>>,
    /// The instances that may not take more of the disk.
    held_back: Arc<std::sync::Mutex<BTreeMap<InstanceName, OverLimit>>>,
}

/// The parts of the daemon that the service works on.
pub struct ControlDeps {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its settings as they were read, with their origins.
    pub settings: Vec<Setting>,
    /// The paths.
    pub layout: Layout,
    /// Reports the clone method and the free disk space.
    pub cloner: Arc<TreeCloner>,
    /// Runs Postgres.
    pub host: Arc<dyn PostgresHost>,
    /// Asks running Postgres servers about themselves.
    pub probe: Arc<dyn ServerProbe>,
    /// The instances.
    pub supervisor: Addr<Supervisor>,
    /// The snapshots.
    pub index: Addr<SnapshotIndex>,
    /// Deletes and measures.
    pub worker: Addr<CloneWorker>,
    /// The open sessions.
    pub sessions: SessionTable,
    /// Long work.
    pub jobs: Registry,
    /// The records, which tell whether they can be written.
    pub store: Store,
    /// Does the work of imports.
    pub importer: Arc<Importer>,
    /// The disk space that is an instance's or a snapshot's alone.
    pub costs: Arc<Costs>,
    /// Does the work of de-duplications.
    pub deduplicator: Arc<Deduplicator>,
    /// The users; none with `auth.method = "trust"`.
    pub users: Option<Arc<LiveUsers>>,
    /// The failed logins.
    pub attempts: Attempts,
    /// How much of the memory is used.
    pub memory: Arc<dyn Memory>,
    /// The targets of `[[notify]]`.
    pub notifier: Notifier,
    /// The root's clock.
    pub clock: ObservedClock,
    /// Bounds the connections.
    pub admission: Arc<AdmissionControl>,
    /// The counters and timings of the daemon.
    pub metrics: Arc<DaemonMetrics>,
    /// The events of each instance.
    pub history: History,
    /// When the daemon started.
    pub started_at: Timestamp,
}

impl Control {
    /// A service on these parts.
    pub fn new(deps: ControlDeps) -> Self {
        Self {
            deps: Arc::new(deps),
            uploads: Arc::default(),
            schedules: Arc::default(),
            keeping: Arc::default(),
            comparing: Arc::new(tokio::sync::Semaphore::new(diff::AT_ONCE)),
            examination: Arc::default(),
            pressure: Arc::default(),
            held_back: Arc::default(),
        }
    }

    /// The project of this name; without a name, the only one.
    fn project(&self, name: Option<&ProjectName>) -> Result<ProjectName, ControlError> {
        Ok(choose_project(self.deps.config.projects.keys(), name)?)
    }
}
