//! The values of labels. None comes from a client.

use super::{Label, label};
use crate::connection::{RefusalReason, TerminationReason};
use crate::instance::InstanceError;
use crate::instance::lifecycle::{CloneReason, Command, Event, State};

label! {
    /// The outcome of a connection.
    ConnectionOutcome as "outcome" {
        /// A session with an instance.
        Session = "session",
        /// A session of the console.
        Console = "console",
        /// A cancel request.
        Cancel = "cancel_request",
        /// A load balancer's question.
        HealthCheck = "health_check",
        /// It was refused by multidb.
        Refused = "refused",
        /// It was refused by the instance's Postgres.
        RefusedByPostgres = "refused_by_postgres",
        /// The client went before it had a session.
        Left = "client_left",
    }
}

label! {
    /// How an authentication ended.
    LoginOutcome as "outcome" {
        /// The client has proved its identity.
        Succeeded = "succeeded",
        /// It has not.
        Failed = "failed",
        /// It must wait after too many failures.
        Delayed = "delayed",
    }
}

label! {
    /// Why a session ended.
    SessionEnd as "cause" {
        /// The client or its Postgres closed it in order.
        Closed = "closed",
        /// The client's connection broke.
        Disconnected = "disconnected",
        /// It was idle for `session_idle_timeout`.
        IdleSession = "idle_session",
        /// It only listened for `listen_idle_timeout`.
        IdleListener = "idle_listener",
        /// A COPY waited for its client for `copy_idle_timeout`.
        IdleInCopy = "idle_in_copy",
        /// It was idle in a transaction for `transaction_idle_timeout`.
        IdleInTransaction = "idle_in_transaction",
        /// Its query ran for `active_timeout`, or it replicated for `replication_timeout`.
        Active = "active_timeout",
        /// An administrator ended it.
        Killed = "killed",
        /// The daemon stopped.
        ShuttingDown = "shutting_down",
        /// Its instance may not take more of the disk.
        OverLimit = "over_limit",
        /// A command stopped, reset or removed its instance.
        Commanded = "commanded",
    }
}

impl From<&TerminationReason> for SessionEnd {
    fn from(reason: &TerminationReason) -> Self {
        match reason {
            TerminationReason::IdleSession { .. } => Self::IdleSession,
            TerminationReason::IdleListener { .. } => Self::IdleListener,
            TerminationReason::IdleInCopy { .. } => Self::IdleInCopy,
            TerminationReason::IdleInTransaction { .. } => Self::IdleInTransaction,
            TerminationReason::Killed => Self::Killed,
            TerminationReason::ShuttingDown => Self::ShuttingDown,
            TerminationReason::OverLimit(_) => Self::OverLimit,
            TerminationReason::Commanded(_) => Self::Commanded,
        }
    }
}

label! {
    /// The work of an instance for a login.
    LoginPath as "path" {
        /// It was created.
        Created = "created",
        /// It was started.
        Woken = "woken",
        /// It ran.
        Running = "running",
    }
}

label! {
    /// A phase of a login.
    LoginPhase as "phase" {
        /// The handshake and the authentication.
        Authenticate = "authenticate",
        /// The choice of the snapshot, without the fetch.
        Choose = "choose",
        /// The question to the git remote.
        Fetch = "fetch",
        /// The clone.
        Clone = "clone",
        /// The start of Postgres.
        Start = "start",
        /// The login to Postgres.
        Connect = "connect",
        /// The rest: waiting for a thread, a slot or a record.
        Wait = "wait",
    }
}

label! {
    /// Whether something succeeded.
    Outcome as "outcome" {
        /// It did.
        Done = "done",
        /// It did not.
        Failed = "failed",
    }
}

impl Outcome {
    /// Whether this is a success.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(_) => Self::Failed,
        }
    }
}

label! {
    /// The data that Postgres starts on.
    StartKind as "kind" {
        /// On the first clone of a new instance.
        Create = "create",
        /// On data that was there.
        Wake = "wake",
        /// On a fresh clone in the place of older data.
        Reset = "reset",
    }
}

