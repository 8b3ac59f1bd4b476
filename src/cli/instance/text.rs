//! Instances as text: a table, one of them, the result of a command.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use multidb_actors::instance::lifecycle::StateName;
use multidb_store::InstanceName;

use crate::cli::output::printable;
use crate::cli::table::{Align, ago, count, fields, fitted, moment, or_none, size, until};
use crate::control::model::{HappeningView, InstanceView, LogsView};
use crate::git::is_full_id;

/// The columns that a narrow terminal lacks first.
const SPARE: [&str; 6] = [
    "PROJECT",
    "USER",
    "CREATED",
    "EXCLUSIVE",
    "GITREF",
    "CONNECTIONS",
];
/// The characters of a commit that a narrow terminal has.
const SHORT_COMMIT: usize = 12;
/// The happenings that are shown of an instance; its JSON has all that are kept.
const HISTORY_LINES: usize = 10;

/// The number of sessions that a command ended, as an addition to its result.
pub(super) fn ended(sessions: Option<usize>) -> String {
    match sessions {
        None | Some(0) => String::new(),
        Some(number) => format!(", {} ended", count(number, "session")),
    }
}

/// The result of a reset.
pub(super) fn reset(instance: &InstanceView) -> String {
    let source = match (&instance.parent, instance.resets_to.as_deref()) {
        (Some(parent), Some("base")) => format!("instance {parent} as that was at its creation"),
        _ => format!("snapshot {}", instance.snapshot),
    };
    format!(
        "instance {} is a fresh clone of {source} and {}{}",
        instance.name,
        instance.state,
        ended(instance.sessions_ended)
    )
}

/// The result of a creation.
pub(super) fn created(instance: &InstanceView) -> String {
    let source = match &instance.parent {
        Some(parent) => format!("instance {parent}"),
        None => format!("snapshot {}", instance.snapshot),
    };
    format!(
        "instance {} is {}, a clone of {source}",
        instance.name, instance.state
    )
}

/// The result of a start or stop.
pub(super) fn changed(instance: &InstanceView) -> String {
    format!(
        "instance {} is {}{}",
        instance.name,
        instance.state,
        ended(instance.sessions_ended)
    )
}

/// The result of a recovery.
pub(super) fn recovered(instance: &InstanceView) -> String {
    format!(
        "instance {} is {}, with its data of clone {}",
        instance.name, instance.state, instance.uid
    )
}

/// The result of a rename.
pub(super) fn renamed(old: &InstanceName, instance: &InstanceView) -> String {
    format!("{old} is now {} and is {}", instance.name, instance.state)
}

