//! The jobs of an instance: each is spawned, bounded, and comes back as an event.

use std::time::Duration;

use multidb_store::Phase;

use super::persistence::backoff;
use super::*;
use crate::awake::Awake;
use crate::ports::RuntimeError;

/// How long Postgres may take to say what it does.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a stop that failed is tried again; it doubles each time.
const STOP_RETRY_DELAY: Duration = Duration::from_secs(1);
const STOP_RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// What a start gives: Postgres and the place that it runs in.
type Started = Result<(RunningPostgres, Slot), InstanceError>;

impl InstanceActor {
    /// Makes a clone, for a new instance or for a reset.
    pub(super) fn begin_clone(&mut self, job: Job, why: CloneReason, ctx: &mut Context<Self>) {
        let old = self.record.uid;
        let mut record = self.record.clone();
        if why == CloneReason::Reset {
            record.uid = crate::new_uid();
            record.generation += 1;
        }
        let replaces = why == CloneReason::Reset;
        let made = self.deps.worker.send(MakeClone { record, replaces });
        let made = made.into_actor(self).map(move |result, actor, ctx| {
            let result = result.unwrap_or_else(|_| Err(worker_gone()));
            let outcome = match result {
                Ok((record, report)) => {
                    tracing::info!(
                        instance = %record.name,
                        uid = %record.uid,
                        snapshot = %record.snapshot,
                        files = report.files,
                        elapsed_ms = report.elapsed.as_millis() as u64,
                        "clone made"
                    );
                    let newest = std::mem::replace(&mut actor.record, record);
                    actor.record.pin = newest.pin;
                    actor.record.last_used_at = newest.last_used_at;
                    if why == CloneReason::Reset {
                        actor.discard(old, ctx);
                    }
                    actor.failure = None;
                    Outcome::Done
                }
                Err(error) => {
                    tracing::warn!(
                        instance = %actor.record.name,
                        error = multidb_store::error_chain(&error),
                        "clone failed"
                    );
                    actor.failure = Some(InstanceError::Clone(error));
                    Outcome::Failed
                }
            };
            // The state first: a deletion that follows gets the lock before a write does.
            actor.apply(Event::CloneDone { job, outcome }, ctx);
            actor.step_writer(WriterEvent::LockReleased(outcome), ctx);
        });
        ctx.spawn(made);
    }

    /// Asks Postgres what it does of its own accord. One that does not answer is stopped, as that
    /// is no reason to run.
    pub(super) fn ask(&mut self, idle: Job, ctx: &mut Context<Self>) {
        let endpoint = self.run.as_ref().map(|run| run.endpoint.clone());
        let probe = self.deps.probe.clone();
        let superuser = self.record.superuser.clone();
        let asked = async move {
            let endpoint = endpoint?;
            let asked = probe.awake_reasons(&endpoint, &superuser);
            tokio::time::timeout(ASK_TIMEOUT, asked).await.ok()
        };
        let asked = asked.into_actor(self).map(move |answer, actor, ctx| {
            let instance = &actor.record.name;
            let reasons = match answer {
                Some(Ok(reasons)) => reasons,
                Some(Err(error)) => {
                    tracing::info!(%instance, %error, "postgres does not say what it does");
                    Vec::new()
                }
                None => Vec::new(),
            };
            if let Some(first) = reasons.first() {
                tracing::info!(%instance, reasons = reasons.len(), %first, "no sessions, but postgres is busy");
            }
            let awake = Awake::of(&reasons);
            actor.apply(Event::Asked { idle, awake }, ctx);
        });
        ctx.spawn(asked);
    }

    /// Waits for a place, then starts Postgres; both are bounded by `start_timeout`.
    pub(super) fn begin_start(&mut self, job: Job, ctx: &mut Context<Self>) {
        let deps = self.deps.clone();
        let record = self.record.clone();
        let start = async move {
            let limit = deps.limits.start_timeout;
            let slot = deps.slots.acquire(limit, deps.free_slot).await;
            let slot = slot.ok_or(InstanceError::NoSlot {
                max: deps.slots.max(),
                waited: limit,
            })?;
            match tokio::time::timeout(limit, deps.runtime.start(&record)).await {
                Ok(Ok(postgres)) => Ok((postgres, slot)),
                Ok(Err(error)) => Err(InstanceError::Start(error)),
                Err(_) => Err(InstanceError::StartTimeout { limit }),
            }
        };
        let start = start
            .into_actor(self)
            .map(move |started: Started, actor, ctx| {
                actor.start = None;
                let outcome = match started {
                    Ok((postgres, slot)) => {
                        actor.failure = None;
                        actor.take_run(job, postgres, slot, ctx);
                        Outcome::Done
                    }
                    Err(error) => {
                        actor.log_start_failure(&error);
                        actor.failure = Some(error);
                        Outcome::Failed
                    }
                };
                actor.apply(Event::StartDone { job, outcome }, ctx);
            });
        self.start = Some(ctx.spawn(start));
    }

