//! The names of an instance's states, as users see them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::State;

/// The name of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateName {
    /// A clone is being made.
    Cloning,
    /// Nothing runs; the data is there.
    Stopped,
    /// Postgres is being started.
    Starting,
    /// Postgres accepts connections.
    Running,
    /// Postgres is being stopped.
    Stopping,
    /// The last start, or a deletion, failed.
    Failed,
    /// Its runtime is away, so Postgres may run or not.
    Unavailable,
    /// The data is being deleted.
    Deleting,
}

/// A text that is not the name of a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a state; valid states: {}", StateName::ALL.map(StateName::as_str).join(", "))]
pub struct UnknownState {
    /// The text.
    pub text: String,
}

impl StateName {
    /// All names.
    pub const ALL: [Self; 8] = [
        Self::Cloning,
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Failed,
        Self::Unavailable,
        Self::Deleting,
    ];

    /// The name as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cloning => "cloning",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::Deleting => "deleting",
        }
    }
}

impl From<State> for StateName {
    fn from(state: State) -> Self {
        match state {
            State::Cloning { .. } => Self::Cloning,
            State::Stopped => Self::Stopped,
            State::Starting { .. } => Self::Starting,
            State::Running { .. } => Self::Running,
            State::Stopping { .. } => Self::Stopping,
            State::Failed => Self::Failed,
            State::Unavailable { .. } => Self::Unavailable,
            State::Deleting { .. } | State::Gone => Self::Deleting,
        }
    }
}

impl FromStr for StateName {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| UnknownState {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
