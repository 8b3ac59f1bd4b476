//! The values that a scrape asks of the daemon: none is measured for it, and none is of a single
//! instance.

use jiff::Timestamp;
use multidb_actors::snapshot_index::ListSnapshots;
use multidb_actors::supervisor::{CountInstances, CountWaiting, GetExpiryStatus};

use super::access::{Action, Caller, Resource, authorize};
use super::{Control, ControlError};
use crate::control::model::RefreshView;
use crate::metrics::gauges::{Disk, Refresh};
use crate::metrics::{DaemonMetrics, Gauges, Process};

impl Control {
    /// The counters, and how they are shown.
    pub fn metrics(&self) -> &DaemonMetrics {
        &self.deps.metrics
    }

    /// The state of the daemon, in numbers.
    ///
    /// # Errors
    ///
    /// The caller may not see them, or the actors have ended.
    pub async fn gauges(&self, caller: &Caller) -> Result<Gauges, ControlError> {
        authorize(caller, Action::View, Resource::Daemon, "see the metrics")?;
        let deps = &self.deps;
        let counts = deps.supervisor.send(CountInstances).await?;
        let waiting_for_slot = deps.supervisor.send(CountWaiting).await?;
        let expiry = deps.supervisor.send(GetExpiryStatus).await?;
        let snapshots = deps.index.send(ListSnapshots).await?;
        let limits = &deps.config.limits;
        let now = Timestamp::now();
        let memory = deps.memory.usage();
        let refreshes = self.refresh_status().await?.into_iter();
        Ok(Gauges {
            version: env!("CARGO_PKG_VERSION"),
            started_at: deps.started_at.as_duration().as_secs_f64(),
            uptime_seconds: since(deps.started_at, now),
            process: Process::now(),
            instances: counts.by_state.into_iter().collect(),
            running_max: limits.max_running,
            waiting_for_slot,
            marked: expiry.marked,
            over_limit: self.names_held_back().len(),
            snapshots: snapshots.len(),
            sessions: *deps.sessions.count().borrow(),
            sessions_max: limits.max_connections,
            unauthenticated: deps.admission.unauthenticated_now(),
            transferred: deps.sessions.transferred(),
            jobs_queued: deps.jobs.queued(),
            jobs_running: deps.jobs.running(),
            refreshes: refreshes.map(|one| refresh(one, now)).collect(),
            disk: self.disk_space(),
            disk_fault: self.disk_fault().is_some(),
            memory_used_ratio: memory
                .map(|memory| memory.used_bytes as f64 / memory.total_bytes.max(1) as f64),
        })
    }

    fn disk_space(&self) -> Option<Disk> {
        let deps = &self.deps;
        let usage = deps.cloner.disk_usage().ok()?;
        let costs = deps.costs.totals();
        Some(Disk {
            free_bytes: usage.free_bytes,
            reserve_bytes: deps.config.disk_reserve_bytes,
            total_bytes: usage.used_bytes + usage.free_bytes,
            saved_bytes: costs.map(|costs| costs.saved_bytes),
            exclusive_bytes: costs.map(|costs| costs.exclusive_bytes),
        })
    }
}

fn refresh((project, view): (String, RefreshView), now: Timestamp) -> Refresh {
    Refresh {
        project,
        age_seconds: view.last_success_at.map(|at| since(at, now)),
        data_age_seconds: view.newest_taken_at.map(|at| since(at, now)),
        period_seconds: view.period_seconds,
        failures: view.failures,
    }
}

/// The seconds since then; 0 if the clock was set back.
fn since(then: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64().max(0.0)
}
