//! Durations, sizes and lists in messages.

use std::fmt::Display;
use std::time::Duration;

/// The most items of a list that a message shows.
const LIST_LENGTH_MAX: usize = 10;

/// A duration in words: `30 seconds`, `1 hour 30 minutes`, `1 second 500 ms`.
pub(super) fn duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let mut seconds = duration.as_secs();
    let mut parts = Vec::new();
    for (length, unit) in UNITS {
        let count = seconds / length;
        seconds %= length;
        match count {
            0 => {}
            1 => parts.push(format!("1 {unit}")),
            _ => parts.push(format!("{count} {unit}s")),
        }
    }
    let millis = duration.subsec_millis();
    if millis > 0 || parts.is_empty() {
        parts.push(format!("{millis} ms"));
    }
    parts.join(" ")
}

/// A size in its largest binary unit: `4.6 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut unit = UNITS[0];
    let mut tenths = u128::from(bytes) * 10 / 1024;
    for next in &UNITS[1..] {
        if tenths < 10_240 {
            break;
        }
        unit = next;
        tenths /= 1024;
    }
    if tenths.is_multiple_of(10) {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// Items separated by commas, up to [`LIST_LENGTH_MAX`] of them.
pub(super) fn list<T: Display>(items: &[T]) -> String {
    list_of(items, items.len())
}

/// The first of `total` items, as [`list`].
pub(super) fn list_of<T: Display>(items: &[T], total: usize) -> String {
    let shown: Vec<String> = items
        .iter()
        .take(LIST_LENGTH_MAX)
        .map(ToString::to_string)
        .collect();
    let list = shown.join(", ");
    match total.saturating_sub(shown.len()) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// A phrase as a sentence: capitalized, with a full stop.
pub(super) fn sentence(phrase: &str) -> String {
    let phrase = phrase.trim_end_matches('.');
    let mut characters = phrase.chars();
    match characters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str()),
        None => String::new(),
    }
}
