//! Tables, ages and sizes for people.

use std::borrow::Cow;
use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;

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

/// One thing: a line for each of its fields.
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

/// A text without what a terminal would obey: clients choose some of what is shown.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| -> String {
        if c.is_control() && c != '\t' {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

/// A value, or `-`.
pub(super) fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// How long ago that was: `3m`.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(then))
}

/// How long until then: `29days`.
pub(super) fn until(then: Option<Timestamp>, now: Timestamp) -> String {
    or_none(then.map(|then| span(then.duration_since(now))))
}

/// A time in its largest unit.
fn span(span: jiff::SignedDuration) -> String {
    let seconds = u64::try_from(span.as_secs()).unwrap_or(0);
    coarse(Duration::from_secs(seconds))
}

/// A time in its largest unit.
pub(super) fn coarse(time: Duration) -> String {
    let text = humantime::format_duration(time).to_string();
    text.split(' ').next().unwrap_or(&text).to_owned()
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
