//! The life of one instance, as a pure function: `step(event, now)` changes the state and says
//! what is to be done. No clock, no actor, no I/O.
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
//! - **Starting**: waits for one of the `max_running` places, then for Postgres. Clients wait.
//! - **Running**: serves. Without sessions for `instance_idle_timeout`, Postgres is asked what it
//!   does of its own accord; the stop is put off for it, a bounded number of times.
//! - **Stopping**: Postgres shuts down, or what is left of a crashed one is removed. Clients wait
//!   and are served by the next start, so none is refused for bad timing. A stop that fails is tried
//!   again, and nothing else is done to the data before: something may still run on it.
//! - **Failed**: the last start failed, or a deletion did. As `Stopped`, the next client tries again.
//! - **Deleting**, **Gone**: clients are sent back to the Supervisor, which may create anew.
//!
//! Each job (clone, start, stop, delete) and each idle period has a number. What comes back under
//! an old number is stale and changes nothing.

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

/// The state of one instance, and what it needs to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// What the instance is doing.
    state: State,
    /// Since when, whatever changed within the state.
    since: Instant,
    /// The clients that wait. Some may have gone; that shows when they are served.
    waiting: usize,
    /// The sessions of the current run.
    sessions: usize,
    /// How often a stop was put off since there was a session.
    postponed: u32,
    /// The last number given to a job.
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

    /// An instance whose data is there and that does not run.
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

    /// An instance that was found running, without sessions, and what to do first.
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

    /// An instance that was found running and has to stop.
    pub fn stop_found(then: AfterStop, now: Instant) -> (Self, Effect) {
        let mut found = Self::stopped(now);
        let job = found.next_job();
        found.state = State::Stopping { job, then };
        (found, Effect::Stop(job))
    }

    /// What the instance is doing.
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

    /// Whether nobody uses the instance or waits for it.
    pub fn is_unused(&self) -> bool {
        self.waiting == 0 && self.sessions == 0
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
            // Not yet gone, but it will be: the client is sent back when it is.
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
            // After a reset that failed, the old data is still there for those who wait.
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

    /// Its sessions end by themselves, since their sockets close. What is left of the run is
    /// removed as by a stop.
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

    /// Stops, or puts the stop off by another period, as often as what Postgres does may.
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
            Command::Expire => match self.state {
                State::Stopped | State::Failed if self.is_unused() => self.delete(),
                _ => Vec::new(),
            },
        }
    }

    /// Who asks for a start waits for it as a client does, and then has no session.
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

    /// Whatever it does now, it ends in a reset or a deletion.
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
            // A clone in progress is fresh already.
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
