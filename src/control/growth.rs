//! Stops running instances before they take too much of the disk, by the rules of [`growth`](crate::growth).

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use multidb_actors::instance::lifecycle::{State, StateName};
use multidb_actors::instance::{InstanceStatus, OverLimit};
use multidb_actors::instance_table::InstanceFilter;
use multidb_actors::sessions::EndReason;
use multidb_actors::supervisor::{GetInstance, LimitInstance, ListInstances};
use multidb_store::{InstanceName, InstanceUid, error_chain};
use tokio::time::Instant;

use super::advice::over_limit;
use super::{Control, ControlError};
use crate::costs::{Priority, on_thread};
use crate::growth::{Disk, GrowthLimits};

mod watch;

use self::watch::{Held, Run, Trees, Watch, Window};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// What grew before this time does not count on a disk that comes to its reserve.
const WINDOW: Duration = Duration::from_secs(30);
/// An instance that is stopped for the reserve has so long to end before another one is.
const SETTLING: Duration = Duration::from_millis(1500);
/// Instances that were stopped are looked at again after this time.
const HELD_INTERVAL: Duration = Duration::from_secs(5);

impl Control {
    /// Keeps instances below their limits and the reserve free, until it is dropped.
    pub async fn limit_growth(&self) {
        let mut watch = Watch::default();
        loop {
            tokio::time::sleep(INTERVAL).await;
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
        let (free_bytes, unplaced_bytes) = self.free_bytes(watch, &limits).await?;
        let disk = watch.see(free_bytes);
        // What has no place yet may belong to an instance.
        let seen_bytes = free_bytes.saturating_sub(unplaced_bytes);
        let (is_near, is_critical) = (limits.is_near(disk), limits.is_critical(disk));
        if limits.max_instance_bytes.is_some() || is_near {
            let mut running = self.running().await?;
            running.retain(|status| !watch.is_held(status));
            let is_known = |uid: &InstanceUid| running.iter().any(|one| one.record.uid == *uid);
            watch.runs.retain(|uid, _| is_known(uid));
            let is_old = |window: Window| window.began.elapsed() >= WINDOW;
            let has_ended = is_near && !is_critical && watch.window.is_none_or(is_old);
            let due = running.iter().map(|one| one.record.uid);
            let due = due.filter(|uid| {
                let run = watch.runs.get(uid);
                let last = run.and_then(Run::measurement);
                let is_unknown = run.is_none_or(|run| run.at_window.is_none());
                is_critical
                    || has_ended
                    || (is_near && is_unknown)
                    || limits.is_due(last, seen_bytes)
            });
            let due: Vec<_> = due.collect();
            self.measure_runs(watch, due, seen_bytes, is_critical).await;
            if has_ended {
                watch.begin_window(disk.free_bytes);
            }
            self.stop_over_bytes(watch, &limits, &running, disk).await?;
            if is_critical {
                self.stop_for_reserve(watch, &limits, &running, disk)
                    .await?;
            }
        } else {
            watch.runs.clear();
        }
        if !is_near {
            watch.window = None;
            watch.told_of_others = false;
        }
        self.look_at_held(watch, &limits, disk).await
    }

    /// The free bytes, and at most so many of them that were written and are not counted yet. Where they might be what
    /// the reserve needs, they are written to the disk first.
    async fn free_bytes(
        &self,
        watch: &Watch,
        limits: &GrowthLimits,
    ) -> Result<(u64, u64), ControlError> {
        let deps = &self.deps;
        let free = deps.cloner.disk_usage()?.free_bytes;
        let unplaced = deps.cloner.unplaced_bytes();
        let without = Disk {
            free_bytes: free.saturating_sub(unplaced),
            rate: watch.rate(),
        };
        if unplaced == 0 || !limits.is_near(without) {
            return Ok((free, unplaced));
        }
        let (cloner, root) = (deps.cloner.clone(), deps.layout.root().to_owned());
        let synced = tokio::task::spawn_blocking(move || cloner.sync(&root));
        synced.await.map_err(|_| ControlError::ActorEnded)??;
        Ok((deps.cloner.disk_usage()?.free_bytes, 0))
    }

    /// The instances that run; at most `limits.max_running`.
    async fn running(&self) -> Result<Vec<InstanceStatus>, ControlError> {
        let filter = InstanceFilter {
            state: Some(StateName::Running),
            ..InstanceFilter::default()
        };
        Ok(self.deps.supervisor.send(ListInstances { filter }).await?)
    }

    /// Measures these runs, with the lowest priority unless it is urgent.
    async fn measure_runs(
        &self,
        watch: &mut Watch,
        due: Vec<InstanceUid>,
        free_bytes: u64,
        is_urgent: bool,
    ) {
        if due.is_empty() {
            return;
        }
        let taken = due.into_iter().map(|uid| {
            let run = watch.runs.entry(uid).or_default();
            (uid, std::mem::take(&mut run.tree))
        });
        let taken: Vec<_> = taken.collect();
        let measured = self.measure_trees(taken, is_urgent).await;
        for (uid, tree, bytes) in measured {
            if let Some(run) = watch.runs.get_mut(&uid) {
                run.tree = tree;
                if let Some(bytes) = bytes {
                    run.note(bytes, free_bytes);
                }
            }
        }
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

    async fn stop_over_bytes(
        &self,
        watch: &mut Watch,
        limits: &GrowthLimits,
        running: &[InstanceStatus],
        disk: Disk,
    ) -> Result<(), ControlError> {
        for status in running {
            let run = watch.runs.get(&status.record.uid);
            let bytes = run.and_then(|run| run.last).map_or(0, |last| last.bytes);
            if let Some(over) = limits.over_bytes(bytes) {
                self.end_growth(watch, status, over, disk).await?;
            }
        }
        Ok(())
    }

    async fn stop_for_reserve(
        &self,
        watch: &mut Watch,
        limits: &GrowthLimits,
        running: &[InstanceStatus],
        disk: Disk,
    ) -> Result<(), ControlError> {
        let stopped_for = watch.stopped_at.map(|at| at.elapsed());
        if stopped_for.is_some_and(|time| time < SETTLING) {
            return Ok(());
        }
        let Some(window) = watch.window else {
            // The next look knows what has grown since this one.
            watch.begin_window(disk.free_bytes);
            return Ok(());
        };
        let grown = running.iter().map(|status| {
            let run = watch.runs.get(&status.record.uid);
            run.map_or(0, Run::grown)
        });
        let grown: Vec<u64> = grown.collect();
        let lost_bytes = window.free_bytes.saturating_sub(disk.free_bytes);
        let stopped = limits.over_reserve(disk, &grown, lost_bytes);
        let is_late = stopped_for.is_none_or(|time| time >= WINDOW);
        let is_below = disk.free_bytes < limits.reserve_bytes;
        if stopped.is_empty() && is_below && is_late && !watch.told_of_others {
            watch.told_of_others = true;
            tracing::warn!(
                free_bytes = disk.free_bytes,
                reserve_bytes = limits.reserve_bytes,
                grown_bytes = grown.iter().sum::<u64>(),
                lost_bytes,
                "the disk is below its reserve, and it is not the instances that fill it: no instance is stopped, make room"
            );
        }
        for place in &stopped {
            let place = *place;
            let over = OverLimit::DiskReserve {
                grown_bytes: grown[place],
                free_bytes: disk.free_bytes,
                reserve_bytes: limits.reserve_bytes,
            };
            self.end_growth(watch, &running[place], over, disk).await?;
        }
        if !stopped.is_empty() {
            watch.note_stop(disk.free_bytes);
        }
        Ok(())
    }

    /// Stops an instance that is over a limit, and tells its sessions why.
    async fn end_growth(
        &self,
        watch: &mut Watch,
        status: &InstanceStatus,
        over: OverLimit,
        disk: Disk,
    ) -> Result<(), ControlError> {
        let (name, uid) = (status.record.name.clone(), status.record.uid);
        let limit = LimitInstance {
            name: name.clone(),
            uid,
            over: Some(over),
        };
        if !self.deps.supervisor.send(limit).await? {
            return Ok(());
        }
        tracing::warn!(
            instance = %name,
            %uid,
            reason = %over,
            hint = over_limit(name.as_str(), &over),
            "an instance may not take more disk space, it is stopped"
        );
        self.tell_sessions(status, &EndReason::OverLimit(over));
        let tree = watch.runs.remove(&uid).map(|run| run.tree);
        let held = Held {
            uid,
            over,
            tree: tree.unwrap_or_default(),
            free_bytes: disk.free_bytes,
            looked_at: Instant::now(),
        };
        self.held_back().insert(name.clone(), over);
        watch.held.insert(name, held);
        Ok(())
    }

    /// Lets instances start again that are below their limits, and forgets those that are gone or have fresh data.
    async fn look_at_held(
        &self,
        watch: &mut Watch,
        limits: &GrowthLimits,
        disk: Disk,
    ) -> Result<(), ControlError> {
        let due = watch.held.iter();
        let due = due.filter(|(_, held)| held.looked_at.elapsed() >= HELD_INTERVAL);
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some(mut held) = watch.held.remove(&name) else {
                continue;
            };
            let status = self.deps.supervisor.send(GetInstance(name.clone()));
            let status = status.await?;
            let status = status.filter(|status| status.record.uid == held.uid);
            let Some(status) = status else {
                self.held_back().remove(&name);
                continue;
            };
            held.looked_at = Instant::now();
            let is_at_rest = matches!(status.state, State::Stopped | State::Failed);
            let over = if is_at_rest {
                self.over_still(&mut held, limits, disk).await
            } else {
                Some(held.over)
            };
            // Told again, since an actor that was rebuilt has forgotten it.
            let limit = LimitInstance {
                name: name.clone(),
                uid: held.uid,
                over,
            };
            self.deps.supervisor.send(limit).await?;
            if let Some(over) = over {
                held.over = over;
                self.held_back().insert(name.clone(), over);
                watch.held.insert(name, held);
            } else {
                self.held_back().remove(&name);
                tracing::info!(instance = %name, uid = %held.uid, "an instance may be started again, since it is below the limits of disk space");
            }
        }
        Ok(())
    }

    /// The limit that a stopped instance is still over.
    async fn over_still(
        &self,
        held: &mut Held,
        limits: &GrowthLimits,
        disk: Disk,
    ) -> Option<OverLimit> {
        match held.over {
            OverLimit::DiskReserve { .. } => {
                let has_room = limits.has_room(held.free_bytes, disk.free_bytes);
                (!has_room).then_some(held.over)
            }
            OverLimit::MaxInstanceBytes { .. } => {
                let tree = std::mem::take(&mut held.tree);
                let measured = self.measure_trees(vec![(held.uid, tree)], false).await;
                let Some((_, tree, Some(bytes))) = measured.into_iter().next() else {
                    return Some(held.over);
                };
                held.tree = tree;
                limits.over_bytes(bytes)
            }
        }
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