impl StartKind {
    /// The kind of a start behind this clone.
    pub fn of(cloned: Option<CloneReason>) -> Self {
        match cloned {
            None => Self::Wake,
            Some(CloneReason::Create) => Self::Create,
            Some(CloneReason::Reset | CloneReason::Renew) => Self::Reset,
        }
    }
}

label! {
    /// How a start ended.
    StartOutcome as "outcome" {
        /// Postgres accepts connections.
        Done = "done",
        /// It does not.
        Failed = "failed",
        /// `max_running` instances ran, or too much of the memory was used.
        NoSlot = "no_slot",
        /// The runtime is away.
        RuntimeAway = "runtime_away",
        /// The instance may not take more of the disk, or its data cannot be used.
        Refused = "refused",
    }
}

impl From<&InstanceError> for StartOutcome {
    fn from(error: &InstanceError) -> Self {
        match error {
            InstanceError::NoSlot { .. } | InstanceError::NoMemory { .. } => Self::NoSlot,
            InstanceError::Unavailable(_) => Self::RuntimeAway,
            InstanceError::OverLimit(_) | InstanceError::DataUnusable { .. } => Self::Refused,
            _ => Self::Failed,
        }
    }
}

label! {
    /// Why a running Postgres ended.
    StopCause as "cause" {
        /// It was unused for `instance_idle_timeout`.
        Idle = "idle",
        /// Another instance needed its slot.
        MakeRoom = "make_room",
        /// It may not take more of the disk.
        OverLimit = "over_limit",
        /// A command, or the end of the daemon.
        Command = "command",
        /// A reset.
        Reset = "reset",
        /// A deletion.
        Delete = "delete",
        /// It exited by itself: a crash.
        Exited = "exited",
    }
}

impl StopCause {
    /// The cause, if this change of state ends a running Postgres.
    pub fn of(before: State, event: Event, after: State) -> Option<Self> {
        if !matches!(before, State::Running { .. }) || matches!(after, State::Running { .. }) {
            return None;
        }
        match event {
            Event::IdleElapsed { .. } | Event::Asked { .. } | Event::SessionEnded { .. } => {
                Some(Self::Idle)
            }
            Event::SlotWanted => Some(Self::MakeRoom),
            Event::OverLimit => Some(Self::OverLimit),
            Event::Exited { .. } => Some(Self::Exited),
            Event::Command(Command::Reset) => Some(Self::Reset),
            Event::Command(Command::Delete | Command::Expire) => Some(Self::Delete),
            Event::Command(Command::Start | Command::Stop | Command::Recover) => {
                Some(Self::Command)
            }
            // Of other states.
            Event::ClientWaits
            | Event::Served { .. }
            | Event::CloneDone { .. }
            | Event::StartDone { .. }
            | Event::EndedUncleanly { .. }
            | Event::StopDone { .. }
            | Event::Looked { .. }
            | Event::DeleteDone { .. } => None,
        }
    }
}

label! {
    /// The outcome for an actor that panicked.
    Revival as "outcome" {
        /// It was rebuilt.
        Rebuilt = "rebuilt",
        /// It kept panicking.
        GivenUp = "given_up",
    }
}

/// Why a client was refused: the code of the error. The codes are words in the source, some eighty, of which a daemon
/// ever sees few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(&'static str);

impl Reason {
    const TOO_MANY_CONNECTIONS: Self = Self("too_many_connections");
    const EVICTED: Self = Self("evicted");
    const TOO_MANY_RUNNING: Self = Self("too_many_running");
    const TOO_LITTLE_MEMORY: Self = Self("too_little_memory");
    const NO_SPACE: Self = Self("no_disk_space");
    const WRONG_PASSWORD: Self = Self("wrong_password");

    /// The reason of this refusal.
    pub fn of(reason: &RefusalReason) -> Self {
        Self(reason.code())
    }
}

impl Label for Reason {
    const KEY: &'static str = "reason";
    // The codes of limits, and the most frequent one; the others appear with their first event.
    const ALL: &'static [Self] = &[
        Self::TOO_MANY_CONNECTIONS,
        Self::EVICTED,
        Self::TOO_MANY_RUNNING,
        Self::TOO_LITTLE_MEMORY,
        Self::NO_SPACE,
        Self::WRONG_PASSWORD,
    ];

    fn name(self) -> &'static str {
        self.0
    }
}
