//! Confirmation of commands that end sessions or destroy data.
//!
//! Only a person is asked: standard input and output are terminals, and neither `--json` nor `--yes`
//! is given. A program is never asked.

use std::io::{IsTerminal, Write};

use anyhow::Context;

use super::output::printable;
use super::table::count;
use crate::control::model::{InstanceView, SnapshotView};

/// A destructive command on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destructive {
    /// It ends sessions and keeps the data.
    Stop,
    /// It replaces the data.
    Reset,
    /// It deletes the data.
    Remove,
}

impl Destructive {
    /// The question that names the loss; `None` without a loss.
    pub(super) fn question(self, instance: &InstanceView) -> Option<String> {
        let name = printable(&instance.name);
        let sessions = match instance.connections {
            0 => String::new(),
            number => format!(" and end {}", count(number, "session")),
        };
        match self {
            Self::Stop if instance.connections == 0 => None,
            Self::Stop => Some(format!("Stop instance {name}{sessions}?")),
            Self::Reset => Some(format!(
                "Replace the data of instance {name} with a fresh clone of snapshot {}{sessions}?",
                printable(&instance.snapshot)
            )),
            Self::Remove => Some(format!("Delete instance {name} with its data{sessions}?")),
        }
    }
}

/// Whether standard input and output are terminals.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The question before a snapshot is deleted.
pub(super) fn removal_of(snapshot: &SnapshotView) -> String {
    let id = printable(&snapshot.id);
    let instances = match snapshot.instances {
        0 => String::new(),
        number => format!(
            ", of which {} can then not be reset",
            count(number, "instance")
        ),
    };
    format!("Delete snapshot {id} with its data{instances}?")
}

/// Asks, and fails unless the answer is yes.
pub(super) fn ask(subject: &str, question: &str) -> anyhow::Result<()> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} [y/N] ")
        .and_then(|()| stderr.flush())
        .context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    anyhow::ensure!(is_yes(&answer), "nothing was done to {subject}");
    Ok(())
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_and_yes_confirm() {
        for answer in ["y\n", "Y", " yes \r\n", "YES\n"] {
            assert!(is_yes(answer), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "yep\n", "no\n", "y y\n"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }
}
