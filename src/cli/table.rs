//! Tables, times, counts and sizes for people.

use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;

use super::output::printable;
use crate::text::span;

pub(super) use crate::text::{ago, coarse, count, moment, size};

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// The spaces between two columns.
const BETWEEN: usize = 2;
/// A cell is not cut to fewer characters.
const CUT_TO_MIN: usize = 10;

/// Options of lists.
#[derive(Debug, Default, Clone, Copy, Args)]
pub(super) struct WidthArgs {
    /// Show everything, however wide the terminal is
    #[arg(long)]
    wide: bool,
}

impl WidthArgs {
    /// The width that a table has to fit in, if there is one.
    pub(super) fn limit(self) -> Option<usize> {
        if self.wide { None } else { terminal_width() }
    }
}

/// Rows under a header, without borders.
pub(super) fn table<const N: usize>(
    columns: [(&str, Align); N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    fitted(columns, rows, &[], None)
}

fn align(table: &mut Table, aligns: impl Iterator<Item = Align>) {
    for (column, align) in table.column_iter_mut().zip(aligns) {
        column.set_padding((0, BETWEEN as u16));
        if align == Align::Right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// As [`table`], in lines of at most `width` characters as far as possible: first the `spare` columns are left out, in
/// that order, then the longest cells that are aligned left are cut. Without a width nothing is.
pub(super) fn fitted<const N: usize>(
    columns: [(&str, Align); N],
    rows: impl IntoIterator<Item = [String; N]>,
    spare: &[&str],
    width: Option<usize>,
) -> String {
    let rows: Vec<[String; N]> = rows
        .into_iter()
        .map(|row| row.map(|cell| printable(&cell).into_owned()))
        .collect();
    let lengths = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([columns[column].0.len()]).max().unwrap_or(0)
    });
    let lengths = match width {
        Some(width) => fit(columns, lengths, spare, width),
        None => lengths,
    };
    let mut table = plain();
    let kept = || (0..N).filter(|column| lengths[*column] > 0);
    table.set_header(kept().map(|column| columns[column].0));
    for row in &rows {
        table.add_row(kept().map(|column| elided(&row[column], lengths[column])));
    }
    align(&mut table, kept().map(|column| columns[column].1));
    finish(&table)
}

/// The lengths that the columns get, 0 for one that is left out.
fn fit<const N: usize>(
    columns: [(&str, Align); N],
    lengths: [usize; N],
    spare: &[&str],
    width: usize,
) -> [usize; N] {
    let least = std::array::from_fn::<usize, N, _>(|column| match columns[column] {
        (_, Align::Right) => lengths[column],
        (name, Align::Left) => lengths[column].min(name.len().max(CUT_TO_MIN)),
    });
    let mut lengths = lengths;
    let total = |lengths: &[usize; N]| {
        let kept = lengths.iter().filter(|length| **length > 0);
        kept.map(|length| length + BETWEEN)
            .sum::<usize>()
            .saturating_sub(BETWEEN)
    };
    let is_too_wide = |lengths: &[usize; N]| {
        let cut = std::array::from_fn(|column| lengths[column].min(least[column]));
        total(&cut) > width
    };
    for name in spare {
        let column = columns.iter().position(|(column, _)| column == name);
        if let Some(column) = column.filter(|_| is_too_wide(&lengths)) {
            lengths[column] = 0;
        }
    }
    while total(&lengths) > width {
        let longest = (0..N).filter(|column| lengths[*column] > least[*column]);
        let Some(longest) = longest.max_by_key(|column| lengths[*column]) else {
            break;
        };
        lengths[longest] -= 1;
    }
    lengths
}

/// A text of at most so many characters: its begin, and an ellipsis where it is longer.
fn elided(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars()
        .take(length.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// The width of the terminal that standard output is, or that `COLUMNS` claims.
pub(super) fn terminal_width() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok();
    let columns = columns.and_then(|columns| columns.parse().ok());
    columns.or_else(|| Table::new().width().map(usize::from))
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

/// The time until then: `29 days`.
pub(super) fn until(then: Option<Timestamp>, now: Timestamp) -> String {
    or_none(then.map(|then| span(then.duration_since(now))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_fits_the_terminal_by_leaving_out_and_cutting() {
        let columns = [
            ("NAME", Align::Left),
            ("OWNER", Align::Left),
            ("SIZE", Align::Right),
            ("COMMENT", Align::Left),
        ];
        let row =
            |name: &str| [name, "staff", "12345 MiB", "a rather long comment"].map(str::to_owned);
        let text = |width| {
            fitted(
                columns,
                [row("a"), row("of-twenty-characters")],
                &["OWNER"],
                width,
            )
        };
        let longest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
        assert_eq!(
            text(None),
            table(columns, [row("a"), row("of-twenty-characters")])
        );
        let whole = text(None);
        assert!(whole.contains("OWNER") && !whole.contains('…'), "{whole}");
        for width in [33, 40, 50, 60, 200] {
            let text = text(Some(width));
            assert!(longest(&text) <= width, "{width}:\n{text}");
            assert_eq!(text.contains("OWNER"), width >= 40, "{width}:\n{text}");
            assert_eq!(text.contains('…'), width < 61, "{width}:\n{text}");
            assert!(text.contains("12345 MiB"), "{width}:\n{text}");
        }
        // It has no narrower form.
        assert!(longest(&text(Some(5))) == 33);
    }
}
