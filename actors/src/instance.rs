//! InstanceActor: one instance. The only writer of its state.
//!
//! It feeds messages and ended jobs to the pure [`lifecycle`] and runs the effects. Handlers return
//! at once; jobs come back as events under the number that they began with. After each change
//! [`InstanceActor::settle`] logs, publishes and answers, once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::BoxFuture;
use multidb_store::{Epochs, InstanceRecord};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clone_worker::{CloneWorker, Copies, DeleteInstance, MakeClone, Persist};
use crate::history::History;
use crate::instance_table::StatusPublisher;
use crate::leftovers::Leftovers;
use crate::limits::{Limits, STOP_TIMEOUT};
use crate::metrics::Metrics;
use crate::metrics::labels::StopCause;
use crate::observed_clock::ObservedClock;
use crate::ports::{CloneError, Endpoint, RunningPostgres, Runtime, ServerProbe};
use crate::slots::{FreeSlot, Slots};

mod expiring;
mod jobs;
mod leases;
pub mod lifecycle;
mod looking;
mod messages;
mod origin;
mod over_limit;
mod pending_commands;
mod persistence;
mod record_writer;
mod shared;
mod status;

pub use self::expiring::{Expire, ExpiryAnswer, MakeRoom};
pub use self::leases::{Beginning, Lease, RunLeases};
pub use self::messages::{Attach, Control, NotWanted, ParentRenamed, Retire, SetPin, SlotWanted};
pub use self::origin::{Found, Origin, origin};
pub use self::over_limit::{OverLimit, SetOverLimit};
pub use self::shared::SharedState;
pub use self::status::{InstanceError, InstanceStatus};

pub(crate) use self::jobs::superseded;
pub(crate) use self::shared::Written;

use self::lifecycle::{
    AfterStop, CloneReason, Effect, Event, Job, Lifecycle, Looked, Outcome, ServerOutcome, State,
};
use self::pending_commands::PendingCommands;
use self::record_writer::{LockedJob, RecordWriter, WriterEvent};

/// The dependencies of all instances.
#[derive(Clone)]
pub struct InstanceDeps {
    /// Runs Postgres.
    pub runtime: Arc<dyn Runtime>,
    /// Asks Postgres about itself.
    pub probe: Arc<dyn ServerProbe>,
    /// Clones, deletes and records.
    pub worker: Addr<CloneWorker>,
    /// The slots of running instances.
    pub slots: Slots,
    /// The Supervisor, which stops an unused instance when all slots are in use.
    pub free_slot: Recipient<FreeSlot>,
    /// The limits.
    pub limits: Arc<Limits>,
    /// The root's clock.
    pub clock: ObservedClock,
    /// The counter of epochs.
    pub epochs: Epochs,
    /// The clones that bear an instance's name and are not its data.
    pub leftovers: Leftovers,
    /// The metrics of all actors.
    pub metrics: Arc<Metrics>,
    /// Takes the events of the instance, for people.
    pub history: History,
}

/// One instance.
pub struct InstanceActor {
    /// The record as it is, or will be once the write in progress ends.
    record: InstanceRecord,
    /// Its life cycle.
    life: Lifecycle,
    /// The effects to run when the actor has started.
    first: Vec<Effect>,
    /// The Postgres of the instance that its first clone is made from.
    parent: Option<Lease>,
    /// The running Postgres.
    run: Option<Run>,
    /// State that the next actor takes over if this one panics: the run, and the jobs of the CloneWorker.
    shared: SharedState,
    /// The error of the last job, if it failed.
    failure: Option<InstanceError>,
    /// The waiting clients.
    waiters: Vec<oneshot::Sender<Result<Lease, InstanceError>>>,
    /// The user of the first of them, if it is a login.
    first_login: Option<Arc<str>>,
    /// The commands that are not carried out yet.
    pending_commands: PendingCommands,
    /// The start in progress, which a stop cancels.
    start: Option<SpawnHandle>,
    /// The clone since the last start, and how long it took.
    cloned: Option<(CloneReason, Duration)>,
    /// How the run began, until its first clients are told.
    beginning: Option<Beginning>,
    /// Whether the start in progress waits for a slot.
    waits_for_slot: bool,
    /// The look for Postgres in progress, or the delay before it.
    look: Option<SpawnHandle>,
    /// The number of looks without an answer in a row.
    look_failures: u32,
    /// The timer of the idle period.
    idle: Option<SpawnHandle>,
    /// The number of failed stops in a row.
    stop_failures: u32,
    /// Decides when the record is written.
    writer: RecordWriter,
    /// The error of the last write, if it failed.
    write_failure: Option<CloneError>,
    /// Whether the stored record may have the mark of an expiry.
    mark_may_be_stored: bool,
    /// The callers that wait for a pin, or for the removal of a mark, to be durable, oldest first.
    pins: VecDeque<oneshot::Sender<Result<(), InstanceError>>>,
    /// Why its data cannot be used, if it cannot.
    unusable: Option<String>,
    /// Why it may not take more of the disk, if it may not.
    over_limit: Option<OverLimit>,
    /// Publishes the status.
    status: StatusPublisher,
    deps: InstanceDeps,
}

