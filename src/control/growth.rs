//! Stops running instances before they take too much of the disk, by the rules of [`growth`](crate::growth).

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use multidb_actors::instance::lifecycle::StateName;
use multidb_actors::instance::{InstanceStatus, OverLimit};
use multidb_actors::instance_table::InstanceFilter;
use multidb_actors::supervisor::ListInstances;
use multidb_store::{InstanceName, InstanceUid, error_chain};
use tokio::time::MissedTickBehavior;

use super::{Control, ControlError};
use crate::costs::{Priority, on_thread};
use crate::growth::{Disk, GrowthLimits};

mod look;
mod losses;
mod watch;

use self::look::Look;
use self::watch::{Trees, Watch};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

impl Control {
    /// Keeps instances below their limits and the reserve free, until it is dropped.
    pub async fn limit_growth(&self) {
        let mut watch = Watch::default();
        let mut looks = tokio::time::interval(INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.look_at_growth(&mut watch).await {
                let error = error_chain(&error);
                tracing::warn!(error, "cannot tell how much instances grow");
            }
        }
    }

    fn growth_limits(&self) -> GrowthLimits {
        GrowthLimits {
            max_instance_bytes: self.deps.config.max_instance_bytes,
            reserve_bytes: self.deps.config.disk_reserve_bytes,
        }
    }

    async fn look_at_growth(&self, watch: &mut Watch) -> Result<(), ControlError> {
        let limits = self.growth_limits();
        let disk = self.look_at_disk(watch, &limits).await?;
        let measures = limits.max_instance_bytes.is_some() || limits.is_near(disk);
        let mut running = Vec::new();
        if measures {
            running = self.running().await?;
            running.retain(|status| !watch.is_held(status));
        }
        let mut look = Look {
            control: self,
            watch,
            limits,
            disk,
            running: &running,
        };
        if measures {
            look.measure_due().await;
            look.stop_over_bytes().await?;
            look.stop_for_reserve().await?;
        } else {
            look.watch.runs.clear();
        }
        if !look.is_near() {
            look.watch.window = None;
            look.watch.told_of_others = false;
        }
        look.look_at_held().await
    }

    /// Data that was written and has no place on the disk yet may belong to an instance, so it counts as used. Where
    /// the disk would be near its reserve with it, it is written to the disk first.
    async fn look_at_disk(
        &self,
        watch: &mut Watch,
        limits: &GrowthLimits,
    ) -> Result<Disk, ControlError> {
        let deps = &self.deps;
        let free = deps.cloner.disk_usage()?.free_bytes;
        let unplaced = deps.cloner.unplaced_bytes();
        let placed = free.saturating_sub(unplaced);
        if unplaced == 0 || !limits.is_near(watch.losses.disk_with(placed)) {
            return Ok(watch.losses.see(placed));
        }
        let (cloner, root) = (deps.cloner.clone(), deps.layout.root().to_owned());
        let synced = tokio::task::spawn_blocking(move || cloner.sync(&root));
        synced.await.map_err(|_| ControlError::ActorEnded)??;
        Ok(watch.losses.see(deps.cloner.disk_usage()?.free_bytes))
    }

    /// The instances that run; at most `limits.max_running`.
    async fn running(&self) -> Result<Vec<InstanceStatus>, ControlError> {
        let filter = InstanceFilter {
            state: Some(StateName::Running),
            ..InstanceFilter::default()
        };
        Ok(self.deps.supervisor.send(ListInstances { filter }).await?)
    }

    async fn measure_trees(
        &self,
        trees: Vec<(InstanceUid, Trees)>,
        is_urgent: bool,
    ) -> Vec<(InstanceUid, Trees, Option<u64>)> {
        let layout = self.deps.layout.clone();
        let priority = match is_urgent {
            true => Priority::Normal,
            false => Priority::Lowest,
        };
        let measured = on_thread(priority, move || {
            let measured = trees.into_iter().map(|(uid, mut tree)| {
                let bytes = tree.measure(&layout, uid);
                if let Err(error) = &bytes {
                    // Files come and go under a running Postgres. The next look tries again.
                    tracing::debug!(%uid, %error, "an instance was not measured");
                }
                (uid, tree, bytes.ok())
            });
            measured.collect::<Vec<_>>()
        });
        measured.await.unwrap_or_default()
    }

    /// The names of the instances that may not take more of the disk.
    pub(super) fn names_held_back(&self) -> Vec<String> {
        self.held_back().keys().map(ToString::to_string).collect()
    }

    fn held_back(&self) -> MutexGuard<'_, BTreeMap<InstanceName, OverLimit>> {
        // Each change is one call.
        self.held_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
