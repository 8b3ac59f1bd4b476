//! The end of an instance's actor.
//!
//! After a deletion the instance is forgotten. After a panic, which ends that actor only, the actor is rebuilt, a
//! bounded number of times: from the last write of the CloneWorker, after any job of it that is still in progress; from
//! its last status; and from the running Postgres, whose sessions stay counted.
//!
//! Clients and commands that come meanwhile wait.
//!
//! An actor that keeps panicking is given up: the instance is shown as failed, and its Postgres, if it runs, goes on
//! serving its sessions. An administrator's command rebuilds the actor once more.

use std::time::Duration;

use super::*;
use crate::instance::{Found, InstanceError, RunLeases, Written, origin, superseded};
use crate::metrics::labels::Revival;
use crate::ports::{FIND_TIMEOUT, FoundPostgres, ServerError, ServerId, find_server};

/// How often an actor is rebuilt within [`REVIVALS_WINDOW`].
const REVIVALS_MAX: usize = 5;
const REVIVALS_WINDOW: Duration = Duration::from_secs(600);

impl Supervisor {
    pub(super) fn actor_ended(&mut self, name: &InstanceName, ctx: &mut Context<Self>) {
        let Some(status) = self.table.get(name) else {
            return;
        };
        if status.state == State::Gone {
            self.table.remove(name);
            self.actors.remove(name);
            return;
        }
        let Some(entry) = self.actors.get_mut(name) else {
            return;
        };
        if matches!(entry.life, ActorLife::Renaming(_)) {
            // The rename goes on with the actor's shared state.
            return;
        }
        if self.draining {
            entry.life = ActorLife::GivenUp;
            return;
        }
        let now = tokio::time::Instant::now();
        entry
            .revivals
            .retain(|at| now.saturating_duration_since(*at) < REVIVALS_WINDOW);
        if entry.revivals.len() >= REVIVALS_MAX {
            tracing::error!(
                instance = %name,
                revivals = REVIVALS_MAX,
                "an instance's actor keeps panicking and is given up, report this defect; multidb instance recover starts it again"
            );
            entry.life = ActorLife::GivenUp;
            self.deps.metrics.revivals.count(Revival::GivenUp);
            return self.table.publish(InstanceStatus {
                state: State::Failed,
                endpoint: None,
                failure: Some(InstanceError::GivenUp),
                ..status
            });
        }
        entry.revivals.push(now);
        self.deps.metrics.revivals.count(Revival::Rebuilt);
        tracing::error!(instance = %name, state = status.state.name(), "an instance's actor panicked, it is rebuilt");
        self.revive(status, ctx);
    }

    /// Resolves when an actor that has ended was rebuilt, or its instance is gone; `None` where there is nothing to
    /// wait for.
    pub(super) fn rebuilt(&mut self, name: &InstanceName) -> Option<oneshot::Receiver<()>> {
        let entry = self.actors.get_mut(name)?;
        if matches!(entry.life, ActorLife::Alive) && !entry.addr.connected() && !self.draining {
            // The report of its end is on its way.
            entry.life = ActorLife::Rebuilding(Vec::new());
        }
        let (ActorLife::Rebuilding(waiting) | ActorLife::Renaming(waiting)) = &mut entry.life
        else {
            return None;
        };
        let (sender, rebuilt) = oneshot::channel();
        waiting.push(sender);
        Some(rebuilt)
    }

    /// As [`rebuilt`](Self::rebuilt), for an administrator's command, which also rebuilds an actor that was given up.
    pub(super) fn rebuilt_for_command(
        &mut self,
        name: &InstanceName,
        ctx: &mut Context<Self>,
    ) -> Option<oneshot::Receiver<()>> {
        if let Some(status) = self.table.get(name)
            && let Some(entry) = self.actors.get_mut(name)
            && matches!(entry.life, ActorLife::GivenUp)
            && !self.draining
        {
            entry.revivals.clear();
            tracing::info!(instance = %name, "the actor of an instance that was given up is rebuilt");
            self.revive(status, ctx);
        }
        self.rebuilt(name)
    }

