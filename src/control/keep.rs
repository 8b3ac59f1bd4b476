//! Which snapshots are kept: pins, and the rule of each project.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use multidb_actors::clone_worker::DeleteSnapshot;
use multidb_actors::instance_table::InstanceCounts;
use multidb_actors::ports::CloneError;
use multidb_actors::snapshot_index::{ListSnapshots, UpdateSnapshot};
use multidb_actors::supervisor::{CountInstances, RemoveSnapshot};
use multidb_store::{ProjectName, SnapshotId, SnapshotPin, SnapshotRecord, error_chain, manifest};

use super::access::{Action, Caller, authorize};
use super::model::SnapshotView;
use super::{Control, ControlError};
use crate::keep::{Candidate, Held, KeepRule, Reason, reasons};

/// The reasons to keep each snapshot: of the projects that have a rule, and each derived one.
pub(super) type Reasons = BTreeMap<SnapshotId, Vec<Reason>>;

impl Control {
    /// Exempts a snapshot from its project's rule, for a time or without end.
    pub async fn pin_snapshot(
        &self,
        caller: &Caller,
        id: &SnapshotId,
        time: Option<Duration>,
    ) -> Result<SnapshotView, ControlError> {
        let now = self.deps.clock.now();
        let pin = match time {
            None => SnapshotPin::Forever,
            Some(time) => {
                let signed = SignedDuration::try_from(time).ok();
                let at = signed.and_then(|time| now.wall.checked_add(time).ok());
                let too_long = || ControlError::InvalidArgument("the time is too long".to_owned());
                SnapshotPin::Until {
                    at: at.ok_or_else(too_long)?,
                    observed: now.observed + time,
                }
            }
        };
        self.set_snapshot_pin(caller, id, pin).await
    }

    /// Lets the rule of its project delete a snapshot again.
    pub async fn unpin_snapshot(
        &self,
        caller: &Caller,
        id: &SnapshotId,
    ) -> Result<SnapshotView, ControlError> {
        self.set_snapshot_pin(caller, id, SnapshotPin::None).await
    }

    async fn set_snapshot_pin(
        &self,
        caller: &Caller,
        id: &SnapshotId,
        pin: SnapshotPin,
    ) -> Result<SnapshotView, ControlError> {
        // A snapshot that this finds is not deleted before its pin counts.
        let lock = self.keeping.lock().await;
        let snapshot = self.snapshot(id).await?;
        authorize(caller, Action::Change, &*snapshot, "pin snapshots")?;
        let record = SnapshotRecord {
            pin,
            ..(*snapshot).clone()
        };
        let (directory, written) = (self.deps.layout.snapshot(id), record.clone());
        let done = tokio::task::spawn_blocking(move || manifest::write(&directory, &written));
        done.await
            .map_err(|_| ControlError::ActorEnded)?
            .map_err(|error| CloneError::Failed {
                message: error_chain(&error),
            })?;
        if !self.deps.index.send(UpdateSnapshot(record)).await? {
            return Err(ControlError::NoSuchSnapshot(id.clone()));
        }
        drop(lock);
        tracing::info!(snapshot = %id, ?pin, %caller, "the pin of a snapshot is set");
        self.show_snapshot(caller, id).await
    }

    /// Deletes the snapshots that the rules of their projects do not keep. Errors are logged, and the next time tries
    /// again.
    pub async fn keep_in_background(&self) {
        if let Err(error) = self.delete_unkept().await {
            tracing::warn!(
                error = error_chain(&error),
                "snapshots beyond keep are not deleted now, but after the next import, or in a day"
            );
        }
    }

