//! The words of the life cycle: its states, what happens to it, and what it asks for.

use super::StateName;
use crate::awake::Awake;

/// The number of a job, of a run of Postgres or of an idle period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Job(pub(super) u64);

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A clone is being made.
    Cloning {
        /// The clone's job.
        job: Job,
        /// What the clone is for.
        why: CloneReason,
        /// What follows.
        then: AfterClone,
    },
    /// Nothing runs; the data is there.
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
        /// The idle period that is being waited out, or after which Postgres is being asked, if
        /// there are no sessions.
        idle: Option<Job>,
    },
    /// Postgres is being stopped.
    Stopping {
        /// The stop's job.
        job: Job,
        /// What follows.
        then: AfterStop,
    },
    /// The last start, or a deletion, failed.
    Failed,
    /// The data is being deleted.
    Deleting {
        /// The deletion's job.
        job: Job,
    },
    /// Nothing is left.
    Gone,
}

/// What a clone is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneReason {
    /// The instance is new. If the clone fails, it never was.
    Create,
    /// The instance gets fresh data. If the clone fails, it keeps what it has.
    Reset,
}

/// What follows a clone. Its worker cannot be interrupted, so a deletion waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterClone {
    /// Rest, or start if clients wait.
    Stopped,
    /// Delete everything.
    Delete,
}

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStop {
    /// Rest, or start again if clients wait.
    Stopped,
    /// Make a fresh clone.
    Reset,
    /// Delete everything.
    Delete,
}

/// What happened.
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
        /// The run that it was a session of.
        run: Job,
    },
    /// A clone ended.
    CloneDone {
        /// Its job.
        job: Job,
        /// Whether there is a clone.
        outcome: Outcome,
    },
    /// A start ended.
    StartDone {
        /// Its job.
        job: Job,
        /// Whether Postgres accepts connections.
        outcome: Outcome,
    },
    /// A stop ended.
    StopDone {
        /// Its job.
        job: Job,
        /// Whether nothing runs any more.
        outcome: Outcome,
    },
    /// A deletion ended.
    DeleteDone {
        /// Its job.
        job: Job,
        /// Whether nothing is left that could be used.
        outcome: Outcome,
    },
    /// Postgres exited by itself.
    Exited {
        /// The run that ended.
        run: Job,
    },
    /// The idle period is over.
    IdleElapsed {
        /// The period.
        idle: Job,
    },
    /// Postgres has said what it does of its own accord.
    Asked {
        /// The period after which it was asked.
        idle: Job,
        /// What it does.
        awake: Awake,
    },
    /// Another instance needs the place.
    SlotWanted,
    /// An administrator, or the end of the daemon.
    Command(Command),
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was to do.
    Done,
    /// It did not, and left nothing of it.
    Failed,
}

/// What an administrator asks for.
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
    /// Delete it if nobody uses it now.
    Expire,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Make a clone.
    Clone(Job, CloneReason),
    /// Start Postgres.
    Start(Job),
    /// Stop Postgres; a start in progress is given up first.
    Stop(Job),
    /// Stop Postgres, after a pause: it could not be stopped.
    StopAgain(Job),
    /// Delete the data and the record.
    Delete(Job),
    /// Give all waiting clients the running Postgres. [`Event::Served`] follows.
    Serve(Job),
    /// Tell all waiting clients why the job failed.
    RefuseFailed,
    /// Tell all waiting clients that an administrator stopped it.
    RefuseStopped,
    /// Send all waiting clients back to the Supervisor.
    Redirect,
    /// Wait out the idle period.
    ArmIdle(Job),
    /// Ask Postgres whether a stop would cut something.
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
            Self::StartDone { outcome, .. } => outcome.either("start_done", "start_failed"),
            Self::StopDone { outcome, .. } => outcome.either("stop_done", "stop_failed"),
            Self::DeleteDone { outcome, .. } => outcome.either("delete_done", "delete_failed"),
            Self::Exited { .. } => "exited",
            // Postgres is asked after each idle period, and stops by its answer.
            Self::IdleElapsed { .. } | Self::Asked { .. } => "idle",
            Self::SlotWanted => "make_room",
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

impl Command {
    fn cause(self) -> &'static str {
        match self {
            Self::Start => "command_start",
            Self::Stop => "command_stop",
            Self::Reset => "command_reset",
            Self::Delete => "command_delete",
            Self::Expire => "expired",
        }
    }
}