/// The lines of a log.
pub(super) fn logs(logs: &LogsView) -> String {
    let lines = logs.lines.iter().map(|line| printable(line));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The result of a pin or its removal.
pub(super) fn pinned(instance: &InstanceView) -> String {
    let name = &instance.name;
    match (instance.pinned, instance.pinned_until) {
        (true, None) => format!("instance {name} is pinned permanently"),
        (true, Some(until)) => format!("instance {name} is pinned until {}", moment(until)),
        (false, _) => {
            let expires = instance.expires_at.map(moment);
            format!(
                "instance {name} is not pinned and expires at {}",
                or_none(expires)
            )
        }
    }
}

/// A table for a terminal of this width, if there is one.
pub(in crate::cli) fn list(
    instances: &[InstanceView],
    now: Timestamp,
    width: Option<usize>,
) -> String {
    let columns = [
        ("NAME", Align::Left),
        ("PROJECT", Align::Left),
        ("STATE", Align::Left),
        ("SNAPSHOT", Align::Left),
        ("GITREF", Align::Left),
        ("USER", Align::Left),
        ("CONNECTIONS", Align::Right),
        ("CREATED", Align::Right),
        ("USED", Align::Right),
        ("EXPIRES", Align::Right),
        ("EXCLUSIVE", Align::Right),
    ];
    let tree = tree(instances);
    let rows = tree.into_iter().map(|(depth, instance)| {
        let branch = if depth > 0 { "└ " } else { "" };
        [
            format!(
                "{}{branch}{}",
                "  ".repeat(depth.saturating_sub(1)),
                instance.name
            ),
            instance.project.clone(),
            state(instance),
            instance.snapshot.clone(),
            or_none(
                instance
                    .gitref
                    .as_deref()
                    .map(|gitref| short(gitref, width)),
            ),
            instance.created_by.clone(),
            instance.connections.to_string(),
            ago(instance.created_at, now),
            ago(instance.last_used_at, now),
            expiry(instance, now),
            or_none(instance.exclusive_bytes.map(size)),
        ]
    });
    let failures = instances.iter().filter_map(failure);
    fitted(columns, rows, &SPARE, width)
        + &going_soon(instances, now)
        + &failures.collect::<String>()
}

/// A commit in the length by which people name it, where the width is limited.
fn short(gitref: &str, width: Option<usize>) -> &str {
    match width {
        Some(_) if is_full_id(gitref) => gitref.get(..SHORT_COMMIT).unwrap_or(gitref),
        _ => gitref,
    }
}

/// A warning about the instances that go within a day.
fn going_soon(instances: &[InstanceView], now: Timestamp) -> String {
    let soon = |what: &str| {
        format!("\n{what} within a day; a connection or \"multidb instance pin NAME\" keeps one.\n")
    };
    let going = instances.iter().filter(|instance| goes_soon(instance, now));
    match going.count() {
        0 => String::new(),
        1 => soon("1 instance expires"),
        number => soon(&format!("{number} instances expire")),
    }
}

fn goes_soon(instance: &InstanceView, now: Timestamp) -> bool {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    let expires_at = instance.expires_at;
    expires_at.is_some_and(|at| at.duration_since(now) <= DAY)
}

/// The instances with their depth, each one behind its parent where that is among them.
fn tree(instances: &[InstanceView]) -> Vec<(usize, &InstanceView)> {
    let names: HashSet<&str> = instances.iter().map(|one| one.name.as_str()).collect();
    let mut children: HashMap<Option<&str>, Vec<&InstanceView>> = HashMap::new();
    for instance in instances {
        let parent = instance.parent.as_deref();
        let parent = parent.filter(|name| names.contains(name));
        children.entry(parent).or_default().push(instance);
    }
    let mut rows = Vec::with_capacity(instances.len());
    let mut next: Vec<(usize, &InstanceView)> = Vec::new();
    let mut push = |next: &mut Vec<_>, depth, parent| {
        let children = children.remove(&parent).unwrap_or_default();
        next.extend(children.into_iter().rev().map(|child| (depth, child)));
    };
    push(&mut next, 0, None);
    while let Some((depth, instance)) = next.pop() {
        rows.push((depth, instance));
        push(&mut next, depth + 1, Some(instance.name.as_str()));
    }
    // A name may have been given again, to a descendant of its present child.
    rows.extend(children.into_values().flatten().map(|one| (0, one)));
    rows
}

/// Why an instance has failed or may not start, and what to do about that.
fn failure(instance: &InstanceView) -> Option<String> {
    let state = if instance.state == StateName::Failed.as_str() {
        "has failed"
    } else if instance.state == StateName::Stopped.as_str() {
        "is stopped"
    } else {
        return None;
    };
    let failure = printable(instance.failure.as_deref()?);
    let mut text = format!("\n{} {state}: {failure}\n", instance.name);
    if let Some(hint) = &instance.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    Some(text)
}

/// The state, and what it waits for.
fn state(instance: &InstanceView) -> String {
    match &instance.waiting_for {
        Some(what) => format!("{} (waits for a {what})", instance.state),
        None => instance.state.clone(),
    }
}

pub(in crate::cli) fn expiry(instance: &InstanceView, now: Timestamp) -> String {
    match instance.expires_at {
        None if instance.pinned => "pinned".to_owned(),
        _ if instance.pinned => format!("pinned for {}", until(instance.pinned_until, now)),
        expires_at if instance.marked_at.is_some() => format!("{}, marked", until(expires_at, now)),
        expires_at if goes_soon(instance, now) => format!("{}, soon", until(expires_at, now)),
        expires_at => until(expires_at, now),
    }
}

pub(in crate::cli) fn one(instance: &InstanceView, now: Timestamp) -> String {
    let when = |at: Timestamp| format!("{} ({} ago)", moment(at), ago(at, now));
    let pinned = match (instance.pinned, instance.pinned_until) {
        (false, _) => "no".to_owned(),
        (true, None) => "permanently".to_owned(),
        (true, Some(until)) => format!("until {}", moment(until)),
    };
    // A pin ends at another time, which is shown.
    let expires_at = instance.expires_at.filter(|_| !instance.pinned);
    let expires = expires_at.map(|at| format!("{} (in {})", moment(at), until(Some(at), now)));
    let failure = instance.failure.as_ref().or(instance.login_fault.as_ref());
    let awake = instance.awake_because.as_ref();
    let awake = awake.filter(|because| !because.is_empty());
    let awake = awake.map(|because| because.join(", "));
    let mut text = fields([
        ("name", instance.name.clone()),
        ("project", instance.project.clone()),
        ("state", state(instance)),
        ("failure", or_none(failure)),
        ("hint", or_none(instance.hint.as_ref())),
        ("snapshot", instance.snapshot.clone()),
        ("parent", or_none(instance.parent.as_ref())),
        ("resets to", or_none(instance.resets_to.as_ref())),
        ("class", instance.class.to_string()),
        ("gitref", or_none(instance.gitref.as_ref())),
        ("commit", or_none(instance.commit.as_ref())),
        ("created", when(instance.created_at)),
        ("created by", instance.created_by.clone()),
        ("last used", when(instance.last_used_at)),
        ("expires", or_none(expires)),
        ("marked", or_none(instance.marked_at.map(when))),
        ("pinned", pinned),
        ("connections", instance.connections.to_string()),
        ("awake because", or_none(awake)),
        ("postgres", instance.postgres_major.to_string()),
        ("runtime", instance.runtime.clone()),
        ("exclusive", or_none(instance.exclusive_bytes.map(size))),
        ("data", instance.data_dir.display().to_string()),
        ("uid", instance.uid.clone()),
        ("epoch", instance.epoch.to_string()),
    ]);
    text.push_str(&history(instance, now));
    text
}

/// The last that has happened to an instance.
fn history(instance: &InstanceView, now: Timestamp) -> String {
    let all = instance.history.as_deref().unwrap_or_default();
    let last = all.iter().skip(all.len().saturating_sub(HISTORY_LINES));
    let line = |one: &HappeningView| {
        let (at, ago) = (moment(one.at), ago(one.at, now));
        format!("  {at} ({ago} ago)  {}\n", printable(&one.text))
    };
    let lines: String = last.map(line).collect();
    match lines.is_empty() {
        true => lines,
        false => format!("history:\n{lines}"),
    }
}