    /// A full house is no defect: who waits is told, and an operator sees it in the numbers.
    fn log_start_failure(&self, error: &InstanceError) {
        let instance = &self.record.name;
        let chain = multidb_store::error_chain(error);
        match error {
            InstanceError::NoSlot { .. } => {
                tracing::info!(%instance, error = chain, "no place to start postgres in");
            }
            _ => tracing::warn!(%instance, error = chain, "postgres did not start"),
        }
    }

    /// Takes over a Postgres that runs, and watches for its end.
    pub(super) fn take_run(
        &mut self,
        run: Job,
        postgres: RunningPostgres,
        slot: Slot,
        ctx: &mut Context<Self>,
    ) {
        let RunningPostgres { endpoint, exited } = postgres;
        self.run = Some(Run {
            endpoint,
            _slot: slot,
        });
        let exited: BoxFuture<'static, String> = exited;
        let watch = exited.into_actor(self).map(move |how, actor, ctx| {
            if matches!(actor.life.state(), State::Running { job, .. } if job == run) {
                tracing::warn!(
                    instance = %actor.record.name,
                    uid = %actor.record.uid,
                    how,
                    "postgres exited by itself, its next connection starts it again"
                );
            }
            actor.apply(Event::Exited { run }, ctx);
        });
        ctx.spawn(watch);
        self.keep_touching(run, ctx);
    }

    /// Stops Postgres after a pause, or gives up its start. The place is given back when it has stopped.
    pub(super) fn begin_stop(&mut self, job: Job, pause: Duration, ctx: &mut Context<Self>) {
        if let Some(start) = self.start.take() {
            ctx.cancel_future(start);
        }
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        self.step_writer(WriterEvent::Stopping, ctx);
        let runtime = self.deps.runtime.clone();
        let uid = self.record.uid;
        let stop = async move {
            tokio::time::sleep(pause).await;
            runtime.stop(uid, STOP_TIMEOUT).await
        };
        let stop = stop.into_actor(self).map(move |stopped, actor, ctx| {
            let outcome = match stopped {
                Ok(()) => {
                    actor.stop_failures = 0;
                    actor.run = None;
                    Outcome::Done
                }
                Err(error) => {
                    actor.note_stop_failure(error);
                    Outcome::Failed
                }
            };
            actor.apply(Event::StopDone { job, outcome }, ctx);
        });
        ctx.spawn(stop);
    }

    /// Tries a stop again, each time after a longer pause.
    pub(super) fn stop_again(&mut self, job: Job, ctx: &mut Context<Self>) {
        let pause = backoff(STOP_RETRY_DELAY, STOP_RETRY_DELAY_MAX, self.stop_failures);
        self.begin_stop(job, pause, ctx);
    }

    /// Tells the operator, and whoever waits for what was to follow the stop.
    fn note_stop_failure(&mut self, error: RuntimeError) {
        self.stop_failures = self.stop_failures.saturating_add(1);
        tracing::error!(
            instance = %self.record.name,
            uid = %self.record.uid,
            attempts = self.stop_failures,
            error = multidb_store::error_chain(&error),
            hint = error.hint.as_deref(),
            "postgres was not stopped, it is tried again"
        );
        let failure = InstanceError::Stop(error);
        self.pending_commands.fail(&failure);
        self.failure = Some(failure);
    }

    /// Deletes the clone and the record.
    pub(super) fn begin_delete(&mut self, job: Job, ctx: &mut Context<Self>) {
        let record = self.record.clone();
        let deleted = self.deps.worker.send(DeleteInstance(record));
        let deleted = deleted.into_actor(self).map(move |result, actor, ctx| {
            let outcome = match result.unwrap_or_else(|_| Err(worker_gone())) {
                Ok(()) => Outcome::Done,
                Err(error) => actor.note_delete_failure(error),
            };
            actor.apply(Event::DeleteDone { job, outcome }, ctx);
            actor.step_writer(WriterEvent::LockReleased(outcome), ctx);
        });
        ctx.spawn(deleted);
    }

    /// What was complete still is, and can be used and deleted again. What never was, or was deleted before
    /// a restart, is as good as gone.
    fn note_delete_failure(&mut self, error: CloneError) -> Outcome {
        let outcome = match self.record.phase {
            Phase::Ready => Outcome::Failed,
            Phase::Cloning | Phase::Deleting => Outcome::Done,
        };
        tracing::error!(
            instance = %self.record.name,
            uid = %self.record.uid,
            error = multidb_store::error_chain(&error),
            "instance was not deleted wholly, the next start of multidb tries again"
        );
        self.failure = Some(InstanceError::Delete(error));
        outcome
    }

    /// Deletes the clone that a reset replaced.
    fn discard(&mut self, uid: InstanceUid, ctx: &mut Context<Self>) {
        let discarded = self.deps.worker.send(DiscardClone(uid)).into_actor(self);
        ctx.spawn(discarded.map(move |result, _, _| {
            if let Err(error) = result.unwrap_or_else(|_| Err(worker_gone())) {
                tracing::warn!(
                    %uid,
                    error = multidb_store::error_chain(&error),
                    "a replaced clone was not deleted, the next start of multidb tries again"
                );
            }
        }));
    }
}

pub(super) fn worker_gone() -> CloneError {
    CloneError::Failed {
        message: "the clone workers have ended".to_owned(),
    }
}
