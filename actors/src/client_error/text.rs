//! How numbers, durations and lists stand in messages.

use std::fmt::Display;
use std::time::Duration;

/// The most items of a list that a message shows.
pub(super) const LIST_LENGTH_MAX: usize = 10;

/// A duration as the configuration writes it: `30s`, `15m`.
pub(super) fn duration(duration: Duration) -> String {
    let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    humantime::format_duration(whole).to_string()
}

/// Bytes with a unit that a person reads: `4.6 GiB`.
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

/// Items separated by commas, the first few of them.
pub(super) fn list<T: Display>(items: &[T]) -> String {
    let shown: Vec<String> = items
        .iter()
        .take(LIST_LENGTH_MAX)
        .map(ToString::to_string)
        .collect();
    let more = items.len() - shown.len();
    let list = shown.join(", ");
    if more == 0 {
        list
    } else {
        format!("{list} and {more} more")
    }
}

/// Makes a sentence of a phrase.
pub(super) fn sentence(phrase: &str) -> String {
    let phrase = phrase.trim_end_matches('.');
    let mut characters = phrase.chars();
    match characters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str()),
        None => String::new(),
    }
}
