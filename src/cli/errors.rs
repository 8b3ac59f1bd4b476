//! How a failure is told.

use std::fmt::Write as _;
use std::io::Write as _;

use super::table::printable;
use crate::admin::client::AdminError;

/// Tells it on standard error.
pub(super) fn print(error: &anyhow::Error) {
    // Where nobody reads it, there is nobody to tell.
    let _unread = std::io::stderr().write_all(text(error).as_bytes());
}

/// The failure with its causes in one line, and DETAIL and HINT of what the daemon said.
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
    let lines = text.lines().map(|line| format!("{}\n", printable(line)));
    lines.collect()
}
