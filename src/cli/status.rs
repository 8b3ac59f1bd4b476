//! `multidb status`: the daemon's status.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::Invocation;
use super::table::{ago, coarse, fields, moment, or_none, size};
use crate::control::model::{NotifyView, PrewarmedView, RefreshView, StatusView};
use crate::doctor::daemon::waits;
use crate::doctor::pressure::room;

pub(super) async fn run(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let status: StatusView = invocation.client()?.get("/v1/status").await?;
    let now = Timestamp::now();
    invocation
        .output
        .show(&status, |status| text(status, now))?;
    Ok(ExitCode::SUCCESS)
}

fn disk(status: &StatusView) -> String {
    let free = size(status.disk_free_bytes);
    match status.disk_fault {
        None => free,
        Some(fault) => format!("{free}, but {fault}, so no record can be written"),
    }
}

/// How full the disk is, against its mark.
fn disk_used(status: &StatusView) -> String {
    let used = format!("{}%", status.disk_used_percent);
    let Some(mark) = status.disk_high_water else {
        return used;
    };
    match &status.disk_pressure {
        Some(pressure) if pressure.bytes_above > 0 => {
            format!("{used}, above its mark of {mark}%: {}", room(pressure))
        }
        Some(_) | None => format!("{used}, room is made above {mark}%"),
    }
}

/// How full the memory is, against its mark.
fn memory_used(status: &StatusView) -> String {
    let Some(used) = status.memory_used_percent else {
        return "unknown".to_owned();
    };
    match status.memory_high_water {
        None => format!("{used}%"),
        Some(mark) if used > mark => {
            format!("{used}%, above its mark of {mark}%: no instance starts")
        }
        Some(mark) => format!("{used}%, no instance starts above {mark}%"),
    }
}

/// The instances that may not take more of the disk.
fn over_limit(status: &StatusView) -> Option<String> {
    (!status.over_limit.is_empty()).then(|| status.over_limit.join(", "))
}

fn expiry(status: &StatusView) -> String {
    let marked = match status.marked {
        0 => "none marked".to_owned(),
        marked => format!("{marked} marked"),
    };
    match status.expiry_paused_seconds {
        None => marked,
        Some(seconds) => {
            let time = coarse(Duration::from_secs(seconds));
            format!("{marked}, paused for {time} since the wall clock jumped")
        }
    }
}

fn failed_logins(status: &StatusView) -> String {
    match status.waiting_logins.as_slice() {
        [] => "nobody waits".to_owned(),
        waiting => waiting.iter().map(waits).collect::<Vec<_>>().join("; "),
    }
}

fn refreshes(status: &StatusView, now: Timestamp) -> String {
    let all = status.refresh.iter();
    let all: Vec<String> = all
        .map(|(project, refresh)| format!("{project} {}", refresh_text(refresh, now)))
        .collect();
    match all.is_empty() {
        true => "none configured".to_owned(),
        false => all.join("; "),
    }
}

fn refresh_text(refresh: &RefreshView, now: Timestamp) -> String {
    let last = match (&refresh.last_error, refresh.last_success_at) {
        (Some(_), _) => "failed".to_owned(),
        (None, Some(at)) => format!("{} ago", ago(at, now)),
        (None, None) => "not yet".to_owned(),
    };
    match refresh.next_at {
        Some(at) => format!("{last}, next {}", moment(at)),
        None => format!("{last}, by command"),
    }
}

/// The clones that are kept ready.
fn prewarmed(status: &StatusView) -> String {
    let text = |(project, clones): (&String, &PrewarmedView)| {
        let of = clones.snapshot.as_ref();
        let of = of.map_or(String::new(), |snapshot| format!(" of {snapshot}"));
        let PrewarmedView {
            wanted,
            ready,
            exclusive_bytes,
            ..
        } = clones;
        format!(
            "{project} {ready} of {wanted} clones{of}, {} their own",
            size(*exclusive_bytes)
        )
    };
    match status.prewarmed.is_empty() {
        true => "none configured".to_owned(),
        false => status
            .prewarmed
            .iter()
            .map(text)
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// The targets of notifications, and what became of the messages.
fn notifications(status: &StatusView) -> String {
    let text = |one: &NotifyView| {
        let mut text = format!("{} took {}", one.target, one.sent);
        for (count, what) in [
            (one.queued as u64, "wait"),
            (one.failed + one.dropped, "lost"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    };
    match status.notify.is_empty() {
        true => "none configured".to_owned(),
        false => status
            .notify
            .iter()
            .map(text)
            .collect::<Vec<_>>()
            .join("; "),
    }
}

pub(super) fn text(status: &StatusView, now: Timestamp) -> String {
    let total: usize = status.instances.values().sum();
    let by_state = status.instances.iter();
    let by_state: Vec<_> = by_state
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let instances = if by_state.is_empty() {
        total.to_string()
    } else {
        format!("{total} ({})", by_state.join(", "))
    };
    fields([
        ("version", status.version.clone()),
        (
            "process",
            format!("{}, up {}", status.pid, ago(status.started_at, now)),
        ),
        ("listens on", status.listen.join(", ")),
        ("root", status.root.display().to_string()),
        ("runtime", status.runtime.clone()),
        ("clone method", status.clone_method.clone()),
        ("disk free", disk(status)),
        ("disk used", disk_used(status)),
        ("over a limit", or_none(over_limit(status))),
        ("exclusive", or_none(status.exclusive_bytes.map(size))),
        ("disk saved", or_none(status.disk_saved_bytes.map(size))),
        ("memory used", memory_used(status)),
        ("snapshots", status.snapshots.to_string()),
        ("jobs running", status.jobs.to_string()),
        ("instances", instances),
        ("expiry", expiry(status)),
        ("connections", status.connections.to_string()),
        ("failed logins", failed_logins(status)),
        ("refreshes", refreshes(status, now)),
        ("prewarmed", prewarmed(status)),
        ("notifications", notifications(status)),
    ])
}
