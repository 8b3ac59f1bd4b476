//! Makes room on a disk that is above `limits.disk_high_water`, by the order of [`pressure`].

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use multidb_actors::instance::ExpiryAnswer;
use multidb_actors::instance::lifecycle::State;
use multidb_actors::ports::Taken;
use multidb_actors::snapshot_index::ListSnapshots;
use multidb_actors::supervisor::{CountInstances, DeleteForRoom, GetInstance};
use multidb_store::{InstanceUid, JobKind, error_chain};
use tokio::time::Instant;

use super::model::{PressureStepView, PressureView};
use super::{Control, ControlError};
use crate::clone::{DiskUsage, exclusive_bytes};
use crate::costs::Priority;
use crate::instances::{Followed, IsWanted};
use crate::pressure::{self, Candidate, Choice, Dedup, Situation, Step, Unmeasured};

/// How often the disk is looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// After this time, steps that failed are tried again.
const RETRY: Duration = Duration::from_secs(600);
/// The longest wait for the end of a deletion.
const DELETION_TIMEOUT: Duration = Duration::from_secs(300);
/// For so long the file system gives out nothing more of the room that a deletion freed before the next step is taken.
const ROOM_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The steps that the status shows.
const STEPS_MAX: usize = 20;

/// The steps that were tried since the disk went above its mark.
struct Tried {
    since: Instant,
    trash: bool,
    dedup: bool,
    snapshots: bool,
    instances: BTreeSet<InstanceUid>,
    /// All instances, from the first time on that one may have to be deleted.
    all: Option<Followed<IsWanted>>,
}

impl Default for Tried {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            trash: false,
            dedup: false,
            snapshots: false,
            instances: BTreeSet::new(),
            all: None,
        }
    }
}

