//! The jobs of an instance. Each is spawned, is bounded in time and ends in an event.

use std::time::Duration;

use multidb_store::recovery::{Leftover, LeftoverAction};
use multidb_store::{InstanceRecord, Phase};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::leases::Beginning;
use super::persistence::backoff;
use super::*;
use crate::awake::Awake;
use crate::metrics::labels::{self, StartKind, StartOutcome};
use crate::ports::{
    CloneReport, CloneSource, RuntimeError, ServerError, ServerId, StartError, SuperuserAccess,
};
use crate::slots::{Slot, residency};

/// The longest time to wait for Postgres' answer about its own work.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay before a failed stop is retried; it doubles each time.
const STOP_RETRY_DELAY: Duration = Duration::from_secs(1);
const STOP_RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// The result of a start: Postgres, its slot and the time that it took.
type Started = Result<(RunningPostgres, RunLeases, Duration), InstanceError>;

impl InstanceActor {
    /// Makes a clone, for a new instance or for a reset.
    pub(super) fn begin_clone(&mut self, job: Job, why: CloneReason, ctx: &mut Context<Self>) {
        let old = superseded(&self.record);
        let mut record = self.record.clone();
        if why != CloneReason::Create {
            record.uid = crate::new_uid();
            record.epoch = self.deps.epochs.next_epoch();
            record.sequence += 1;
            // Until it is the instance's, also if this actor panics.
            self.deps.leftovers.add(superseded(&record));
        }
        let new = record.uid;
        let replaces = why != CloneReason::Create;
        let parent = self.parent.take();
        let source = self.clone_source(why, parent.as_ref());
        let clone = MakeClone {
            record,
            replaces,
            source,
        };
        let made = self
            .shared
            .writes()
            .run(&self.deps.worker, clone, |(record, _)| {
                Written::Record(Box::new(InstanceRecord::clone(record)))
            });
        let made = made.into_actor(self).map(move |result, actor, ctx| {
            drop(parent);
            actor
                .deps
                .metrics
                .clones
                .count(labels::Outcome::of(&result));
            let outcome = match result {
                Ok((record, report)) => {
                    actor.cloned = Some((why, report.elapsed));
                    actor.note_cloned(record, report);
                    if why != CloneReason::Create {
                        let leftovers = actor.deps.leftovers.clone();
                        leftovers.forget(new);
                        let replaced = old.uid;
                        leftovers.add(old);
                        actix_rt::spawn(async move { leftovers.put_aside(replaced).await });
                    }
                    Outcome::Done
                }
                Err(error) => {
                    tracing::warn!(
                        instance = %actor.record.name,
                        error = multidb_store::error_chain(&error),
                        "clone failed"
                    );
                    if why != CloneReason::Create {
                        let leftovers = actor.deps.leftovers.clone();
                        actix_rt::spawn(async move { leftovers.put_aside(new).await });
                    }
                    actor.failure = Some(match why {
                        CloneReason::Create | CloneReason::Reset => InstanceError::Clone(error),
                        CloneReason::Renew => InstanceError::Renew {
                            snapshot: actor.record.snapshot.clone(),
                            error,
                        },
                    });
                    Outcome::Failed
                }
            };
            // In this order, since a deletion that follows must get the write lock before a write does.
            actor.apply(Event::CloneDone { job, outcome }, ctx);
            actor.step_writer(WriterEvent::LockReleased(outcome), ctx);
        });
        ctx.spawn(made);
    }

    /// The source of a clone. A clone of another instance begins anew from its first state.
    fn clone_source(&self, why: CloneReason, parent: Option<&Lease>) -> CloneSource {
        match (why, parent) {
            (CloneReason::Create, Some(parent)) => CloneSource::Running {
                uid: parent.uid,
                server: parent.server.clone(),
            },
            (CloneReason::Reset | CloneReason::Renew, _) if self.record.parent.is_some() => {
                CloneSource::Base(self.record.uid)
            }
            (CloneReason::Create | CloneReason::Reset | CloneReason::Renew, _) => {
                CloneSource::Snapshot
            }
        }
    }

