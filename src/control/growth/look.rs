//! One look at the disk and the running instances, and the stops that follow from it.

use std::time::Duration;

use multidb_actors::instance::lifecycle::State;
use multidb_actors::instance::{InstanceStatus, OverLimit};
use multidb_actors::sessions::EndReason;
use multidb_actors::supervisor::{GetInstance, LimitInstance};
use multidb_store::InstanceUid;
use tokio::time::Instant;

use super::watch::{Held, Run, Watch, Window};
use crate::control::advice::over_limit;
use crate::control::{Control, ControlError};
use crate::growth::{Disk, GrowthLimits};

/// Growth that is older than this does not count on a disk that comes to its reserve.
const WINDOW: Duration = Duration::from_secs(30);
/// Instances that were stopped are looked at again after this time.
const HELD_INTERVAL: Duration = Duration::from_secs(5);

/// One look.
pub(super) struct Look<'a> {
    pub(super) control: &'a Control,
    /// The looks before.
    pub(super) watch: &'a mut Watch,
    pub(super) limits: GrowthLimits,
    pub(super) disk: Disk,
    /// The running instances that were not stopped before; none where none are measured.
    pub(super) running: &'a [InstanceStatus],
}

impl Look<'_> {
    pub(super) fn is_near(&self) -> bool {
        self.limits.is_near(self.disk)
    }

    fn is_critical(&self) -> bool {
        self.limits.is_critical(self.disk)
    }

    /// Measures the runs that are due, and begins a new window where one has ended.
    pub(super) async fn measure_due(&mut self) {
        let is_known = |uid: &InstanceUid| self.running.iter().any(|one| one.record.uid == *uid);
        self.watch.runs.retain(|uid, _| is_known(uid));
        let (is_near, is_critical) = (self.is_near(), self.is_critical());
        let is_old = |window: Window| window.began.elapsed() >= WINDOW;
        let has_ended = is_near && !is_critical && self.watch.window.is_none_or(is_old);
        let due = self.running.iter().map(|one| one.record.uid);
        let due = due.filter(|uid| {
            let run = self.watch.runs.get(uid);
            let last = run.and_then(Run::measurement);
            let is_unknown = run.is_none_or(|run| run.at_window.is_none());
            is_critical
                || has_ended
                || (is_near && is_unknown)
                || self.limits.is_due(last, self.disk.free_bytes)
        });
        let due: Vec<_> = due.collect();
        self.measure(due).await;
        if has_ended {
            self.watch.begin_window(self.disk.free_bytes);
        }
    }

    /// Measures these runs, with the lowest priority unless it is urgent.
    async fn measure(&mut self, due: Vec<InstanceUid>) {
        if due.is_empty() {
            return;
        }
        let taken = due.into_iter().map(|uid| {
            let run = self.watch.runs.entry(uid).or_default();
            (uid, std::mem::take(&mut run.tree))
        });
        let taken: Vec<_> = taken.collect();
        let measured = self.control.measure_trees(taken, self.is_near());
        for (uid, tree, bytes) in measured.await {
            if let Some(run) = self.watch.runs.get_mut(&uid) {
                run.tree = tree;
                if let Some(bytes) = bytes {
                    run.note(bytes, self.disk.free_bytes);
                }
            }
        }
    }

    /// Stops the instances that are over `limits.max_instance_bytes`.
    pub(super) async fn stop_over_bytes(&mut self) -> Result<(), ControlError> {
        for status in self.running {
            let run = self.watch.runs.get(&status.record.uid);
            let bytes = run.and_then(|run| run.last).map_or(0, |last| last.bytes);
            if let Some(over) = self.limits.over_bytes(bytes) {
                self.end_growth(status, over).await?;
            }
        }
        Ok(())
    }

    /// Stops the instances that grew most, if the disk comes to its reserve.
    pub(super) async fn stop_for_reserve(&mut self) -> Result<(), ControlError> {
        if !self.is_critical() {
            return Ok(());
        }
        let (free_bytes, reserve_bytes) = (self.disk.free_bytes, self.limits.reserve_bytes);
        let Some(window) = self.watch.window else {
            // The next look knows the growth since this one.
            self.watch.begin_window(free_bytes);
            return Ok(());
        };
        let grown = self.running.iter().map(|status| {
            let run = self.watch.runs.get(&status.record.uid);
            run.map_or(0, Run::grown)
        });
        let grown: Vec<u64> = grown.collect();
        let lost_bytes = window.free_bytes.saturating_sub(free_bytes);
        let stopped = self.limits.over_reserve(self.disk, &grown, lost_bytes);
        let stopped_at = self.watch.stopped_at;
        let is_late = stopped_at.is_none_or(|at| at.elapsed() >= WINDOW);
        let is_below = free_bytes < reserve_bytes;
        if stopped.is_empty() && is_below && is_late && !self.watch.told_of_others {
            self.watch.told_of_others = true;
            tracing::warn!(
                free_bytes,
                reserve_bytes,
                grown_bytes = grown.iter().sum::<u64>(),
                lost_bytes,
                "the disk is below its reserve, and it is not the instances that fill it: no instance is stopped, make room"
            );
        }
        for &place in &stopped {
            let over = OverLimit::DiskReserve {
                grown_bytes: grown[place],
                free_bytes,
                reserve_bytes,
                needed_bytes: self.limits.needed_bytes(free_bytes),
            };
            self.end_growth(&self.running[place], over).await?;
        }
        if !stopped.is_empty() {
            let all: u64 = grown.iter().sum();
            let ended: u64 = stopped.iter().map(|&place| grown[place]).sum();
            let rest = self.disk.of_part(all - ended, all);
            self.watch.note_stop(rest);
        }
        Ok(())
    }

    /// Stops an instance that is over a limit, and tells its sessions why.
    async fn end_growth(
        &mut self,
        status: &InstanceStatus,
        over: OverLimit,
    ) -> Result<(), ControlError> {
        let control = self.control;
        let (name, uid) = (status.record.name.clone(), status.record.uid);
        let limit = LimitInstance {
            name: name.clone(),
            uid,
            over: Some(over),
        };
        if !control.deps.supervisor.send(limit).await? {
            return Ok(());
        }
        tracing::warn!(
            instance = %name,
            %uid,
            reason = %over,
            hint = over_limit(name.as_str(), &over),
            "an instance may not take more disk space, it is stopped"
        );
        control.tell_sessions(status, &EndReason::OverLimit(over));
        let tree = self.watch.runs.remove(&uid).map(|run| run.tree);
        let held = Held {
            uid,
            over,
            tree: tree.unwrap_or_default(),
            looked_at: Instant::now(),
        };
        control.held_back().insert(name.clone(), over);
        self.watch.held.insert(name, held);
        Ok(())
    }

    /// Lets instances below their limits start again, and forgets instances that are gone or have fresh data.
    pub(super) async fn look_at_held(&mut self) -> Result<(), ControlError> {
        let control = self.control;
        let due = self.watch.held.iter();
        let due = due.filter(|(_, held)| held.looked_at.elapsed() >= HELD_INTERVAL);
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some(mut held) = self.watch.held.remove(&name) else {
                continue;
            };
            let status = control.deps.supervisor.send(GetInstance(name.clone()));
            let status = status.await?;
            let status = status.filter(|status| status.record.uid == held.uid);
            let Some(status) = status else {
                control.held_back().remove(&name);
                continue;
            };
            held.looked_at = Instant::now();
            let is_at_rest = matches!(status.state, State::Stopped | State::Failed);
            let over = if is_at_rest {
                self.over_still(&mut held).await
            } else {
                Some(held.over)
            };
            // Told again, since an actor that was rebuilt has forgotten it.
            let limit = LimitInstance {
                name: name.clone(),
                uid: held.uid,
                over,
            };
            control.deps.supervisor.send(limit).await?;
            if let Some(over) = over {
                held.over = over;
                control.held_back().insert(name.clone(), over);
                self.watch.held.insert(name, held);
            } else {
                control.held_back().remove(&name);
                tracing::info!(instance = %name, uid = %held.uid, "an instance may be started again, since it is below the limits of disk space");
            }
        }
        Ok(())
    }

    /// The limit that a stopped instance is still over.
    async fn over_still(&self, held: &mut Held) -> Option<OverLimit> {
        match held.over {
            OverLimit::DiskReserve { needed_bytes, .. } => {
                (self.disk.free_bytes < needed_bytes).then_some(held.over)
            }
            OverLimit::MaxInstanceBytes { .. } => {
                let tree = std::mem::take(&mut held.tree);
                let measured = self.control.measure_trees(vec![(held.uid, tree)], false);
                let Some((_, tree, Some(bytes))) = measured.await.into_iter().next() else {
                    return Some(held.over);
                };
                held.tree = tree;
                self.limits.over_bytes(bytes)
            }
        }
    }
}
