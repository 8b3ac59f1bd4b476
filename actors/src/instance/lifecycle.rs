//! The life cycle of one instance, as a pure function: `step(event, now)` changes the state and returns the effects.
//! No clock, no actor, no I/O.
//!
//! ```text
//!            create                    a client waits
//!              │                    ┌──────────────────┐
//!              ▼                    │                  ▼
//!          Cloning ──clone done──▶ Stopped          Starting ──failed──▶ Failed
//!              │                    ▲  ▲               │  ▲                │
//!              │                    │  └──stop done──┐ │  └─a client waits─┘
//!              │                    │                │ ready
//!         clone failed              │                │ ▼
//!           Deleting ◀─stop done─ Stopping ◀──────── Running
//!            │    │                 │  ▲      idle, command, exited, make room
//!            │    │
//!            │  failed ─▶ Failed      Starting, Stopping ──runtime away──▶ Unavailable
//!            ▼                        Unavailable ──found──▶ Running, Stopping, Stopped
//!          Gone
//! ```
//!
//! - **Cloning**: the data is being made, first or by a reset. Clients wait.
//! - **Stopped**: data only. The next client starts it.
//! - **Starting**: waits for one of the `max_running` slots, then for Postgres. Clients wait.
//! - **Running**: serves. Without sessions for `instance_idle_timeout`, Postgres is asked for work of its own, which
//!   postpones the stop a bounded number of times.
//! - **Stopping**: Postgres shuts down, or the leftovers of a crashed one are removed. Clients wait and are served by
//!   the next start, so none is refused for bad timing. A stop that fails is retried, and nothing else is done to the
//!   data before it succeeds, since Postgres may still run on it.
//! - **Failed**: the last start or deletion failed. As with `Stopped`, the next client starts it. The command `recover`
//!   looks for its server first, as for an unavailable one, and leaves it stopped or running.
//!   A scratch instance that ended uncleanly goes from `Starting` by `Stopping` to `Cloning`, and starts again.
//! - **Unavailable**: the runtime is away, so Postgres may run or not. It is looked for again and again, and at once
//!   for a client or a command; before it is found, or known not to run, nothing is done to the data. A command that
//!   fails with that is not carried out later.
//! - **Deleting**, **Gone**: clients are sent back to the Supervisor, which may create the instance again.
//!
//! Data that had a server is deleted, or replaced by a reset, only after a stop, in any state: a stop looks for the
//! server in the world, while the state is only what this program believes.
//!
//! Each job (clone, start, stop, delete) and each idle period has a number. An event with an old number is stale and
//! changes nothing.

use std::mem::discriminant;
use std::time::Duration;

use tokio::time::Instant;

use crate::awake::Awake;

mod commands;
mod model;
mod renewal;
mod state_name;

pub use self::model::{
    AfterClone, AfterStop, CloneReason, Command, Effect, Event, Job, Look, Looked, Outcome,
    ServerOutcome, State,
};
pub use self::state_name::{StateName, UnknownState};

/// The state of one instance, with the counts that decide its transitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    state: State,
    /// When the state began. A change of its data does not count.
    since: Instant,
    /// The waiting clients, with the ones that have gone since.
    waiting: usize,
    /// The sessions of the current run.
    sessions: usize,
    /// How often the idle stop was postponed since the last session.
    postponed: u32,
    /// Whether its deletion, or its first clone, was interrupted by the end of an earlier daemon or actor.
    is_leftover: bool,
    /// The number of the last job or idle period.
    last_job: u64,
}

impl Lifecycle {
    /// A new instance, and the effect that makes its clone.
    pub fn create(now: Instant) -> (Self, Effect) {
        let mut new = Self::stopped(now);
        let job = new.next_job();
        let why = CloneReason::Create;
        new.state = State::Cloning {
            job,
            why,
            then: AfterClone::Stopped,
        };
        (new, Effect::Clone(job, why))
    }

    /// An instance with complete data and no Postgres.
    pub fn stopped(now: Instant) -> Self {
        Self {
            state: State::Stopped,
            since: now,
            waiting: 0,
            sessions: 0,
            postponed: 0,
            is_leftover: false,
            last_job: 0,
        }
    }