    /// The new clone is the instance's.
    fn note_cloned(&mut self, record: InstanceRecord, report: CloneReport) {
        tracing::info!(
            instance = %record.name,
            uid = %record.uid,
            snapshot = %record.snapshot,
            source = report.source.name(),
            files = report.files,
            elapsed_ms = report.elapsed.as_millis() as u64,
            "clone made"
        );
        let newest = std::mem::replace(&mut self.record, record);
        self.unusable = None;
        self.over_limit = None;
        self.record.pin = newest.pin;
        self.record.last_used_at = newest.last_used_at;
        self.record.last_used_observed = newest.last_used_observed;
        self.record.marked = newest.marked;
        self.failure = None;
    }

    /// Asks Postgres for work of its own, such as autovacuum. A Postgres that does not answer is treated as idle.
    pub(super) fn ask(&mut self, idle: Job, ctx: &mut Context<Self>) {
        let endpoint = self.run.as_ref().map(|run| run.endpoint.clone());
        let server = endpoint.map(|endpoint| SuperuserAccess::new(endpoint, &self.record));
        let probe = self.deps.probe.clone();
        let asked = async move {
            let server = server?;
            let asked = probe.awake_reasons(&server);
            tokio::time::timeout(ASK_TIMEOUT, asked).await.ok()
        };
        let asked = asked.into_actor(self).map(move |answer, actor, ctx| {
            let instance = &actor.record.name;
            let reasons = match answer {
                Some(Ok(reasons)) => reasons,
                Some(Err(error)) => {
                    tracing::info!(%instance, %error, "postgres did not answer whether it is busy");
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

    /// Waits for a slot, then starts Postgres; each may take `start_timeout`.
    pub(super) fn begin_start(&mut self, job: Job, ctx: &mut Context<Self>) {
        let unusable = self.unusable.clone();
        let unusable = unusable.map(|why| InstanceError::DataUnusable { why });
        let over_limit = self.over_limit.map(InstanceError::OverLimit);
        if let Some(error) = unusable.or(over_limit) {
            let refused = fut::ready(()).into_actor(self).map(move |(), actor, ctx| {
                actor.note_started(job, Err(error), ctx);
            });
            self.start = Some(ctx.spawn(refused));
            return;
        }
        if let Some(slot) = self.deps.slots.try_start() {
            return self.start_postgres(job, slot, ctx);
        }
        self.waits_for_slot = true;
        let InstanceDeps {
            slots,
            free_slot,
            limits,
            ..
        } = self.deps.clone();
        let limit = limits.start_timeout;
        let acquired = async move { slots.acquire(limit, free_slot).await };
        let acquired = acquired.into_actor(self).map(move |slot, actor, ctx| {
            actor.waits_for_slot = false;
            match slot {
                Ok(slot) => {
                    actor.start_postgres(job, slot, ctx);
                    actor.settle(ctx);
                }
                Err(no_slot) => {
                    let error = InstanceError::of_slot(no_slot, limit);
                    actor.note_started(job, Err(error), ctx);
                }
            }
        });
        self.start = Some(ctx.spawn(acquired));
    }

    /// Starts Postgres in its turn. The time that the start itself takes counts for its residency.
    fn start_postgres(&mut self, job: Job, slot: Slot, ctx: &mut Context<Self>) {
        let unmarked = self.unmark(ctx);
        let deps = self.deps.clone();
        let record = self.record.clone();
        let start = async move {
            if let Some(unmarked) = unmarked {
                unmarked.await.unwrap_or(Err(InstanceError::Died))?;
            }
            let cleared = deps.leftovers.clear_newer(&record).await;
            cleared.map_err(InstanceError::Storage)?;
            let limit = deps.limits.start_timeout;
            let start = deps.slots.start_in_turn(async {
                let began = Instant::now();
                (deps.runtime.start(&record).await, began.elapsed())
            });
            match tokio::time::timeout(limit, start).await {
                Ok((Ok(postgres), elapsed)) => Ok((postgres, RunLeases::new(slot), elapsed)),
                Ok((Err(error), _)) => Err(error.into()),
                Err(_) => Err(InstanceError::StartTimeout { limit }),
            }
        };
        let start = start
            .into_actor(self)
            .map(move |started: Started, actor, ctx| actor.note_started(job, started, ctx));
        self.start = Some(ctx.spawn(start));
    }

    fn note_started(&mut self, job: Job, started: Started, ctx: &mut Context<Self>) {
        self.start = None;
        self.count_start(&started);
        let outcome = match started {
            Ok((postgres, leases, elapsed)) => {
                self.failure = None;
                self.beginning = Some(Beginning::new(self.cloned.take(), elapsed));
                let resident_until = Instant::now() + residency(elapsed);
                self.take_run(job, postgres, leases, resident_until, ctx);
                ServerOutcome::Done
            }
            Err(InstanceError::Start(StartError::EndedUncleanly)) => {
                tracing::warn!(
                    instance = %self.record.name,
                    uid = %self.record.uid,
                    snapshot = %self.record.snapshot,
                    "scratch instance ended uncleanly, and is cloned afresh"
                );
                return self.apply(Event::EndedUncleanly { job }, ctx);
            }
            Err(error) => {
                self.log_start_failure(&error);
                let is_away = matches!(error, InstanceError::Unavailable(_));
                self.failure = Some(error);
                if is_away {
                    ServerOutcome::Unknown
                } else {
                    ServerOutcome::Failed
                }
            }
        };
        self.apply(Event::StartDone { job, outcome }, ctx);
    }

    fn count_start(&self, started: &Started) {
        let kind = StartKind::of(self.cloned.map(|(why, _)| why));
        let outcome = match started {
            Ok(_) => StartOutcome::Done,
            Err(error) => error.into(),
        };
        self.deps.metrics.starts.count((kind, outcome));
    }

    /// Without a free slot nothing is wrong with the instance, so that is not a warning.
    fn log_start_failure(&self, error: &InstanceError) {
        let instance = &self.record.name;
        let chain = multidb_store::error_chain(error);
        match error {
            InstanceError::NoSlot { .. } | InstanceError::NoMemory { .. } => {
                tracing::info!(%instance, error = chain, "no free slot to start postgres in");
            }
            InstanceError::OverLimit(_) => {
                tracing::info!(%instance, error = chain, "postgres is not started");
            }
            _ => tracing::warn!(%instance, error = chain, "postgres did not start"),
        }
    }

    /// Takes over a Postgres that runs, and watches for its end. Returns the number of sessions on it.
    pub(super) fn take_run(
        &mut self,
        run: Job,
        postgres: RunningPostgres,
        leases: RunLeases,
        resident_until: Instant,
        ctx: &mut Context<Self>,
    ) -> usize {
        let RunningPostgres { endpoint, exited } = postgres;
        let (sessions, ends) = leases.report_to(run);
        ctx.add_stream(UnboundedReceiverStream::new(ends));
        self.shared.begin_run(leases.clone());
        self.run = Some(Run {
            endpoint,
            leases,
            resident_until,
        });
        let exited: BoxFuture<'static, String> = exited;
        let watch = exited.into_actor(self).map(move |how, actor, ctx| {
            if matches!(actor.life.state(), State::Running { job, .. } if job == run) {
                tracing::warn!(
                    instance = %actor.record.name,
                    uid = %actor.record.uid,
                    how,
                    "postgres exited unexpectedly, the next connection starts it again"
                );
            }
            actor.apply(Event::Exited { run }, ctx);
        });
        ctx.spawn(watch);
        self.keep_touching(run, ctx);
        sessions
    }

    /// Forgets the run, since nothing runs on the data.
    pub(super) fn forget_run(&mut self) {
        self.run = None;
        self.shared.end_run();
    }

    /// Stops Postgres after a delay, or cancels its start. The slot is released when Postgres has stopped.
    pub(super) fn begin_stop(&mut self, job: Job, delay: Duration, ctx: &mut Context<Self>) {
        if let Some(start) = self.start.take() {
            ctx.cancel_future(start);
        }
        self.waits_for_slot = false;
        for timer in [self.idle.take(), self.look.take()].into_iter().flatten() {
            ctx.cancel_future(timer);
        }
        self.step_writer(WriterEvent::Stopping, ctx);
        let runtime = self.deps.runtime.clone();
        let server = ServerId::from(&self.record);
        let stop = async move {
            tokio::time::sleep(delay).await;
            runtime.stop(server, STOP_TIMEOUT).await
        };
        let stop = stop.into_actor(self).map(move |stopped, actor, ctx| {
            let outcome = match stopped {
                Ok(()) => {
                    actor.stop_failures = 0;
                    actor.forget_run();
                    actor.forget_failure_to_look();
                    actor.pending_commands.stopped();
                    ServerOutcome::Done
                }
                Err(ServerError::Unavailable(unavailable)) => {
                    actor.note_look_failure(unavailable.into());
                    ServerOutcome::Unknown
                }
                Err(ServerError::Failed(error)) => {
                    actor.note_stop_failure(error);
                    ServerOutcome::Failed
                }
            };
            actor.apply(Event::StopDone { job, outcome }, ctx);
        });
        ctx.spawn(stop);
    }

    /// Retries a stop, each time after a longer delay.
    pub(super) fn stop_again(&mut self, job: Job, ctx: &mut Context<Self>) {
        let delay = backoff(STOP_RETRY_DELAY, STOP_RETRY_DELAY_MAX, self.stop_failures);
        self.begin_stop(job, delay, ctx);
    }

    /// Logs the failure and answers the pending commands, which have to wait for the stop.
    fn note_stop_failure(&mut self, error: RuntimeError) {
        self.stop_failures = self.stop_failures.saturating_add(1);
        tracing::error!(
            instance = %self.record.name,
            uid = %self.record.uid,
            attempts = self.stop_failures,
            error = multidb_store::error_chain(&error),
            hint = error.hint.as_deref(),
            "postgres could not be stopped, retrying"
        );
        let failure = InstanceError::Stop(error);
        self.pending_commands.fail(&failure);
        self.failure = Some(failure);
    }

    /// Deletes the clone and the record, after the leftovers of the name, one of which would come back without them.
    pub(super) fn begin_delete(&mut self, job: Job, ctx: &mut Context<Self>) {
        self.record.sequence += 1;
        let record = self.record.clone();
        let (deps, shared) = (self.deps.clone(), self.shared.clone());
        let deleted = async move {
            deps.leftovers.clear(&record).await?;
            let writes = shared.writes();
            let deletion = DeleteInstance(record);
            let deleted = writes.run(&deps.worker, deletion, |()| Written::Deleted);
            deleted.await
        };
        let deleted = deleted.into_actor(self).map(move |result, actor, ctx| {
            actor
                .deps
                .metrics
                .deletions
                .count(labels::Outcome::of(&result));
            let outcome = match result {
                Ok(()) => Outcome::Done,
                Err(error) => actor.note_delete_failure(error),
            };
            actor.apply(Event::DeleteDone { job, outcome }, ctx);
            actor.step_writer(WriterEvent::LockReleased(outcome), ctx);
        });
        ctx.spawn(deleted);
    }

    /// A complete clone can still be used, and deleted again. That of a failed creation is a leftover: the name is free
    /// for a new one, but a command to delete it has failed.
    fn note_delete_failure(&mut self, error: CloneError) -> Outcome {
        tracing::error!(
            instance = %self.record.name,
            uid = %self.record.uid,
            error = multidb_store::error_chain(&error),
            "instance was not deleted"
        );
        let failure = InstanceError::Delete(error);
        let outcome = match self.record.phase {
            Phase::Ready => Outcome::Failed,
            Phase::Deleting => {
                self.record.phase = Phase::Ready;
                Outcome::Failed
            }
            Phase::Cloning => {
                let (leftovers, uid) = (self.deps.leftovers.clone(), self.record.uid);
                leftovers.add(superseded(&self.record));
                actix_rt::spawn(async move { leftovers.put_aside(uid).await });
                self.pending_commands.fail(&failure);
                Outcome::Done
            }
        };
        self.failure = Some(failure);
        outcome
    }
}

/// The clone of this record, as a leftover to delete.
pub(crate) fn superseded(record: &InstanceRecord) -> Leftover {
    Leftover {
        uid: record.uid,
        name: Some(record.name.clone()),
        epoch: record.epoch,
        action: LeftoverAction::Delete,
    }
}
