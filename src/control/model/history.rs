//! The history of an instance.

use jiff::Timestamp;
use multidb_actors::history::{Cause, Happening, What};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that has happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HappeningView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What: `created`, `started`, `not_started`, `stopped`, `exited`, `reset`, `renewed` or `renamed`.
    pub what: String,
    /// Why it started (`login` or `command`), or why it was stopped (`idle`, `make_room`, `over_limit`, `command` or
    /// `daemon`).
    pub cause: Option<String>,
    /// The user whose login it started for.
    pub by: Option<String>,
    /// The same in words.
    pub text: String,
}

impl HappeningView {
    /// A happening for people and programs; none for what this version does not know.
    pub(in crate::control) fn of(happening: Happening) -> Option<Self> {
        let Happening { at, what } = happening;
        let mut by = None;
        let (word, cause, text) = match what {
            What::Created => ("created", None, "created".to_owned()),
            What::Started { login: Some(user) } => {
                let text = format!("started for a login of {user}");
                by = Some(user);
                ("started", Some("login"), text)
            }
            What::Started { login: None } => (
                "started",
                Some("command"),
                "started by a command".to_owned(),
            ),
            What::NotStarted => ("not_started", None, "did not start".to_owned()),
            What::Stopped { cause } => {
                let (cause, text) = words(cause);
                ("stopped", Some(cause), text.to_owned())
            }
            What::Exited => ("exited", None, "its Postgres ended by itself".to_owned()),
            What::Reset => ("reset", None, "reset by a command".to_owned()),
            What::Renewed => {
                let text = "cloned afresh, since it had ended uncleanly without fsync";
                ("renewed", None, text.to_owned())
            }
            What::Renamed { from } => ("renamed", None, format!("renamed from {from}")),
            What::Other => return None,
        };
        Some(Self {
            at,
            what: word.to_owned(),
            cause: cause.map(str::to_owned),
            by,
            text,
        })
    }
}

fn words(cause: Cause) -> (&'static str, &'static str) {
    match cause {
        Cause::Idle => ("idle", "stopped, since nobody used it"),
        Cause::MakeRoom => ("make_room", "stopped to make room for another instance"),
        Cause::OverLimit => (
            "over_limit",
            "stopped, since it may not take more of the disk",
        ),
        Cause::Command => ("command", "stopped by a command"),
        Cause::Daemon => ("daemon", "stopped with the daemon"),
    }
}
