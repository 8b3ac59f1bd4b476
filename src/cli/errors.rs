//! Error messages on standard error.

use std::fmt::Write as _;
use std::io::Write as _;

use super::output::lines;
use crate::admin::client::AdminError;

/// Prints an error.
pub(super) fn print(error: &anyhow::Error) {
    // A closed standard error has no reader.
    let _closed = std::io::stderr().write_all(text(error).as_bytes());
}

/// The error with its causes in one line, then detail and hint of the daemon.
pub(super) fn text(error: &anyhow::Error) -> String {
    let mut text = format!("multidb: {error:#}\n");
    if let Some(refused) = error.downcast_ref::<AdminError>() {
        let more = [("detail", refused.detail()), ("hint", refused.hint())];
        for (label, more) in more {
            if let Some(more) = more {
                // Writing to a String does not fail.
                let _infallible = writeln!(text, "{label}: {more}");
            }
        }
    }
    lines(&text)
}
