//! The end of an instance's actor.
//!
//! After a deletion the instance is forgotten. After a panic, which ends that actor only, the actor is rebuilt from its
//! last status and from the running Postgres, a bounded number of times.

use std::time::Duration;

use multidb_store::InstanceUid;

use super::*;
use crate::instance::{Found, origin};
use crate::ports::{FoundPostgres, RuntimeError};

/// How often an actor is rebuilt within [`REVIVALS_WINDOW`].
const REVIVALS_MAX: usize = 5;
const REVIVALS_WINDOW: Duration = Duration::from_secs(600);
/// The longest time for the runtime's answer: longer than a stop in progress, for which it waits.
const FIND_TIMEOUT: Duration = Duration::from_secs(120);

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
                "an instance's actor keeps panicking, restart multidb and report this defect"
            );
            return;
        }
        entry.revivals.push(now);
        let revivals = entry.revivals.clone();
        tracing::error!(instance = %name, state = status.state.name(), "an instance's actor panicked, it is rebuilt");
        let mut record = Arc::unwrap_or_clone(status.record);
        if matches!(status.state, State::Deleting { .. }) {
            // The worker continues the deletion.
            record.phase = Phase::Deleting;
        }
        let runtime = self.deps.runtime.clone();
        let uid = record.uid;
        let find = find(runtime, uid).into_actor(self);
        ctx.spawn(find.map(move |answer, actor, ctx| {
            let found = match answer {
                Ok(Some(found)) => Found::Running(found.postgres),
                Ok(None) => Found::NotRunning,
                Err(error) => {
                    tracing::error!(
                        instance = %record.name,
                        uid = %record.uid,
                        error = multidb_store::error_chain(&error),
                        "cannot tell whether postgres runs, it is stopped"
                    );
                    Found::Unknown
                }
            };
            // A draining daemon has told its instances to stop, and would not wait for this one.
            let slot = if actor.draining {
                None
            } else {
                actor.slots.try_acquire()
            };
            let origin = origin(&record, found, slot);
            actor.launch(record, origin, revivals, ctx);
        }));
    }
}

/// Asks the runtime for the Postgres of this clone. A timeout is an error.
async fn find(
    runtime: Arc<dyn Runtime>,
    uid: InstanceUid,
) -> Result<Option<FoundPostgres>, RuntimeError> {
    let answer = tokio::time::timeout(FIND_TIMEOUT, runtime.find(uid)).await;
    answer.unwrap_or_else(|elapsed| {
        Err(RuntimeError {
            message: elapsed.to_string(),
            hint: None,
        })
    })
}
