//! The end of an instance's actor.
//!
//! After a deletion the instance is forgotten. After a panic, which ends that actor only, the actor is rebuilt, a bounded
//! number of times: from what the CloneWorker has written last, after any job of it that is still in progress; from its
//! last status; and from the running Postgres, whose sessions stay counted.
//!
//! An actor that keeps panicking is given up: the instance is shown as failed, and its Postgres, if it runs, goes on
//! serving its sessions. An administrator's command rebuilds the actor once more.

use std::time::Duration;

use super::*;
use crate::instance::{Found, InstanceError, RunLeases, Written, origin};
use crate::ports::{FIND_TIMEOUT, ServerId, find_server};

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
        if self.draining {
            return;
        }
        let Some(entry) = self.actors.get_mut(name) else {
            return;
        };
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
            entry.given_up = true;
            return self.table.publish(InstanceStatus {
                state: State::Failed,
                endpoint: None,
                failure: Some(InstanceError::Died),
                ..status
            });
        }
        entry.revivals.push(now);
        tracing::error!(instance = %name, state = status.state.name(), "an instance's actor panicked, it is rebuilt");
        // Nobody waits for it in particular.
        drop(self.revive(status, ctx));
    }

    /// Rebuilds an actor that was given up, and returns when it is there; `None` for an instance with an actor.
    pub(super) fn recover(
        &mut self,
        name: &InstanceName,
        ctx: &mut Context<Self>,
    ) -> Option<oneshot::Receiver<()>> {
        let status = self.table.get(name)?;
        let entry = self.actors.get_mut(name).filter(|entry| entry.given_up)?;
        entry.given_up = false;
        entry.revivals.clear();
        tracing::info!(instance = %name, "the actor of an instance that was given up is rebuilt");
        Some(self.revive(status, ctx))
    }

    /// Rebuilds the actor of an instance from its last status. The receiver resolves when it is there.
    fn revive(&mut self, status: InstanceStatus, ctx: &mut Context<Self>) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        let name = status.record.name.clone();
        let Some(entry) = self.actors.get(&name) else {
            return is_done;
        };
        let (runtime, shared) = (self.deps.runtime.clone(), entry.shared.clone());
        let worker = self.deps.worker.clone();
        let found = async move {
            let written = shared.writes().finished().await;
            let record = match newest_record(status, written)? {
                (record, None) => record,
                (record, Some(replaced)) => {
                    discard(&worker, replaced).await;
                    record
                }
            };
            let answer = find_server(&*runtime, ServerId::from(&record), FIND_TIMEOUT).await;
            Some((record, answer))
        };
        let found = found.into_actor(self).map(move |found, actor, ctx| {
            // Dropped at the end, which resolves the receiver too.
            let _done = done;
            let Some((record, answer)) = found else {
                actor.table.remove(&name);
                actor.actors.remove(&name);
                return;
            };
            let found = match answer {
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
            };
            actor.relaunch(record, found, ctx);
        });
        ctx.spawn(found);
        is_done
    }

    fn relaunch(&mut self, record: InstanceRecord, found: Found, ctx: &mut Context<Self>) {
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
        self.launch(record.clone(), origin(&record, found, run), shared, ctx);
        if let Some(entry) = self.actors.get_mut(&record.name) {
            entry.revivals = revivals;
        }
    }
}

/// The record to go on with, and the clone that it has replaced since the last status; `None` if the instance was
/// deleted meanwhile.
fn newest_record(
    status: InstanceStatus,
    written: Option<Written>,
) -> Option<(InstanceRecord, Option<InstanceUid>)> {
    let mut record = Arc::unwrap_or_clone(status.record);
    let mut replaced = None;
    match written {
        Some(Written::Deleted) => return None,
        Some(Written::Record(written)) => {
            if written.uid != record.uid {
                replaced = Some(record.uid);
            }
            let last_use = (record.last_used_at, record.last_used_observed);
            record = *written;
            record.last_used_at = record.last_used_at.max(last_use.0);
            record.last_used_observed = record.last_used_observed.max(last_use.1);
        }
        None => {}
    }
    if matches!(status.state, State::Deleting { .. }) {
        // The deletion is begun again.
        record.phase = Phase::Deleting;
    }
    Some((record, replaced))
}

/// Deletes a clone that a reset replaced. Its server was stopped before the reset began.
async fn discard(worker: &Addr<CloneWorker>, uid: InstanceUid) {
    let error = match worker.send(DiscardClone(uid)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => multidb_store::error_chain(&error),
        Err(error) => error.to_string(),
    };
    tracing::warn!(%uid, error, "a replaced clone was not deleted, the next start of multidb retries");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn status(record: InstanceRecord, state: State) -> InstanceStatus {
        InstanceStatus {
            record: Arc::new(record),
            state,
            sessions: 0,
            unused: true,
            endpoint: None,
            failure: None,
            waits_for_slot: false,
            resident_until: None,
        }
    }

    #[test]
    fn actor_is_rebuilt_from_what_was_written_last() {
        let old = testing::record("i", 1, Phase::Ready);
        let mut reset = testing::record("i", 2, Phase::Ready);
        reset.epoch = 2;
        let written = Some(Written::Record(Box::new(reset.clone())));
        let stopped = || status(old.clone(), State::Stopped);
        assert_eq!(newest_record(stopped(), None), Some((old.clone(), None)));
        assert_eq!(newest_record(stopped(), Some(Written::Deleted)), None);
        assert_eq!(
            newest_record(stopped(), written),
            Some((reset, Some(old.uid)))
        );
    }
}