impl Control {
    /// Keeps the disk below its mark, until it is dropped.
    pub async fn relieve_pressure(&self) {
        let mut tried = Tried::default();
        loop {
            let goes_on = self.relieve_once(&mut tried).await;
            let goes_on = goes_on.unwrap_or_else(|error| {
                tracing::warn!(error = error_chain(&error), "cannot make room on the disk");
                false
            });
            if !goes_on {
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }

    /// Takes one step, and returns whether to look at once for the next one.
    async fn relieve_once(&self, tried: &mut Tried) -> Result<bool, ControlError> {
        if let Some(totals) = self.deps.costs.totals() {
            self.deps.cloner.note_taken(Taken {
                instances_bytes: totals.instances_bytes,
                snapshots_bytes: totals.exclusive_bytes - totals.instances_bytes,
            });
        }
        let Some(mark) = self.deps.config.disk_high_water else {
            return Ok(false);
        };
        let before = self.deps.cloner.disk_usage()?;
        let bytes_above = before.bytes_above(mark);
        self.note_pressure(mark, before);
        if bytes_above == 0 || tried.since.elapsed() >= RETRY {
            *tried = Tried::default();
        }
        if bytes_above == 0 {
            return Ok(false);
        }
        let (facts, unkept_bytes) = self.pressure_facts(bytes_above, before, tried).await?;
        let step = pressure::next(&facts, &self.deps.config.limits, self.deps.clock.now());
        match step {
            Step::Rest | Step::AwaitDedup => return Ok(false),
            Step::NothingLeft | Step::FilledByOthers => {
                self.note_nothing_left(&facts, step == Step::FilledByOthers);
                return Ok(false);
            }
            Step::EmptyTrash => {
                tried.trash = true;
                let (cloner, trash) = (self.deps.cloner.clone(), self.deps.layout.trash());
                let swept = tokio::task::spawn_blocking(move || {
                    let bytes = exclusive_bytes(&trash).unwrap_or(0);
                    cloner.sweep_trash().map(|()| bytes)
                });
                let bytes = swept.await.map_err(|_| ControlError::ActorEnded)??;
                let what = "emptied the trash".to_owned();
                self.note_step(what, before, bytes).await;
            }
            Step::Deduplicate => {
                tried.dedup = true;
                self.dedup_in_background().await;
                let what = "began to let the snapshots share their blocks";
                self.note_step(what.to_owned(), before, 0).await;
            }
            Step::DeleteSnapshots => {
                tried.snapshots = true;
                self.delete_unkept().await?;
                let what = match facts.unkept {
                    1 => "deleted 1 snapshot beyond keep".to_owned(),
                    count => format!("deleted {count} snapshots beyond keep"),
                };
                self.note_step(what, before, unkept_bytes).await;
            }
            Step::Measure(unmeasured) => self.measure_for_room(unmeasured, tried).await?,
            Step::DeleteInstance(choice) => {
                tried.instances.insert(choice.uid);
                if self.delete_for_room(&choice, bytes_above).await? {
                    // It may have been the last instance that needed its snapshot.
                    tried.snapshots = false;
                    let (name, bytes) = (&choice.name, choice.exclusive_bytes);
                    let what = match choice.is_marked {
                        true => format!("deleted instance {name}, which was marked as expired"),
                        false => format!("deleted instance {name}, the least recently used one"),
                    };
                    self.note_step(what, before, bytes).await;
                }
            }
        }
        Ok(true)
    }

    async fn pressure_facts(
        &self,
        bytes_above: u64,
        usage: DiskUsage,
        tried: &mut Tried,
    ) -> Result<(Situation, u64), ControlError> {
        let deps = &self.deps;
        let snapshots = deps.index.send(ListSnapshots).await?;
        let counts = deps.supervisor.send(CountInstances).await?;
        let reasons = self.keep_reasons(&snapshots, &counts);
        let unkept: Vec<_> = reasons
            .iter()
            .filter(|(_, reasons)| reasons.is_empty() && !tried.snapshots)
            .map(|(id, _)| deps.costs.of_snapshot(id).unwrap_or(0))
            .collect();
        let instances = self.candidates(tried).await?;
        let of_snapshots = snapshots.iter().map(|snapshot| snapshot.bytes);
        let of_instances = deps.costs.totals().map(|totals| totals.instances_bytes);
        let facts = Situation {
            bytes_above,
            bytes_taken_max: of_snapshots.sum::<u64>() + of_instances.unwrap_or(0),
            is_below_reserve: usage.free_bytes < deps.config.disk_reserve_bytes,
            has_trash: !tried.trash && deps.cloner.trash_count()? > 0,
            dedup: self.dedup_progress(tried).await?,
            unkept: unkept.len(),
            instances,
        };
        Ok((facts, unkept.iter().sum()))
    }

    async fn dedup_progress(&self, tried: &Tried) -> Result<Dedup, ControlError> {
        if self.deps.deduplicator.is_paused() {
            return Ok(Dedup::Done);
        }
        let jobs = self.deps.jobs.list();
        let mut jobs = jobs.iter().filter(|job| job.kind == JobKind::Dedup);
        if jobs.any(|job| !job.state.is_ended()) {
            return Ok(Dedup::Running);
        }
        let may_start = !tried.dedup && self.dedup_is_automatic();
        Ok(if may_start && !self.pending_dedup().await?.is_empty() {
            Dedup::Pending
        } else {
            Dedup::Done
        })
    }

    async fn candidates(&self, tried: &mut Tried) -> Result<Vec<Candidate>, ControlError> {
        let all = match &mut tried.all {
            Some(all) => all,
            none => {
                let wanted: IsWanted = |_| true;
                none.insert(Followed::new(&self.deps.supervisor, wanted).await?)
            }
        };
        all.update();
        let rest = all.wanted();
        let rest = rest.filter(|status| !tried.instances.contains(&status.record.uid));
        let candidates = rest.map(|status| {
            let is_at_rest = matches!(
                status.state,
                State::Stopped | State::Failed | State::Running { .. }
            );
            Candidate {
                is_busy: !status.unused || !is_at_rest,
                exclusive_bytes: self.deps.costs.of_instance(status.record.uid),
                record: status.record.clone(),
            }
        });
        Ok(candidates.collect())
    }

    /// Measures instances that were not measured yet. An instance that cannot be measured is passed over for a while.
    async fn measure_for_room(
        &self,
        unmeasured: Vec<Unmeasured>,
        tried: &mut Tried,
    ) -> Result<(), ControlError> {
        let deps = &self.deps;
        for Unmeasured { name, uid } in unmeasured {
            let status = deps.supervisor.send(GetInstance(name)).await?;
            let Some(status) = status.filter(|status| status.record.uid == uid) else {
                continue;
            };
            let snapshot = self.snapshot(&status.record.snapshot).await.ok();
            let full_bytes = snapshot.map(|snapshot| snapshot.bytes);
            let costs = &deps.costs;
            let measured =
                costs.measure_instance(&deps.layout, &status, full_bytes, Priority::Normal);
            if measured.await.is_none() {
                tried.instances.insert(uid);
            }
        }
        Ok(())
    }

    /// Deletes an instance and waits for that. Returns whether it is gone.
    async fn delete_for_room(
        &self,
        choice: &Choice,
        bytes_above: u64,
    ) -> Result<bool, ControlError> {
        let began = Instant::now();
        // A running instance is stopped first.
        for _ in 0..2 {
            let delete = DeleteForRoom {
                name: choice.name.clone(),
                uid: choice.uid,
            };
            if self.deps.supervisor.send(delete).await? == ExpiryAnswer::Declined {
                tracing::info!(instance = %choice.name, "instance does not make room, since it is in use or protected");
                return Ok(false);
            }
            tracing::warn!(
                instance = %choice.name,
                uid = %choice.uid,
                exclusive_bytes = choice.exclusive_bytes,
                bytes_above,
                reason = if choice.is_marked { "it is marked as expired" } else { "it is the least recently used one" },
                "an instance makes room, since the disk is above limits.disk_high_water"
            );
            if self.until_at_rest(choice, began).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until the instance is gone, and returns true, or until it is stopped.
    async fn until_at_rest(&self, choice: &Choice, began: Instant) -> Result<bool, ControlError> {
        while began.elapsed() < DELETION_TIMEOUT {
            let status = self.deps.supervisor.send(GetInstance(choice.name.clone()));
            match status.await? {
                Some(status) if status.record.uid != choice.uid => return Ok(true),
                None => return Ok(true),
                Some(status) if matches!(status.state, State::Stopped | State::Failed) => {
                    return Ok(false);
                }
                Some(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
        Ok(false)
    }

    /// Waits until the file system has given out most of these bytes, and notes the freed bytes.
    async fn note_step(&self, what: String, before: DiskUsage, expected: u64) {
        let (mut most, mut grew_at) = (0, Instant::now());
        let freed = loop {
            let cloner = self.deps.cloner.clone();
            let root = self.deps.layout.root().to_owned();
            let freed = tokio::task::spawn_blocking(move || {
                cloner.sync(&root).and_then(|()| cloner.disk_usage())
            });
            let freed = match freed.await {
                Ok(Ok(now)) => now.free_bytes.saturating_sub(before.free_bytes),
                Ok(Err(_)) | Err(_) => break 0,
            };
            if freed > most {
                (most, grew_at) = (freed, Instant::now());
            }
            if freed >= expected / 2 || grew_at.elapsed() >= ROOM_TIMEOUT {
                break freed;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        tracing::info!(
            step = what,
            bytes_freed = freed,
            "made room, since the disk is above limits.disk_high_water"
        );
        if let Some(pressure) = &mut *self.pressure() {
            pressure.nothing_left = false;
            pressure.steps.push(PressureStepView {
                at: self.deps.clock.now().wall,
                what,
                bytes_freed: freed,
            });
            let surplus = pressure.steps.len().saturating_sub(STEPS_MAX);
            pressure.steps.drain(..surplus);
        }
    }

    /// Notes whether the disk is above its mark, and logs the change.
    fn note_pressure(&self, mark: u8, usage: DiskUsage) {
        let bytes_above = usage.bytes_above(mark);
        let mut pressure = self.pressure();
        let was_above = pressure.as_ref().is_some_and(|one| one.bytes_above > 0);
        match (was_above, bytes_above > 0) {
            (false, true) => {
                tracing::warn!(
                    used_percent = usage.percent(),
                    mark_percent = mark,
                    bytes_above,
                    "the disk is above limits.disk_high_water, making room"
                );
                *pressure = Some(PressureView {
                    since: self.deps.clock.now().wall,
                    bytes_above,
                    steps: Vec::new(),
                    nothing_left: false,
                });
            }
            (true, false) => tracing::info!(
                used_percent = usage.percent(),
                mark_percent = mark,
                "the disk is below limits.disk_high_water again"
            ),
            (true, true) | (false, false) => {}
        }
        if let Some(pressure) = &mut *pressure {
            pressure.bytes_above = bytes_above;
        }
    }

    fn note_nothing_left(&self, facts: &Situation, is_filled_by_others: bool) {
        let mut pressure = self.pressure();
        let Some(pressure) = pressure.as_mut().filter(|one| !one.nothing_left) else {
            return;
        };
        pressure.nothing_left = true;
        let Situation {
            bytes_above,
            bytes_taken_max,
            ..
        } = facts;
        if is_filled_by_others {
            tracing::warn!(
                bytes_above,
                bytes_taken_max,
                "the disk is above limits.disk_high_water, and snapshots and instances take too little to bring it below: \
                 give the root a file system of its own"
            );
        } else {
            tracing::warn!(
                bytes_above,
                "the disk is above limits.disk_high_water, and there is nothing that may be deleted by itself"
            );
        }
    }

    /// The steps taken since the disk was last above its mark; `None` if it never was.
    pub(super) fn last_pressure(&self) -> Option<PressureView> {
        self.pressure().clone()
    }

    fn pressure(&self) -> MutexGuard<'_, Option<PressureView>> {
        // Each change is whole when the lock is free.
        self.pressure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
