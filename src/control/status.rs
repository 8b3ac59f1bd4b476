//! The status of the daemon.

use multidb_actors::auth::Waiting;
use multidb_actors::ports::{Cloner, MemoryUsage};
use multidb_actors::snapshot_index::ListSnapshots;
use multidb_actors::supervisor::{CountInstances, GetExpiryStatus};
use multidb_store::DiskFault;
use rustix::fs::StatVfsMountFlags;

use super::access::{Action, Caller, Resource, authorize};
use super::model::{LimitView, StatusView, WaitingLoginView};
use super::{Control, ControlError};
use crate::config::Setting;

impl Control {
    /// Shows the daemon's status.
    pub async fn status(&self, caller: &Caller) -> Result<StatusView, ControlError> {
        authorize(caller, Action::View, Resource::Daemon, "see the status")?;
        let deps = &self.deps;
        let counts = deps.supervisor.send(CountInstances).await?;
        let snapshots = deps.index.send(ListSnapshots).await?;
        let expiry = deps.supervisor.send(GetExpiryStatus).await?;
        let costs = deps.costs.totals();
        let usage = deps.cloner.disk_usage()?;
        let instances = counts.by_state.into_iter();
        let instances = instances.map(|(state, count)| (state.to_string(), count));
        Ok(StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: deps.started_at,
            listen: deps.config.listen.iter().map(ToString::to_string).collect(),
            root: deps.config.root.clone(),
            runtime: deps.host.kind().to_string(),
            instances: instances.collect(),
            connections: *deps.sessions.count().borrow(),
            snapshots: snapshots.len(),
            jobs: deps.jobs.running(),
            clone_method: deps.cloner.method().to_owned(),
            disk_free_bytes: usage.free_bytes,
            disk_used_percent: usage.percent(),
            disk_high_water: deps.config.disk_high_water,
            disk_pressure: self.last_pressure(),
            exclusive_bytes: costs.map(|totals| totals.exclusive_bytes),
            disk_saved_bytes: costs.map(|totals| totals.saved_bytes),
            over_limit: self.names_held_back(),
            memory_used_percent: deps.memory.usage().map(MemoryUsage::percent),
            memory_high_water: deps.config.limits.memory_high_water,
            disk_fault: self.disk_fault(),
            marked: expiry.marked,
            expiry_paused_seconds: expiry.paused_for.map(|time| time.as_secs()),
            waiting_logins: self.waiting_logins(),
            refresh: self.refresh_status().await?,
            prewarmed: self.prewarmed_status(),
            notify: self.notify_status(),
        })
    }

    /// Lists the limits of the configuration.
    pub fn limits(&self, caller: &Caller) -> Result<Vec<LimitView>, ControlError> {
        authorize(caller, Action::View, Resource::Daemon, "see the limits")?;
        let settings = self.deps.settings.iter();
        let limits = settings.filter(|setting| setting.key.starts_with("limits."));
        let view = |setting: &Setting| LimitView {
            key: setting.key.clone(),
            value: match &setting.value {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            },
            origin: setting.origin.name().to_owned(),
        };
        Ok(limits.map(view).collect())
    }

    fn waiting_logins(&self) -> Vec<WaitingLoginView> {
        let waiting = self.deps.attempts.waiting().into_iter();
        let view = |waiting: Waiting| WaitingLoginView {
            address: waiting.address,
            user: waiting.user,
            // Rounded up to whole seconds.
            seconds: waiting.wait.as_secs() + 1,
        };
        waiting.map(view).collect()
    }

    /// Why records cannot be written, by the file system or by the last attempt.
    pub(super) fn disk_fault(&self) -> Option<DiskFault> {
        let stat = rustix::fs::statvfs(self.deps.layout.root());
        match stat {
            Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => {
                Some(DiskFault::ReadOnly)
            }
            Ok(_) => self.deps.store.fault(),
            Err(error) => DiskFault::of(&error.into()).or_else(|| self.deps.store.fault()),
        }
    }
}
