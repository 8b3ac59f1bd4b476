//! Times, counts and sizes in words, for people at a terminal.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;

/// The time since then: `3 minutes`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(then))
}

/// A time in its largest unit; a negative one counts as zero.
pub(crate) fn span(span: jiff::SignedDuration) -> String {
    let seconds = u64::try_from(span.as_secs()).unwrap_or(0);
    coarse(Duration::from_secs(seconds))
}

/// A time in its largest unit.
pub(crate) fn coarse(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [
        (365 * 86_400, "year"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let seconds = time.as_secs();
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.copied().unwrap_or((1, "second"));
    count(seconds / length, name)
}

/// A number with its noun: `1 session`, `2 sessions`.
pub(crate) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A moment, to the second.
pub(crate) fn moment(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

/// A size: `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shown_in_its_largest_unit() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "1 minute"),
            (7200, "2 hours"),
            (86_400, "1 day"),
            (29 * 86_400 + 5, "29 days"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(coarse(Duration::from_secs(seconds)), text);
        }
    }
}