/// A running Postgres.
struct Run {
    endpoint: Endpoint,
    leases: RunLeases,
    /// When it may be stopped for another instance.
    resident_until: Instant,
}

impl InstanceActor {
    /// Starts the actor on this arbiter and publishes its first status.
    pub fn launch(
        record: InstanceRecord,
        origin: Origin,
        deps: InstanceDeps,
        status: StatusPublisher,
        shared: SharedState,
    ) -> Addr<Self> {
        let now = Instant::now();
        let mark_may_be_stored = record.marked.is_some();
        let (mut adopted, mut parent, mut failure, mut unusable) = (None, None, None, None);
        let (life, first) = match origin {
            Origin::Create => {
                let (life, effect) = Lifecycle::create(now);
                (life, vec![effect])
            }
            Origin::CloneOf(lease) => {
                parent = Some(lease);
                let (life, effect) = Lifecycle::create(now);
                (life, vec![effect])
            }
            Origin::Stopped => (Lifecycle::stopped(now), Vec::new()),
            Origin::Unusable(why) => {
                failure = Some(InstanceError::DataUnusable { why: why.clone() });
                unusable = Some(why);
                (Lifecycle::failed(now), Vec::new())
            }
            Origin::Adopt(postgres, leases) => {
                let (life, run) = Lifecycle::adopt(now);
                adopted = Some((run, postgres, leases));
                (life, Vec::new())
            }
            Origin::Stop(then) => {
                let (life, effect) = Lifecycle::stop_found(then, now);
                (life, vec![effect])
            }
            Origin::Unavailable(then, why) => {
                failure = Some(why);
                let (life, effect) = Lifecycle::unavailable(then, now);
                (life, vec![effect])
            }
        };
        Self::create(|ctx| {
            let mut actor = Self {
                record,
                life,
                first,
                parent,
                run: None,
                shared,
                failure,
                waiters: Vec::new(),
                first_login: None,
                pending_commands: PendingCommands::default(),
                start: None,
                cloned: None,
                beginning: None,
                waits_for_slot: false,
                look: None,
                look_failures: 0,
                idle: None,
                stop_failures: 0,
                mark_may_be_stored,
                writer: RecordWriter::default(),
                write_failure: None,
                pins: VecDeque::new(),
                unusable,
                over_limit: None,
                status,
                deps,
            };
            if let Some((run, postgres, leases)) = adopted {
                // Nobody waits for it to earn its start.
                let sessions = actor.take_run(run, postgres, leases, now, ctx);
                actor.first = actor.life.begin_adopted(run, sessions);
            }
            actor.publish();
            actor
        })
    }

    /// Applies one event to the life cycle, runs the effects and publishes the new status.
    fn apply(&mut self, event: Event, ctx: &mut Context<Self>) {
        self.step(event, ctx);
        self.settle(ctx);
    }

    fn step(&mut self, event: Event, ctx: &mut Context<Self>) {
        let (before, now) = (self.life.state(), Instant::now());
        let elapsed = self.life.elapsed(now);
        let effects = self.life.step(event, now);
        self.log_change(before, event, elapsed);
        self.perform(effects, ctx);
    }

    fn log_change(&mut self, before: State, event: Event, elapsed: Duration) {
        let after = self.life.state();
        let (name, clock) = (&self.record.name, &self.deps.clock);
        let login = &mut self.first_login;
        let history = &self.deps.history;
        history.note_change(name, (before, event, after), login, || clock.now().wall);
        if let Some(cause) = StopCause::of(before, event, after) {
            self.deps.metrics.stops.count(cause);
        }
        if std::mem::discriminant(&before) != std::mem::discriminant(&after) {
            tracing::info!(
                instance = %self.record.name,
                uid = %self.record.uid,
                from = before.name(),
                to = if after == State::Gone { "gone" } else { after.name() },
                cause = event.name(),
                elapsed_ms = elapsed.as_millis() as u64,
                "instance changed state"
            );
        }
    }

