//! Looking for the Postgres of an unavailable instance.

use std::time::Duration;

use super::lifecycle::Command;
use super::pending_commands::Reply;
use super::persistence::backoff;
use super::*;
use crate::clone_worker::{InspectData, worker_ended};
use crate::ports::{FIND_TIMEOUT, ServerId, Unavailable, find_server};

/// The delay before Postgres is looked for again; it doubles each time.
const LOOK_DELAY: Duration = Duration::from_secs(1);
const LOOK_DELAY_MAX: Duration = Duration::from_secs(60);

impl InstanceActor {
    /// Looks for Postgres after a delay.
    pub(super) fn begin_look(&mut self, job: Job, delay: Duration, ctx: &mut Context<Self>) {
        let runtime = self.deps.runtime.clone();
        let server = ServerId::from(&self.record);
        let look = async move {
            tokio::time::sleep(delay).await;
            find_server(&*runtime, server, FIND_TIMEOUT).await
        };
        let look = look.into_actor(self).map(move |answer, actor, ctx| {
            actor.look = None;
            let found = match answer {
                Ok(found) => {
                    actor.forget_failure_to_look();
                    match found {
                        Some(found) => actor.adopt(job, found.postgres, ctx),
                        None => {
                            actor.forget_run();
                            Looked::NotRunning
                        }
                    }
                }
                Err(error) => {
                    actor.note_look_failure(error.into());
                    Looked::Unknown
                }
            };
            actor.apply(Event::Looked { job, found }, ctx);
        });
        if let Some(older) = self.look.replace(ctx.spawn(look)) {
            ctx.cancel_future(older);
        }
    }

    /// Looks for Postgres again, each time after a longer delay. A runtime that is not configured stays away until a
    /// restart, so only a client or a command asks again.
    pub(super) fn look_again(&mut self, job: Job, ctx: &mut Context<Self>) {
        if let Some(InstanceError::Unavailable(Unavailable::NotConfigured { .. })) = self.failure {
            return;
        }
        let delay = backoff(LOOK_DELAY, LOOK_DELAY_MAX, self.look_failures);
        self.begin_look(job, delay, ctx);
    }

    /// Looks for the data of an instance that could not use it, and then for Postgres.
    pub(super) fn inspect_data(&mut self, reply: Reply, ctx: &mut Context<Self>) {
        let inspected = self.deps.worker.send(InspectData(self.record.clone()));
        let inspected = inspected.into_actor(self).map(|inspected, actor, ctx| {
            let failure = match inspected.unwrap_or_else(|_| Err(worker_ended())) {
                Ok(None) => {
                    actor.unusable = None;
                    // The operator may have brought back another manifest with the data.
                    actor.step_writer(WriterEvent::Changed(Copies::DatabaseAndManifest), ctx);
                    actor.pending_commands.add(Command::Recover, reply);
                    return actor.apply(Event::Command(Command::Recover), ctx);
                }
                Ok(Some(why)) => {
                    actor.unusable = Some(why.clone());
                    InstanceError::DataUnusable { why }
                }
                Err(error) => InstanceError::Storage(error),
            };
            actor.failure = Some(failure.clone());
            actor.settle(ctx);
            let _gone = reply.send(Err(failure));
        });
        ctx.spawn(inspected);
    }

    /// Takes over a Postgres that was found, unless it has to stop.
    fn adopt(&mut self, look: Job, postgres: RunningPostgres, ctx: &mut Context<Self>) -> Looked {
        let is_wanted = matches!(
            self.life.state(),
            State::Unavailable { job, then: AfterStop::Stopped, .. } if job == look
        );
        let slot = || self.deps.slots.try_acquire().map(RunLeases::new);
        match self.shared.run().or_else(slot) {
            Some(leases) if is_wanted => Looked::Adopted {
                sessions: self.take_run(look, postgres, leases, Instant::now(), ctx),
            },
            _ => Looked::Running,
        }
    }

    /// Notes that Postgres may run or not, once for each time that the runtime goes away.
    pub(super) fn note_look_failure(&mut self, failure: InstanceError) {
        self.look_failures = self.look_failures.saturating_add(1);
        if self.failure.as_ref() != Some(&failure) {
            tracing::warn!(
                instance = %self.record.name,
                uid = %self.record.uid,
                error = multidb_store::error_chain(&failure),
                "cannot tell whether postgres runs, nothing is done to its data until that is known"
            );
        }
        self.failure = Some(failure);
    }

    pub(super) fn forget_failure_to_look(&mut self) {
        self.look_failures = 0;
        self.failure = self.over_limit.map(InstanceError::OverLimit);
    }
}