    /// An instance whose data cannot be used.
    pub fn failed(now: Instant) -> Self {
        Self {
            state: State::Failed,
            ..Self::stopped(now)
        }
    }

    /// An instance that was found running, and the number of its run. [`begin_adopted`](Self::begin_adopted) follows.
    pub fn adopt(now: Instant) -> (Self, Job) {
        let mut found = Self::stopped(now);
        let job = found.next_job();
        found.state = State::Running { job, idle: None };
        (found, job)
    }

    /// Begins the run that was taken over with this number of sessions, and returns the first effects.
    #[must_use]
    pub fn begin_adopted(&mut self, run: Job, sessions: usize) -> Vec<Effect> {
        self.sessions = sessions;
        self.note_idle(run)
    }

    /// An instance whose Postgres may run or not, and the first effect.
    pub fn unavailable(then: AfterStop, now: Instant) -> (Self, Effect) {
        let mut unknown = Self::stopped(now);
        unknown.is_leftover = then == AfterStop::Delete;
        let effect = unknown.look_later();
        (unknown, effect)
    }

    /// An instance whose Postgres was found running and has to stop, and the first effect.
    pub fn stop_found(then: AfterStop, now: Instant) -> (Self, Effect) {
        let mut found = Self::stopped(now);
        let job = found.next_job();
        found.is_leftover = then == AfterStop::Delete;
        found.state = State::Stopping { job, then };
        (found, Effect::Stop(job))
    }

    /// The current state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The sessions of the current run.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// How long the instance has been in its state.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether the instance has no sessions and no waiting clients.
    pub fn is_unused(&self) -> bool {
        self.waiting == 0 && self.sessions == 0
    }

    /// Whether one session is all that uses it.
    pub fn has_one_session(&self) -> bool {
        matches!(self.state, State::Running { .. }) && self.waiting == 0 && self.sessions == 1
    }

    /// Whether expiry may delete it as it is.
    pub fn can_expire(&self) -> bool {
        matches!(self.state, State::Stopped | State::Failed) && self.is_unused()
    }

