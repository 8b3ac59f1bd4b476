//! The question before a command that ends sessions or destroys data.
//!
//! Only a person is asked: somebody whose standard input and output are both terminals, who wants
//! no JSON and did not say `--yes`. A program gets what it asked for.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use multidb_store::InstanceName;

use super::table::printable;
use crate::control::model::InstanceView;

/// What an administrator is about to do to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Its sessions end, its data stays.
    Stop,
    /// Its data is replaced.
    Reset,
    /// Its data is deleted.
    Remove,
}

impl Deed {
    /// What will be lost, as a question; `None` where nothing is.
    pub(super) fn question(self, instance: &InstanceView) -> Option<String> {
        let name = printable(&instance.name);
        let sessions = match instance.connections {
            0 => String::new(),
            count => format!(" and end {}", sessions(count)),
        };
        match self {
            Self::Stop if instance.connections == 0 => None,
            Self::Stop => Some(format!("Stop instance {name}{sessions}?")),
            Self::Reset => Some(format!(
                "Replace the data of instance {name} by a fresh clone of snapshot {}{sessions}?",
                printable(&instance.snapshot)
            )),
            Self::Remove => Some(format!("Delete instance {name} with its data{sessions}?")),
        }
    }
}

/// A number of sessions, in words.
pub(super) fn sessions(count: usize) -> String {
    match count {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    }
}

/// Whether somebody sits there who can answer.
pub(super) fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Asks, and fails unless the answer is yes.
pub(super) fn ask(name: &InstanceName, question: &str) -> anyhow::Result<()> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} [y/N] ")
        .and_then(|()| stderr.flush())
        .context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    anyhow::ensure!(is_yes(&answer), "nothing was done to instance {name}");
    Ok(())
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for answer in ["y\n", "Y", " yes \r\n", "YES\n"] {
            assert!(is_yes(answer), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "yep\n", "no\n", "y y\n"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }
}
