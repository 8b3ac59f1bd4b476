//! The types of the life cycle: states, events and effects.

use super::StateName;
use crate::awake::Awake;

/// The number of a job, of a run of Postgres or of an idle period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Job(pub(super) u64);

/// The state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A clone is being made.
    Cloning {
        /// The clone's job.
        job: Job,
        /// The reason for the clone.
        why: CloneReason,
        /// The next step.
        then: AfterClone,
    },
    /// The data is complete and nothing runs.
    Stopped,
    /// Postgres is being started.
    Starting {
        /// The start's job; when it succeeds, the number of the run.
        job: Job,
    },
    /// Postgres accepts connections.
    Running {
        /// The number of this run.
        job: Job,
        /// The current idle period, or the one after which Postgres is being asked; `None` while there are sessions.
        idle: Option<Job>,
    },
    /// Postgres is being stopped.
    Stopping {
        /// The stop's job.
        job: Job,
        /// The next step.
        then: AfterStop,
    },
    /// The last start, or a deletion, failed.
    Failed,
    /// Postgres may run or not. It is looked for, and nothing is done to the data before it is known.
    Unavailable {
        /// The number of the look.
        job: Job,
        /// Whether it is under way.
        look: Look,
        /// The next step: none, or the deletion of a leftover.
        then: AfterStop,
    },
    /// The data is being deleted.
    Deleting {
        /// The deletion's job.
        job: Job,
    },
    /// The instance is deleted.
    Gone,
}

/// Whether Postgres is being looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is.
    Now,
    /// It will be, after a delay.
    Later,
}

/// The reason for a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneReason {
    /// The instance is new. If the clone fails, the instance is removed.
    Create,
    /// The instance gets fresh data. If the clone fails, it keeps the old data.
    Reset,
    /// As a reset, since its old data must not be used: also if the clone fails.
    Renew,
}

/// The step after a clone. A clone cannot be interrupted, so a deletion waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterClone {
    /// Start if clients wait, else stay stopped.
    Stopped,
    /// Delete everything.
    Delete,
}

/// The step after a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStop {
    /// Start again if clients wait, else stay stopped.
    Stopped,
    /// Make a fresh clone.
    Reset,
    /// Make a fresh clone in the place of data that must not be used, and start again.
    Renew,
    /// Delete everything.
    Delete,
}

/// An event in the life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A client waits for the instance.
    ClientWaits,
    /// Waiting clients were given the running Postgres.
    Served {
        /// The run.
        run: Job,
        /// The clients that were still there and have a session now.
        sessions: usize,
    },
    /// A session of the run ended.
    SessionEnded {
        /// The run of the session.
        run: Job,
    },
    /// A clone ended.
    CloneDone {
        /// Its job.
        job: Job,
        /// Whether the clone is complete.
        outcome: Outcome,
    },
    /// A start ended.
    StartDone {
        /// Its job.
        job: Job,
        /// Whether Postgres accepts connections.
        outcome: ServerOutcome,
    },
    /// A start found that the last run ended uncleanly, without fsync.
    EndedUncleanly {
        /// The start's job.
        job: Job,
    },
    /// A stop ended.
    StopDone {
        /// Its job.
        job: Job,
        /// Whether Postgres has stopped.
        outcome: ServerOutcome,
    },
    /// Postgres was looked for.
    Looked {
        /// The number of the look.
        job: Job,
        /// The result.
        found: Looked,
    },
    /// A deletion ended.
    DeleteDone {
        /// Its job.
        job: Job,
        /// Whether the data is deleted.
        outcome: Outcome,
    },
    /// Postgres exited without a stop.
    Exited {
        /// The run that ended.
        run: Job,
    },
    /// The idle period is over.
    IdleElapsed {
        /// The period.
        idle: Job,
    },
    /// Postgres has answered whether it is busy without sessions.
    Asked {
        /// The period after which it was asked.
        idle: Job,
        /// The strongest reason to keep it running.
        awake: Awake,
    },
    /// Another instance waits for a slot.
    SlotWanted,
    /// It may not take more of the disk.
    OverLimit,
    /// An administrator, or the end of the daemon.
    Command(Command),
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// It failed and left nothing behind.
    Failed,
}

