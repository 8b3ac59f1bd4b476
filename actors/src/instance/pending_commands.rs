//! The commands that are not carried out yet, and their replies.

use tokio::sync::oneshot;

use crate::instance::lifecycle::{Command, Look, State};
use crate::instance::status::InstanceError;

pub(super) type Reply = oneshot::Sender<Result<(), InstanceError>>;

/// The commands without a reply so far.
#[derive(Debug, Default)]
pub(super) struct PendingCommands(Vec<(Command, Reply)>);

impl PendingCommands {
    /// Adds a command, to be answered when it is carried out.
    pub(super) fn add(&mut self, command: Command, reply: Reply) {
        self.0.push((command, reply));
    }

    /// Whether all are carried out.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers all commands with an error that delays them for an unknown time.
    pub(super) fn fail(&mut self, failure: &InstanceError) {
        for (command, reply) in self.0.drain(..) {
            if reply.send(Err(failure.clone())).is_err() {
                tracing::debug!(?command, "the caller of a command has gone");
            }
        }
    }

    /// Answers the commands to stop, since the server has stopped. A client that waited for that starts it again at
    /// once, so that no later state tells.
    pub(super) fn stopped(&mut self) {
        for (_, reply) in self
            .0
            .extract_if(.., |(command, _)| *command == Command::Stop)
        {
            if reply.send(Ok(())).is_err() {
                tracing::debug!("the caller of a stop has gone");
            }
        }
    }

    /// Answers the commands that are carried out, or cannot be, in this state.
    pub(super) fn answer(&mut self, state: State, failure: Option<&InstanceError>) {
        let waiting = std::mem::take(&mut self.0);
        for (command, reply) in waiting {
            match result(command, state, failure) {
                Some(result) => {
                    if reply.send(result).is_err() {
                        tracing::debug!(?command, "the caller of a command has gone");
                    }
                }
                None => self.0.push((command, reply)),
            }
        }
    }
}

/// The result of the command, once the state shows one.
fn result(
    command: Command,
    state: State,
    failure: Option<&InstanceError>,
) -> Option<Result<(), InstanceError>> {
    let failed = || Some(Err(failure.cloned().unwrap_or(InstanceError::Died)));
    match (command, state) {
        (Command::Start, State::Running { .. })
        | (Command::Stop, State::Stopped | State::Failed)
        | (Command::Delete, State::Gone)
        | (Command::Recover, State::Stopped | State::Starting { .. } | State::Running { .. })
        | (Command::Expire, _) => Some(Ok(())),
        // A reset that was asked for during a deletion fails with it.
        (Command::Start | Command::Delete | Command::Reset | Command::Recover, State::Failed)
        | (
            Command::Start | Command::Stop | Command::Reset | Command::Delete | Command::Recover,
            State::Unavailable {
                look: Look::Later, ..
            },
        ) => failed(),
        (Command::Start, State::Stopped) => Some(Err(InstanceError::Stopped)),
        (Command::Start | Command::Stop | Command::Reset | Command::Recover, State::Gone) => {
            Some(Err(InstanceError::Deleted))
        }
        // A reset ends with its clone.
        (Command::Reset, State::Stopped | State::Starting { .. } | State::Running { .. }) => {
            match failure {
                Some(error @ InstanceError::Clone(_)) => Some(Err(error.clone())),
                _ => Some(Ok(())),
            }
        }
        (
            _,
            State::Unavailable {
                look: Look::Now, ..
            },
        )
        | (Command::Start | Command::Stop, State::Starting { .. })
        | (Command::Stop, State::Running { .. })
        | (Command::Delete, State::Stopped | State::Starting { .. } | State::Running { .. })
        | (_, State::Cloning { .. } | State::Stopping { .. } | State::Deleting { .. }) => None,
    }
}
