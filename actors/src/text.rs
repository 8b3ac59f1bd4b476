//! Durations, sizes, quotations and lists in messages.

use std::fmt::Display;
use std::time::Duration;

/// The most items of a list that a message shows.
const LIST_LENGTH_MAX: usize = 10;
/// The longest quotation of a client's text, in characters.
const QUOTED_LENGTH_MAX: usize = 100;

/// A duration in words: `30 seconds`, `1 hour 30 minutes`, `1 second 500 ms`.
pub(crate) fn duration(duration: Duration) -> String {
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

/// A duration by its largest unit: `2 hours`, `less than a second`.
pub(crate) fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    let unit = [86_400, 3_600, 60, 1]
        .into_iter()
        .find(|unit| seconds >= *unit);
    match unit {
        Some(unit) => duration(Duration::from_secs(seconds - seconds % unit)),
        None => "less than a second".to_owned(),
    }
}

/// A size in its largest binary unit: `4.6 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
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

/// A size that is not smaller than so many bytes: `6.7 GiB` for 6.65.
pub(crate) fn bytes_at_least(least: u64) -> String {
    let unit = 1_u64 << (least.max(1).ilog2() / 10 * 10).min(40);
    bytes(least.saturating_add(unit.div_ceil(10) - 1))
}

/// The free space of a disk against its reserve: `only 2.9 GiB left above the 5 GiB reserve`.
pub(crate) fn disk_space(free_bytes: u64, reserve_bytes: u64) -> String {
    let (free, reserve) = (bytes(free_bytes), bytes(reserve_bytes));
    match free_bytes.checked_sub(reserve_bytes) {
        Some(_) if reserve_bytes == 0 => format!("only {free} left"),
        Some(left) => format!("only {} left above the {reserve} reserve", bytes(left)),
        None => format!("only {free} left, less than the {reserve} reserve"),
    }
}

/// Items separated by commas, up to [`LIST_LENGTH_MAX`] of them.
pub(crate) fn list<T: Display>(items: &[T]) -> String {
    list_of(items, items.len())
}

/// The first of `total` items, as [`list`].
pub(crate) fn list_of<T: Display>(items: &[T], total: usize) -> String {
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
pub(crate) fn sentence(phrase: &str) -> String {
    let phrase = phrase.trim_end_matches('.');
    let mut characters = phrase.chars();
    match characters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str()),
        None => String::new(),
    }
}

/// A client's text for a message: in quotes, on one line, shortened if it is long.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut rest = text.chars();
    for character in rest.by_ref().take(QUOTED_LENGTH_MAX) {
        if character.is_control() {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    if rest.next().is_some() {
        quoted.push('…');
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_lists_are_readable() {
        let duration = |millis| duration(Duration::from_millis(millis));
        assert_eq!(duration(0), "0 ms");
        assert_eq!(duration(1_500), "1 second 500 ms");
        assert_eq!(duration(60_000), "1 minute");
        assert_eq!(duration(5_400_000), "1 hour 30 minutes");
        assert_eq!(duration(29 * 86_400_000), "29 days");
        assert_eq!(about(Duration::from_secs(5_400)), "1 hour");
        assert_eq!(about(Duration::from_millis(900)), "less than a second");
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1024), "1 KiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5 GiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
        for (least, text) in [
            (7, "7 bytes"),
            (1024, "1 KiB"),
            (1025, "1.1 KiB"),
            (5 << 30, "5 GiB"),
            ((5 << 30) + 1, "5.1 GiB"),
            (3 << 50, "3072 TiB"),
        ] {
            assert_eq!(bytes_at_least(least), text);
        }
        assert_eq!(list(&["a", "b"]), "a, b");
        assert_eq!(list(&["x"; 11]).len(), 28 + " and 1 more".len());
        assert_eq!(sentence("it ended."), "It ended.");
        assert_eq!(disk_space(3 << 30, 0), "only 3 GiB left");
        let left = "only 1 GiB left above the 2 GiB reserve";
        assert_eq!(disk_space(3 << 30, 2 << 30), left);
        let less = "only 1 GiB left, less than the 2 GiB reserve";
        assert_eq!(disk_space(1 << 30, 2 << 30), less);
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert_eq!(quoted(&"x".repeat(101)).chars().count(), 103);
    }
}