/// How a start or a stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerOutcome {
    /// It succeeded.
    Done,
    /// It failed: a start has left nothing, a stop may have left Postgres running.
    Failed,
    /// The runtime is away, so whether Postgres runs is unknown.
    Unknown,
}

/// The result of a look for Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// It runs, and was taken over under the number of the look.
    Adopted {
        /// The sessions on it.
        sessions: usize,
    },
    /// It runs and has to stop.
    Running,
    /// Nothing runs on the data.
    NotRunning,
    /// The runtime cannot tell.
    Unknown,
}

/// A command of an administrator or of the Supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Start it, without a client.
    Start,
    /// Stop it and end its sessions.
    Stop,
    /// Give it a fresh clone and end its sessions.
    Reset,
    /// Delete it and end its sessions.
    Delete,
    /// Delete it if it is stopped and unused.
    Expire,
    /// Leave its failure behind: look for its server, and change nothing.
    Recover,
}

/// An effect that the actor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Make a clone.
    Clone(Job, CloneReason),
    /// Start Postgres.
    Start(Job),
    /// Stop Postgres; a start in progress is cancelled first.
    Stop(Job),
    /// Retry a failed stop after a delay.
    StopAgain(Job),
    /// Look for Postgres.
    Look(Job),
    /// Look for Postgres after a delay.
    LookAgain(Job),
    /// Delete the data and the record. Postgres was looked for and stopped just before.
    Delete(Job),
    /// Give all waiting clients the running Postgres. [`Event::Served`] follows.
    Serve(Job),
    /// Refuse all waiting clients with the error of the job.
    RefuseFailed,
    /// Refuse all waiting clients, since an administrator stopped the instance.
    RefuseStopped,
    /// Send all waiting clients back to the Supervisor.
    Redirect,
    /// Begin the timer of the idle period.
    ArmIdle(Job),
    /// Ask Postgres whether it is busy without sessions.
    Ask(Job),
}

impl State {
    /// The state's name, as in `multidb instance ls`.
    pub fn name(self) -> &'static str {
        StateName::from(self).as_str()
    }
}

impl Event {
    /// The event's name, as the cause of a change of state in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientWaits => "client",
            Self::Served { .. } => "served",
            Self::SessionEnded { .. } => "session_ended",
            Self::CloneDone { outcome, .. } => outcome.either("clone_done", "clone_failed"),
            Self::StartDone { outcome, .. } => outcome.name("start_done", "start_failed"),
            Self::EndedUncleanly { .. } => "ended_uncleanly",
            Self::StopDone { outcome, .. } => outcome.name("stop_done", "stop_failed"),
            Self::Looked { found, .. } => found.name(),
            Self::DeleteDone { outcome, .. } => outcome.either("delete_done", "delete_failed"),
            Self::Exited { .. } => "exited",
            // Postgres is asked after each idle period, and stops by its answer.
            Self::IdleElapsed { .. } | Self::Asked { .. } => "idle",
            Self::SlotWanted => "make_room",
            Self::OverLimit => "over_limit",
            Self::Command(command) => command.cause(),
        }
    }
}

impl Outcome {
    fn either(self, done: &'static str, failed: &'static str) -> &'static str {
        match self {
            Self::Done => done,
            Self::Failed => failed,
        }
    }
}

impl ServerOutcome {
    fn name(self, done: &'static str, failed: &'static str) -> &'static str {
        match self {
            Self::Done => done,
            Self::Failed => failed,
            Self::Unknown => "runtime_away",
        }
    }
}

impl Looked {
    fn name(self) -> &'static str {
        match self {
            Self::Adopted { .. } | Self::Running => "found_running",
            Self::NotRunning => "found_not_running",
            Self::Unknown => "runtime_away",
        }
    }
}

impl Command {
    fn cause(self) -> &'static str {
        match self {
            Self::Start => "command_start",
            Self::Stop => "command_stop",
            Self::Reset => "command_reset",
            Self::Delete => "command_delete",
            Self::Expire => "expired",
            Self::Recover => "command_recover",
        }
    }
}