    /// Rebuilds the actor of an instance from its last status.
    pub(super) fn revive(&mut self, status: InstanceStatus, ctx: &mut Context<Self>) {
        let name = status.record.name.clone();
        let Some(entry) = self.actors.get_mut(&name) else {
            return;
        };
        if !matches!(entry.life, ActorLife::Rebuilding(_)) {
            entry.life = ActorLife::Rebuilding(Vec::new());
        }
        let (runtime, shared) = (self.deps.runtime.clone(), entry.shared.clone());
        let leftovers = self.leftovers.clone();
        let found = async move {
            let written = shared.writes().finished().await;
            let (record, replaced) = newest_record(status, written)?;
            if let Some(replaced) = replaced {
                leftovers.forget(record.uid);
                leftovers.add(superseded(&replaced));
                leftovers.put_aside(replaced.uid).await;
            }
            let answer = find_server(&*runtime, ServerId::from(&record), FIND_TIMEOUT).await;
            Some((record, answer))
        };
        let found = found.into_actor(self).map(move |found, actor, ctx| {
            let Some((record, answer)) = found else {
                actor.table.remove(&name);
                actor.actors.remove(&name);
                return;
            };
            actor.relaunch(&record, found_server(&record, answer), ctx);
        });
        ctx.spawn(found);
    }

    fn relaunch(&mut self, record: &InstanceRecord, found: Found, ctx: &mut Context<Self>) {
        let Some(entry) = self.actors.get(&record.name) else {
            return;
        };
        if matches!(found, Found::NotRunning) {
            entry.shared.end_run();
        }
        let slot = || self.slots.try_acquire().map(RunLeases::new);
        // A draining daemon has told its instances to stop, and would not wait for this one.
        let run = if self.draining {
            None
        } else {
            entry.shared.run().or_else(slot)
        };
        let (shared, revivals) = (entry.shared.clone(), entry.revivals.clone());
        // The drop of the old entry wakes the waiters.
        self.launch(record.clone(), origin(record, found, run), shared, ctx);
        if let Some(entry) = self.actors.get_mut(&record.name) {
            entry.revivals = revivals;
        }
    }
}

/// The answer to the search for the server of a record, of which nothing is known otherwise.
pub(super) fn found_server(
    record: &InstanceRecord,
    answer: Result<Option<FoundPostgres>, ServerError>,
) -> Found {
    match answer {
        Ok(Some(found)) => Found::Running(found.postgres),
        Ok(None) => Found::NotRunning,
        Err(error) => {
            tracing::error!(
                instance = %record.name,
                uid = %record.uid,
                error = multidb_store::error_chain(&error),
                "cannot tell whether postgres runs, nothing is done to its data until that is known"
            );
            Found::Unknown(error.into())
        }
    }
}

/// The record to go on with, and the one that it has replaced since the last status; `None` if the instance was
/// deleted meanwhile.
fn newest_record(
    status: InstanceStatus,
    written: Option<Written>,
) -> Option<(InstanceRecord, Option<InstanceRecord>)> {
    let mut record = Arc::unwrap_or_clone(status.record);
    let mut replaced = None;
    match written {
        Some(Written::Deleted) => return None,
        Some(Written::Record(written)) => {
            let last_use = (record.last_used_at, record.last_used_observed);
            let old = std::mem::replace(&mut record, *written);
            record.last_used_at = record.last_used_at.max(last_use.0);
            record.last_used_observed = record.last_used_observed.max(last_use.1);
            replaced = Some(old).filter(|old| old.uid != record.uid);
        }
        None => {}
    }
    if matches!(status.state, State::Deleting { .. }) {
        // The deletion is begun again.
        record.phase = Phase::Deleting;
    }
    Some((record, replaced))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn actor_is_rebuilt_from_what_was_written_last() {
        let old = testing::record("i", 1, Phase::Ready);
        let mut reset = testing::record("i", 2, Phase::Ready);
        reset.epoch = 2;
        let written = Some(Written::Record(Box::new(reset.clone())));
        let stopped = || InstanceStatus::unused(old.clone(), State::Stopped);
        assert_eq!(newest_record(stopped(), None), Some((old.clone(), None)));
        assert_eq!(newest_record(stopped(), Some(Written::Deleted)), None);
        assert_eq!(newest_record(stopped(), written), Some((reset, Some(old))));
    }
}
