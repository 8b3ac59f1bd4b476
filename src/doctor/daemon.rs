//! The daemon itself: whether it can do its work.

use std::time::Duration;

use super::{Finding, Level};
use crate::control::model::{StatusView, WaitingLoginView};
use crate::text::coarse;

/// The finding about a running daemon, by its status.
pub(crate) fn finding(status: &StatusView) -> Finding {
    let finding = |level, message: String| Finding::new(level, "daemon", message);
    if let Some(fault) = status.disk_fault {
        let message = format!("running, but {fault}, so no record can be written");
        return finding(Level::Fail, message).hint(fault.hint());
    }
    if status.expiry_paused_seconds.is_some() {
        let message = "running, but the wall clock jumped, so no instance expires for now";
        return finding(Level::Warn, message.to_owned())
            .hint("Check the machine's clock and its synchronization, such as by timedatectl.");
    }
    if !status.waiting_logins.is_empty() {
        let waiting: Vec<String> = status.waiting_logins.iter().map(waits).collect();
        let message = format!("running, but after failed logins {}", waiting.join("; "));
        return finding(Level::Warn, message).hint(
            "If it is a program with an old password, give it the new one; others log in at that address as usual.",
        );
    }
    finding(Level::Ok, format!("running, version {}", status.version))
}

/// The user that has to wait after failed logins, where, and for how long.
pub(crate) fn waits(waiting: &WaitingLoginView) -> String {
    let who = match &waiting.user {
        Some(user) => user,
        None => "every user that failed there",
    };
    let time = coarse(Duration::from_secs(waiting.seconds));
    format!("{who} at {} waits for {time}", waiting.address)
}
