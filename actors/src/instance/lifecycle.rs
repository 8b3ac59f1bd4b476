//! The life cycle of one instance, as a pure function: `step(event, now)` changes the state and returns the effects.
//! No clock, no actor, no I/O.
//!
//! ```text
//!            create                    a client waits
//!              │                    ┌──────────────────┐
//!              ▼                    │                  ▼
//!          Cloning ──clone done──▶ Stopped          Starting ──failed──▶ Failed
//!              │                    ▲  ▲               │  ▲                │
//!         clone failed              │  └──stop done──┐ │  └─a client waits─┘
//!              │                    │                │ ready
//!              ▼                    │                │ ▼
//!           Deleting ◀─stop done─ Stopping ◀──────── Running
//!            │    │                 │  ▲      idle, command, exited, make room
//!            │  failed ─▶ Failed    └──┘ stop failed
//!            ▼
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
//! - **Failed**: the last start or deletion failed. As with `Stopped`, the next client starts it.
//! - **Deleting**, **Gone**: clients are sent back to the Supervisor, which may create the instance again.
//!
//! Each job (clone, start, stop, delete) and each idle period has a number. An event with an old number is stale and
//! changes nothing.

use std::mem::discriminant;
use std::time::Duration;

use tokio::time::Instant;

use crate::awake::Awake;

mod model;
mod state_name;

pub use self::model::{
    AfterClone, AfterStop, CloneReason, Command, Effect, Event, Job, Outcome, State,
};
pub use self::state_name::{StateName, UnknownState};

/// The state of one instance, with the counts that decide its transitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    state: State,
    /// When the state began. A change of its data does not count.
    since: Instant,
    /// The waiting clients, and those of them that have gone since.
    waiting: usize,
    /// The sessions of the current run.
    sessions: usize,
    /// How often the idle stop was postponed since the last session.
    postponed: u32,
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

    /// An instance that was found running, without sessions; the number of its run; and the first effect.
    pub fn adopt(now: Instant) -> (Self, Job, Effect) {
        let mut found = Self::stopped(now);
        let run = found.next_job();
        let idle = found.next_job();
        found.state = State::Running {
            job: run,
            idle: Some(idle),
        };
        (found, run, Effect::ArmIdle(idle))
    }

    /// An instance whose Postgres was found running and has to stop, and the first effect.
    pub fn stop_found(then: AfterStop, now: Instant) -> (Self, Effect) {
        let mut found = Self::stopped(now);
        let job = found.next_job();
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
            Event::StopDone { job, outcome } => self.stop_done(job, outcome),
            Event::DeleteDone { job, outcome } => self.delete_done(job, outcome),
            Event::Exited { run } => self.exited(run),
            Event::IdleElapsed { idle } => self.idle_elapsed(idle),
            Event::Asked { idle, awake } => self.asked(idle, awake),
            Event::SlotWanted => self.stop_if_unused(),
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
            (_, _, AfterClone::Delete) => self.delete(),
            // After a failed reset the old data serves the waiting clients.
            (Outcome::Done, _, AfterClone::Stopped)
            | (Outcome::Failed, CloneReason::Reset, AfterClone::Stopped) => {
                self.start_if_clients_wait()
            }
        }
    }

    fn start_done(&mut self, done: Job, outcome: Outcome) -> Vec<Effect> {
        match self.state {
            State::Starting { job } if job == done => match outcome {
                Outcome::Done => {
                    self.sessions = 0;
                    self.state = State::Running { job, idle: None };
                    vec![Effect::Serve(job)]
                }
                Outcome::Failed => {
                    self.waiting = 0;
                    self.state = State::Failed;
                    vec![Effect::RefuseFailed]
                }
            },
            _ => Vec::new(),
        }
    }

    fn stop_done(&mut self, done: Job, outcome: Outcome) -> Vec<Effect> {
        match self.state {
            State::Stopping { job, then } if job == done => match (outcome, then) {
                (Outcome::Failed, then) => {
                    let job = self.next_job();
                    self.state = State::Stopping { job, then };
                    let mut effects = self.refuse_failed();
                    effects.push(Effect::StopAgain(job));
                    effects
                }
                (Outcome::Done, AfterStop::Stopped) => self.start_if_clients_wait(),
                (Outcome::Done, AfterStop::Reset) => self.begin_reset(),
                (Outcome::Done, AfterStop::Delete) => self.delete(),
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

    fn command(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Start => self.command_start(),
            Command::Stop => self.command_stop(),
            Command::Reset => self.end_run(AfterStop::Reset),
            Command::Delete => self.end_run(AfterStop::Delete),
            Command::Expire if self.can_expire() => self.delete(),
            Command::Expire => Vec::new(),
        }
    }

    /// The caller counts as a waiting client until the start has ended, and then has no session.
    fn command_start(&mut self) -> Vec<Effect> {
        match self.state {
            State::Stopped | State::Failed => self.start(),
            State::Cloning {
                then: AfterClone::Stopped,
                ..
            }
            | State::Stopping {
                then: AfterStop::Stopped | AfterStop::Reset,
                ..
            } => {
                self.waiting += 1;
                Vec::new()
            }
            State::Cloning {
                then: AfterClone::Delete,
                ..
            }
            | State::Stopping {
                then: AfterStop::Delete,
                ..
            }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Deleting { .. }
            | State::Gone => Vec::new(),
        }
    }

    fn command_stop(&mut self) -> Vec<Effect> {
        match self.state {
            State::Running { .. } | State::Starting { .. } => {
                let mut effects = self.stop(AfterStop::Stopped);
                if self.waiting > 0 {
                    self.waiting = 0;
                    effects.insert(0, Effect::RefuseStopped);
                }
                effects
            }
            State::Cloning { .. } | State::Stopping { .. } if self.waiting > 0 => {
                self.waiting = 0;
                vec![Effect::RefuseStopped]
            }
            State::Cloning { .. }
            | State::Stopped
            | State::Stopping { .. }
            | State::Failed
            | State::Deleting { .. }
            | State::Gone => Vec::new(),
        }
    }

    /// Ends the current run, if there is one, in a reset or a deletion.
    fn end_run(&mut self, then: AfterStop) -> Vec<Effect> {
        match self.state {
            State::Running { .. } | State::Starting { .. } => self.stop(then),
            State::Stopped | State::Failed => match then {
                AfterStop::Reset => self.begin_reset(),
                AfterStop::Delete => self.delete(),
                AfterStop::Stopped => Vec::new(),
            },
            State::Stopping {
                job,
                then: AfterStop::Stopped | AfterStop::Reset,
            } => {
                self.state = State::Stopping { job, then };
                Vec::new()
            }
            State::Cloning { job, why, .. } if then == AfterStop::Delete => {
                let then = AfterClone::Delete;
                self.state = State::Cloning { job, why, then };
                Vec::new()
            }
            // A clone in progress has fresh data already.
            State::Cloning { .. }
            | State::Stopping {
                then: AfterStop::Delete,
                ..
            }
            | State::Deleting { .. }
            | State::Gone => Vec::new(),
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

    fn begin_reset(&mut self) -> Vec<Effect> {
        let job = self.next_job();
        let why = CloneReason::Reset;
        self.state = State::Cloning {
            job,
            why,
            then: AfterClone::Stopped,
        };
        vec![Effect::Clone(job, why)]
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
