//! Tables, times, counts and sizes for people.

use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;

use super::output::printable;

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a header, without borders.
pub(super) fn table<const N: usize>(
    columns: [(&str, Align); N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = plain();
    table.set_header(columns.map(|(name, _)| name));
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell).into_owned()));
    }
    for (column, (_, align)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if align == Align::Right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    finish(&table)
}

/// One object: a line for each field.
pub(super) fn fields<const N: usize>(fields: [(&str, String); N]) -> String {
    let mut table = plain();
    for (name, value) in fields {
        table.add_row([format!("{name}:"), printable(&value).into_owned()]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    finish(&table)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn finish(table: &Table) -> String {
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// A value, or `-`.
pub(super) fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The time since then: `3 minutes`.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(then))
}

/// The time until then: `29 days`.
pub(super) fn until(then: Option<Timestamp>, now: Timestamp) -> String {
    or_none(then.map(|then| span(then.duration_since(now))))
}

/// A time in its largest unit; a negative one counts as zero.
fn span(span: jiff::SignedDuration) -> String {
    let seconds = u64::try_from(span.as_secs()).unwrap_or(0);
    coarse(Duration::from_secs(seconds))
}

/// A time in its largest unit.
pub(super) fn coarse(time: Duration) -> String {
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
pub(super) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A moment, to the second.
pub(super) fn moment(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

/// A size: `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
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
