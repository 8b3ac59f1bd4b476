//! The daemon's own end when it cannot work any more: at the loss of a critical part by itself, and by systemd when
//! the Supervisor does not answer.

use std::time::Duration;

use actix::prelude::*;
use multidb_actors::supervisor::{CountInstances, Supervisor};
use sd_notify::NotifyState;

use super::notify;

/// `EX_SOFTWARE` of `sysexits.h`: a defect of the program. systemd starts it again.
const EXIT_STATUS: i32 = 70;

/// Ends the process at the loss of a critical part. It may run in any thread, while a panic unwinds.
pub(super) fn end_process(part: &'static str) {
    tracing::error!(
        part,
        "a part has ended that multidb cannot work without, and so does the daemon, report this defect; its postgres servers run on, and the next daemon takes them over"
    );
    std::process::exit(EXIT_STATUS);
}

/// Feeds systemd's watchdog, if there is one, for as long as the Supervisor answers: also while the daemon stops.
pub(super) fn start(supervisor: Addr<Supervisor>) {
    let Some(timeout) = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero()) else {
        return;
    };
    actix_rt::spawn(feed(supervisor, timeout / 2));
}

async fn feed(supervisor: Addr<Supervisor>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if supervisor.send(CountInstances).await.is_err() {
            // Its end is the end of the process.
            return;
        }
        notify(&[NotifyState::Watchdog]);
    }
}
