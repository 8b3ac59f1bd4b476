//! The actors that run as long as the daemon, and what they share.

use std::sync::Arc;

use actix::prelude::*;
use multidb_actors::clone_worker::CloneWorker;
use multidb_actors::connection::{Activities, AdmissionControl, ConnectionDeps, Method, Tls};
use multidb_actors::critical::CriticalParts;
use multidb_actors::history::History;
use multidb_actors::metrics::Metrics;
use multidb_actors::sessions::SessionTable;
use multidb_actors::snapshot_index::SnapshotIndex;
use multidb_actors::supervisor::Supervisor;
use multidb_store::Layout;

use super::start_arbiter;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::console::ConsoleService;
use crate::control::Control;
use crate::costs::{CostProbe, Costs};
use crate::dedup::Deduplicator;
use crate::probe::PgProbe;
use crate::proxy::Acceptors;

/// The actors and their shared table.
pub(super) struct Actors {
    pub(super) supervisor: Addr<Supervisor>,
    pub(super) index: Addr<SnapshotIndex>,
    pub(super) worker: Addr<CloneWorker>,
    pub(super) sessions: SessionTable,
    pub(super) admission: Arc<AdmissionControl>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) history: History,
}

impl Actors {
    /// Measures the disk space exclusive to each instance and snapshot, in the background.
    pub(super) fn measure_costs(
        &self,
        layout: &Layout,
        deduplicator: &Arc<Deduplicator>,
    ) -> Arc<Costs> {
        CostProbe::start(layout, &self.supervisor, &self.index, deduplicator)
    }

    /// An arbiter for each two processors, and the acceptors that spread connections over them.
    /// Postgres needs the other processors, and sessions on one thread share its wake-ups.
    pub(super) fn acceptors(
        &self,
        config: &Config,
        tls: Option<Tls>,
        method: Method,
        control: &Control,
        critical: &CriticalParts,
    ) -> (Vec<Arbiter>, Arc<Acceptors>) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let arbiters: Vec<Arbiter> = (0..processors.div_ceil(2))
            .map(|_| start_arbiter("a thread of connections", critical))
            .collect();
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        let deps = ConnectionDeps {
            supervisor: self.supervisor.clone(),
            index: self.index.clone(),
            probe: Arc::new(PgProbe),
            activities: Activities::new(Arc::new(PgProbe)),
            sessions: self.sessions.clone(),
            limits: Arc::new(config.limits.clone()),
            admission: self.admission.clone(),
            console: Arc::new(ConsoleService::new(control.clone())),
            method,
            tls,
            default_user: config.auth.default_user.clone(),
            clock: Arc::new(SystemClock),
            metrics: self.metrics.clone(),
        };
        (arbiters, Acceptors::new(handles, deps))
    }
}