    fn perform(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Clone(job, why) => {
                    let clone = LockedJob::Clone(job, why);
                    self.step_writer(WriterEvent::LockWanted(clone), ctx);
                }
                Effect::Start(job) => self.begin_start(job, ctx),
                Effect::Stop(job) => self.begin_stop(job, Duration::ZERO, ctx),
                Effect::StopAgain(job) => self.stop_again(job, ctx),
                Effect::Look(job) => self.begin_look(job, Duration::ZERO, ctx),
                Effect::LookAgain(job) => self.look_again(job, ctx),
                Effect::Delete(job) => {
                    let deletion = LockedJob::Delete(job);
                    self.step_writer(WriterEvent::LockWanted(deletion), ctx);
                }
                Effect::Serve(job) => self.serve(job, ctx),
                Effect::RefuseFailed => {
                    let why = self.failure.clone().unwrap_or(InstanceError::Died);
                    self.refuse(&why);
                }
                Effect::RefuseStopped => {
                    let over = self.over_limit.map(InstanceError::OverLimit);
                    self.refuse(&over.unwrap_or(InstanceError::Stopped));
                }
                Effect::Redirect => self.refuse(&InstanceError::Deleted),
                Effect::ArmIdle(idle) => self.arm_idle(idle, ctx),
                Effect::Ask(idle) => self.ask(idle, ctx),
            }
        }
    }

    /// Gives each waiting client a lease on the running Postgres.
    fn serve(&mut self, job: Job, ctx: &mut Context<Self>) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        let waiters = std::mem::take(&mut self.waiters);
        self.first_login = None;
        let beginning = self.beginning.take();
        let Some(run) = &self.run else {
            tracing::error!(instance = %self.record.name, "a run without its postgres");
            return;
        };
        let mut served = 0;
        for waiter in waiters {
            let mut lease = run.leases.lease(run.endpoint.clone(), &self.record);
            lease.beginning = beginning;
            // A client that is gone drops the lease, and its end is counted like any other.
            let _gone = waiter.send(Ok(lease));
            served += 1;
        }
        if served > 0 {
            self.touch(ctx);
        }
        let sessions = served;
        self.step(Event::Served { run: job, sessions }, ctx);
    }

    fn refuse(&mut self, why: &InstanceError) {
        self.first_login = None;
        for waiter in self.waiters.drain(..) {
            if waiter.send(Err(why.clone())).is_err() {
                tracing::debug!(instance = %self.record.name, "a waiting client has gone");
            }
        }
    }

    fn arm_idle(&mut self, idle: Job, ctx: &mut Context<Self>) {
        if self.deps.slots.wanted() > 0
            && let Err(error) = self.deps.free_slot.try_send(FreeSlot)
        {
            // The waiting instances ask, too.
            tracing::debug!(%error, "the supervisor did not take a request for a slot");
        }
        let over = tokio::time::sleep(self.deps.limits.instance_idle_timeout);
        let wait = over.into_actor(self).map(move |(), actor, ctx| {
            actor.idle = None;
            actor.apply(Event::IdleElapsed { idle }, ctx);
        });
        if let Some(older) = self.idle.replace(ctx.spawn(wait)) {
            ctx.cancel_future(older);
        }
    }

    fn publish(&mut self) {
        let state = self.life.state();
        // The life cycle counts the sessions of a run that it knows.
        let sessions = match state {
            State::Unavailable { .. } => self.shared.run().map_or(0, |run| run.sessions()),
            _ => self.life.sessions(),
        };
        self.status.publish(&self.record, |record| InstanceStatus {
            record,
            state,
            sessions,
            unused: self.life.is_unused() && sessions == 0,
            endpoint: self.run.as_ref().map(|run| run.endpoint.clone()),
            failure: self.failure.clone(),
            waits_for_slot: self.waits_for_slot,
            resident_until: self.run.as_ref().map(|run| run.resident_until),
        });
    }

    /// Publishes the status, and answers the commands that have their result.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        let state = self.life.state();
        self.publish();
        self.pending_commands.answer(state, self.failure.as_ref());
        if state == State::Gone {
            ctx.stop();
        }
    }
}

impl Actor for InstanceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let first = std::mem::take(&mut self.first);
        self.perform(first, ctx);
        if self.run.is_some() && self.record.marked.take().is_some() {
            // It was used after it was marked: the record was restored from before.
            self.step_writer(WriterEvent::Changed(Copies::Database), ctx);
        }
        self.settle(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.refuse(&InstanceError::Deleted);
    }
}

impl StreamHandler<Job> for InstanceActor {
    fn handle(&mut self, run: Job, ctx: &mut Self::Context) {
        self.touch(ctx);
        self.apply(Event::SessionEnded { run }, ctx);
    }

    // The run has ended, and all its leases are dropped. The default would stop the actor.
    fn finished(&mut self, _: &mut Self::Context) {}
}

#[cfg(test)]
mod tests;