    /// Applies one event.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let before = self.state;
        let effects = match event {
            Event::ClientWaits => self.client_waits(),
            Event::Served { run, sessions } => self.served(run, sessions),
            Event::SessionEnded { run } => self.session_ended(run),
            Event::CloneDone { job, outcome } => self.clone_done(job, outcome),
            Event::StartDone { job, outcome } => self.start_done(job, outcome),
            Event::EndedUncleanly { job } => self.ended_uncleanly(job),
            Event::StopDone { job, outcome } => self.stop_done(job, outcome),
            Event::Looked { job, found } => self.looked(job, found),
            Event::DeleteDone { job, outcome } => self.delete_done(job, outcome),
            Event::Exited { run } => self.exited(run),
            Event::IdleElapsed { idle } => self.idle_elapsed(idle),
            Event::Asked { idle, awake } => self.asked(idle, awake),
            Event::SlotWanted => self.stop_if_unused(),
            Event::OverLimit => self.over_limit(),
            Event::Command(command) => self.command(command),
        };
        if discriminant(&before) != discriminant(&self.state) {
            self.since = now;
        }
        effects
    }

    fn next_job(&mut self) -> Job {
        self.last_job += 1;
        Job(self.last_job)
    }

    fn client_waits(&mut self) -> Vec<Effect> {
        self.waiting += 1;
        match self.state {
            State::Stopped | State::Failed => self.start(),
            State::Running { job, .. } => {
                self.state = State::Running { job, idle: None };
                vec![Effect::Serve(job)]
            }
            State::Cloning { .. } | State::Starting { .. } | State::Stopping { .. } => Vec::new(),
            State::Unavailable { look, then, .. } => self.look_now(look, then),
            // The client is sent back when the deletion has ended.
            State::Deleting { .. } => Vec::new(),
            State::Gone => self.redirect(),
        }
    }

    /// The waiting clients that were still there have sessions now. Where there was none, an idle period begins.
    fn served(&mut self, run: Job, sessions: usize) -> Vec<Effect> {
        match self.state {
            State::Running { job, .. } if job == run => {
                self.waiting = 0;
                self.sessions += sessions;
                self.note_idle(job)
            }
            _ => Vec::new(),
        }
    }

    fn session_ended(&mut self, run: Job) -> Vec<Effect> {
        match self.state {
            State::Running { job, .. } if job == run => {
                self.sessions = self.sessions.saturating_sub(1);
                self.note_idle(job)
            }
            _ => Vec::new(),
        }
    }

    fn note_idle(&mut self, run: Job) -> Vec<Effect> {
        if self.sessions > 0 {
            return Vec::new();
        }
        self.postponed = 0;
        self.begin_idle(run)
    }

    fn begin_idle(&mut self, run: Job) -> Vec<Effect> {
        let idle = self.next_job();
        self.state = State::Running {
            job: run,
            idle: Some(idle),
        };
        vec![Effect::ArmIdle(idle)]
    }

    fn clone_done(&mut self, done: Job, outcome: Outcome) -> Vec<Effect> {
        let State::Cloning { job, why, then } = self.state else {
            return Vec::new();
        };
        if job != done {
            return Vec::new();
        }
        match (outcome, why, then) {
            (Outcome::Failed, CloneReason::Create, AfterClone::Stopped) => {
                self.waiting = 0;
                let mut effects = vec![Effect::RefuseFailed];
                effects.extend(self.delete());
                effects
            }
            // No server was ever started on it.
            (_, CloneReason::Create, AfterClone::Delete) => self.delete(),
            (_, CloneReason::Reset | CloneReason::Renew, AfterClone::Delete) => {
                self.stop(AfterStop::Delete)
            }
            (Outcome::Failed, CloneReason::Renew, AfterClone::Stopped) => self.renewal_failed(),
            // After a failed reset the old data serves the waiting clients.
            (Outcome::Done, _, AfterClone::Stopped)
            | (Outcome::Failed, CloneReason::Reset, AfterClone::Stopped) => {
                self.start_if_clients_wait()
            }
        }
    }

    fn start_done(&mut self, done: Job, outcome: ServerOutcome) -> Vec<Effect> {
        match self.state {
            State::Starting { job } if job == done => match outcome {
                ServerOutcome::Done => {
                    self.sessions = 0;
                    self.state = State::Running { job, idle: None };
                    vec![Effect::Serve(job)]
                }
                ServerOutcome::Failed => {
                    self.waiting = 0;
                    self.state = State::Failed;
                    vec![Effect::RefuseFailed]
                }
                ServerOutcome::Unknown => self.become_unavailable(),
            },
            _ => Vec::new(),
        }
    }

    fn stop_done(&mut self, done: Job, outcome: ServerOutcome) -> Vec<Effect> {
        match self.state {
            State::Stopping { job, then } if job == done => match (outcome, then) {
                (ServerOutcome::Unknown, _) => self.become_unavailable(),
                (ServerOutcome::Failed, then) => {
                    let job = self.next_job();
                    self.state = State::Stopping { job, then };
                    let mut effects = self.refuse_failed();
                    effects.push(Effect::StopAgain(job));
                    effects
                }
                (ServerOutcome::Done, AfterStop::Stopped) => self.start_if_clients_wait(),
                (ServerOutcome::Done, AfterStop::Reset) => self.begin_clone(CloneReason::Reset),
                (ServerOutcome::Done, AfterStop::Renew) => self.begin_clone(CloneReason::Renew),
                (ServerOutcome::Done, AfterStop::Delete) => self.delete(),
            },
            _ => Vec::new(),
        }
    }

    /// Refuses the waiting clients, and looks for Postgres later. A command has failed with that, and is forgotten.
    fn become_unavailable(&mut self) -> Vec<Effect> {
        let mut effects = self.refuse_failed();
        effects.push(self.look_later());
        effects
    }

    fn look_later(&mut self) -> Effect {
        let job = self.next_job();
        let look = Look::Later;
        let then = if self.is_leftover {
            AfterStop::Delete
        } else {
            AfterStop::Stopped
        };
        self.state = State::Unavailable { job, look, then };
        Effect::LookAgain(job)
    }

    /// Looks for Postgres at once, unless that is under way.
    fn look_now(&mut self, look: Look, then: AfterStop) -> Vec<Effect> {
        if look == Look::Now {
            return Vec::new();
        }
        let job = self.next_job();
        let look = Look::Now;
        self.state = State::Unavailable { job, look, then };
        vec![Effect::Look(job)]
    }

    fn looked(&mut self, done: Job, found: Looked) -> Vec<Effect> {
        match self.state {
            State::Unavailable { job, then, .. } if job == done => match (found, then) {
                (Looked::Unknown, _) => self.become_unavailable(),
                (Looked::Adopted { sessions }, AfterStop::Stopped) => {
                    self.sessions = sessions;
                    self.state = State::Running { job, idle: None };
                    if self.waiting > 0 {
                        return vec![Effect::Serve(job)];
                    }
                    self.note_idle(job)
                }
                (Looked::NotRunning, AfterStop::Stopped) => self.start_if_clients_wait(),
                (Looked::Adopted { .. } | Looked::Running | Looked::NotRunning, then) => {
                    self.stop(then)
                }
            },
            _ => Vec::new(),
        }
    }

    fn delete_done(&mut self, done: Job, outcome: Outcome) -> Vec<Effect> {
        match (self.state, outcome) {
            (State::Deleting { job }, Outcome::Done) if job == done => {
                self.state = State::Gone;
                self.redirect()
            }
            (State::Deleting { job }, Outcome::Failed) if job == done => {
                // It may be used again, so its data may not be deleted by itself.
                self.is_leftover = false;
                self.state = State::Failed;
                self.refuse_failed()
            }
            _ => Vec::new(),
        }
    }

    fn refuse_failed(&mut self) -> Vec<Effect> {
        if self.waiting == 0 {
            return Vec::new();
        }
        self.waiting = 0;
        vec![Effect::RefuseFailed]
    }

    /// A stop removes the leftovers of the run. Its sessions end as their sockets close.
    fn exited(&mut self, run: Job) -> Vec<Effect> {
        match self.state {
            State::Running { job, .. } if job == run => self.stop(AfterStop::Stopped),
            _ => Vec::new(),
        }
    }

    fn idle_elapsed(&mut self, over: Job) -> Vec<Effect> {
        match self.state {
            State::Running {
                idle: Some(idle), ..
            } if idle == over => vec![Effect::Ask(idle)],
            _ => Vec::new(),
        }
    }

    /// Stops, or postpones the stop by another period if Postgres' work may do that once more.
    fn asked(&mut self, over: Job, awake: Awake) -> Vec<Effect> {
        match self.state {
            State::Running {
                job,
                idle: Some(idle),
            } if idle == over => {
                if self.postponed >= awake.periods_max() {
                    return self.stop_if_unused();
                }
                self.postponed += 1;
                self.begin_idle(job)
            }
            _ => Vec::new(),
        }
    }

    fn stop_if_unused(&mut self) -> Vec<Effect> {
        match self.state {
            State::Running { .. } if self.is_unused() => self.stop(AfterStop::Stopped),
            _ => Vec::new(),
        }
    }

    fn start(&mut self) -> Vec<Effect> {
        let job = self.next_job();
        self.state = State::Starting { job };
        vec![Effect::Start(job)]
    }

    fn stop(&mut self, then: AfterStop) -> Vec<Effect> {
        let job = self.next_job();
        self.sessions = 0;
        self.state = State::Stopping { job, then };
        vec![Effect::Stop(job)]
    }

    fn delete(&mut self) -> Vec<Effect> {
        let job = self.next_job();
        self.state = State::Deleting { job };
        vec![Effect::Delete(job)]
    }

    fn start_if_clients_wait(&mut self) -> Vec<Effect> {
        if self.waiting > 0 {
            return self.start();
        }
        self.state = State::Stopped;
        Vec::new()
    }

    fn redirect(&mut self) -> Vec<Effect> {
        if self.waiting == 0 {
            return Vec::new();
        }
        self.waiting = 0;
        vec![Effect::Redirect]
    }
}

#[cfg(test)]
mod tests;