    /// Deletes them, and returns the first error.
    pub(super) async fn delete_unkept(&self) -> Result<(), ControlError> {
        // Decided and forgotten under the lock; the files go afterwards.
        let lock = self.keeping.lock().await;
        let all = self.deps.index.send(ListSnapshots).await?;
        let counts = self.deps.supervisor.send(CountInstances).await?;
        let reasons = self.keep_reasons(&all, &counts);
        let mut removed = Vec::new();
        for (id, _) in reasons.iter().filter(|(_, reasons)| reasons.is_empty()) {
            let sent = self.deps.supervisor.send(RemoveSnapshot {
                id: id.clone(),
                force: false,
            });
            match sent.await? {
                Ok(()) => removed.push(id.clone()),
                // An instance was made from it meanwhile.
                Err(error) => {
                    tracing::info!(snapshot = %id, %error, "a snapshot beyond keep stays")
                }
            }
        }
        drop(lock);
        for id in removed {
            let found = all.iter().find(|snapshot| snapshot.id == id);
            let Some(snapshot) = found else { continue };
            let rule = self.keep_rule(&snapshot.project).unwrap_or_default();
            let reason = match snapshot.is_derived() {
                true => "it is derived, and another one has its migrations".to_owned(),
                false => format!("it is beyond keep ({rule})"),
            };
            tracing::info!(
                snapshot = %id,
                project = %snapshot.project,
                taken_at = %snapshot.taken_at,
                reason,
                "deleting a snapshot"
            );
            self.deps.worker.send(DeleteSnapshot(id)).await??;
        }
        Ok(())
    }

    /// The reasons to keep each of these snapshots, which are all, of the projects that have a rule.
    pub(super) fn keep_reasons(
        &self,
        all: &[Arc<SnapshotRecord>],
        counts: &InstanceCounts,
    ) -> Reasons {
        let jobs = self.deps.jobs.list();
        let busy: BTreeSet<&SnapshotId> = jobs
            .iter()
            .filter(|job| !job.state.is_ended())
            .filter_map(|job| job.snapshot.as_ref())
            .collect();
        let mut found = Reasons::new();
        for (name, project) in &self.deps.config.projects {
            let rule = self.keep_rule(name);
            let zone = project
                .refresh
                .as_ref()
                .map(|refresh| refresh.timezone.clone());
            let of_project: Vec<_> = all.iter().filter(|one| one.project == *name).collect();
            let mut sets: BTreeMap<&[String], usize> = BTreeMap::new();
            let candidates: Vec<Candidate> = of_project
                .iter()
                .map(|snapshot| Candidate {
                    taken_at: snapshot.taken_at,
                    imported_at: snapshot.imported_at,
                    held: self.held(snapshot, counts, &busy),
                    derived: snapshot.is_derived(),
                    migrations: {
                        let next = sets.len();
                        *sets.entry(&snapshot.migrations).or_insert(next)
                    },
                })
                .collect();
            let zone = zone.unwrap_or(jiff::tz::TimeZone::UTC);
            let reasons = reasons(&candidates, &rule.unwrap_or_default(), &zone);
            let decided = of_project.into_iter().zip(reasons);
            // Without a rule, only derived ones go.
            let decided = decided.filter(|(one, _)| rule.is_some() || one.is_derived());
            found.extend(decided.map(|(snapshot, reasons)| (snapshot.id.clone(), reasons)));
        }
        found
    }

    fn held(
        &self,
        snapshot: &SnapshotRecord,
        counts: &InstanceCounts,
        busy: &BTreeSet<&SnapshotId>,
    ) -> Option<Held> {
        if self.is_pinned(snapshot) {
            return Some(Held::Pinned);
        }
        match counts.by_snapshot.get(&snapshot.id) {
            Some(&count) if count > 0 => Some(Held::Instances(count)),
            _ => busy.contains(&snapshot.id).then_some(Held::Job),
        }
    }

    pub(super) fn is_pinned(&self, snapshot: &SnapshotRecord) -> bool {
        let now = self.deps.clock.now();
        snapshot.pin.holds(now.wall, now.observed)
    }

    /// The end of a pin, for people.
    pub(super) fn pinned_until(snapshot: &SnapshotRecord) -> Option<Timestamp> {
        match snapshot.pin {
            SnapshotPin::Until { at, .. } => Some(at),
            SnapshotPin::None | SnapshotPin::Forever => None,
        }
    }

    fn keep_rule(&self, project: &ProjectName) -> Option<KeepRule> {
        let project = self.deps.config.projects.get(project)?;
        let keep = project.refresh.as_ref()?.keep?;
        Some(KeepRule {
            last: keep.last,
            daily: keep.daily,
            weekly: keep.weekly,
            monthly: keep.monthly,
        })
    }
}
