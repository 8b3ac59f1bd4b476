//! The history of each instance, for people: when its Postgres started and stopped, and why.
//!
//! An instance notes its events without waiting, so the keeper of the notes does not delay a login. A note can
//! therefore be lost with the daemon or if there are too many at once: nothing is decided by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use multidb_store::InstanceName;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::instance::lifecycle::{CloneReason, Event, Outcome, ServerOutcome, State};
use crate::metrics::labels::StopCause;

/// The notes that wait to be kept. Beyond these, they are lost.
const WAITING_MAX: usize = 4096;

/// Something that has happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// The event.
    #[serde(flatten)]
    pub what: What,
}

/// An event in the history of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// Its first clone is complete.
    Created,
    /// Its Postgres started.
    Started {
        /// The user whose login it started for; none for a command.
        login: Option<String>,
    },
    /// Its Postgres did not start.
    NotStarted,
    /// Its Postgres was stopped.
    Stopped {
        /// Why.
        cause: Cause,
    },
    /// Its Postgres exited by itself.
    Exited,
    /// It got a fresh clone by a command.
    Reset,
    /// It got a fresh clone, since it had ended uncleanly without fsync.
    Renewed,
    /// It got its name.
    Renamed {
        /// The name that it had.
        from: String,
    },
    /// An event that a later version notes.
    #[serde(other)]
    Other,
}

/// Why a Postgres was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was unused for `instance_idle_timeout`.
    Idle,
    /// Another instance needed its slot.
    MakeRoom,
    /// It may not take more of the disk.
    OverLimit,
    /// A command.
    Command,
    /// The end of the daemon.
    Daemon,
}

/// A message to the keeper of the notes.
#[derive(Debug)]
pub enum Note {
    /// An event of an instance. [`What::Created`] begins its history.
    Happened(InstanceName, Happening),
    /// An instance has another name.
    Renamed(InstanceName, InstanceName),
    /// An instance is deleted.
    Forget(InstanceName),
    /// Asks for the events of an instance, earliest first.
    Read(InstanceName, oneshot::Sender<Vec<Happening>>),
    /// Asks for an answer once all notes before are kept.
    Flush(oneshot::Sender<()>),
}

/// Takes notes. Clones share one keeper; by default nothing is kept.
#[derive(Debug, Clone, Default)]
pub struct History {
    keeper: Option<mpsc::Sender<Note>>,
    daemon_stops: Arc<AtomicBool>,
}

impl History {
    /// A history with a keeper, which receives the notes.
    pub fn new() -> (Self, mpsc::Receiver<Note>) {
        let (keeper, notes) = mpsc::channel(WAITING_MAX);
        let history = Self {
            keeper: Some(keeper),
            daemon_stops: Arc::default(),
        };
        (history, notes)
    }

    /// Instances that a command stops from now on are stopped with the daemon.
    pub(crate) fn daemon_stops(&self) {
        self.daemon_stops.store(true, Ordering::Relaxed);
    }

    /// Notes a change of an instance's state, which `login` waited for first.
    pub(crate) fn note_change(
        &self,
        instance: &InstanceName,
        (before, event, after): (State, Event, State),
        login: &mut Option<Arc<str>>,
        now: impl FnOnce() -> Timestamp,
    ) {
        if after == State::Gone {
            return self.send(Note::Forget(instance.clone()));
        }
        let mut login_of_start = || login.take().map(|user| user.to_string());
        let Some(what) = what(before, event, after, &mut login_of_start) else {
            return;
        };
        let what = match what {
            What::Stopped {
                cause: Cause::Command,
            } if self.daemon_stops.load(Ordering::Relaxed) => What::Stopped {
                cause: Cause::Daemon,
            },
            what => what,
        };
        let at = now();
        self.send(Note::Happened(instance.clone(), Happening { at, what }));
    }

    /// Notes that an instance has another name.
    pub(crate) fn note_rename(&self, from: &InstanceName, to: &InstanceName, at: Timestamp) {
        self.send(Note::Renamed(from.clone(), to.clone()));
        let what = What::Renamed {
            from: from.to_string(),
        };
        self.send(Note::Happened(to.clone(), Happening { at, what }));
    }

    /// The events of an instance, earliest first.
    pub async fn of(&self, instance: &InstanceName) -> Vec<Happening> {
        let (reply, answer) = oneshot::channel();
        self.send(Note::Read(instance.clone(), reply));
        answer.await.unwrap_or_default()
    }

    /// Resolves when all notes before are kept.
    pub async fn flush(&self) {
        let (reply, answer) = oneshot::channel();
        self.send(Note::Flush(reply));
        // The keeper may have ended.
        let _ended = answer.await;
    }

    fn send(&self, note: Note) {
        if let Some(keeper) = &self.keeper
            && let Err(error) = keeper.try_send(note)
        {
            tracing::debug!(%error, "what happened to an instance is not kept");
        }
    }
}

/// The event to note for a change of state; `None` if it is not noted.
fn what(
    before: State,
    event: Event,
    after: State,
    login: &mut impl FnMut() -> Option<String>,
) -> Option<What> {
    match (before, event) {
        (
            State::Cloning { why, .. },
            Event::CloneDone {
                outcome: Outcome::Done,
                ..
            },
        ) => {
            return Some(match why {
                CloneReason::Create => What::Created,
                CloneReason::Reset => What::Reset,
                CloneReason::Renew => What::Renewed,
            });
        }
        (State::Starting { .. }, Event::StartDone { outcome, .. }) => {
            return match outcome {
                ServerOutcome::Done => Some(What::Started { login: login() }),
                ServerOutcome::Failed | ServerOutcome::Unknown => {
                    login();
                    Some(What::NotStarted)
                }
            };
        }
        _ => {}
    }
    let cause = match StopCause::of(before, event, after)? {
        StopCause::Idle => Cause::Idle,
        StopCause::MakeRoom => Cause::MakeRoom,
        StopCause::OverLimit => Cause::OverLimit,
        StopCause::Command => Cause::Command,
        StopCause::Exited => return Some(What::Exited),
        // The results of these are noted.
        StopCause::Reset | StopCause::Delete => return None,
    };
    Some(What::Stopped { cause })
}
