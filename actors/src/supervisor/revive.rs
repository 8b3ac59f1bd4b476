//! What happens when an instance's actor has ended.
//!
//! In order when the instance is gone. Otherwise by a defect (a panic in a handler ends that actor
//! only), and it is rebuilt from what it last showed and from what runs; a bounded number of
//! times, so that a defect that repeats itself does not spin.

use std::time::Duration;

use multidb_store::InstanceUid;

use super::*;
use crate::instance::{Found, origin};
use crate::ports::{FoundPostgres, RuntimeError};

/// So often an actor is rebuilt within [`REVIVALS_WINDOW`].
const REVIVALS_MAX: usize = 5;
const REVIVALS_WINDOW: Duration = Duration::from_secs(600);
/// How long the runtime may take to answer: longer than the stop that it may have to wait for.
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
                "an instance's actor keeps ending, restart multidb and report this defect"
            );
            return;
        }
        entry.revivals.push(now);
        let revivals = entry.revivals.clone();
        tracing::error!(instance = %name, state = status.state.name(), "an instance's actor ended, it is rebuilt");
        let mut record = Arc::unwrap_or_clone(status.record);
        if matches!(status.state, State::Deleting { .. }) {
            // The deletion goes on in its worker.
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
            let origin = origin(&record, found, actor.slots.try_acquire());
            actor.launch(record, origin, revivals, ctx);
        }));
    }
}

/// Asks the runtime, and takes no answer for one that failed.
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
