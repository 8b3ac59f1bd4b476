//! `multidb instance diff`: two instances side by side.

use std::time::Duration;

use clap::Args;
use multidb_store::InstanceName;

use crate::admin::api::{DEFAULT_COUNT_SECONDS, DiffBody};
use crate::admin::client::{AdminClient, AdminError};
use crate::cli::output::printable;
use crate::cli::table::{Align, count, table, terminal_width};
use crate::control::model::{DiffView, ObjectDiff, SideView, TableRows};

/// The width where nothing tells that of the terminal, and the least that is used.
const WIDTH: usize = 100;
const WIDTH_MIN: usize = 40;
/// Statements of more lines than this, multiplied, are not compared by line.
const CELLS_MAX: usize = 1 << 20;
const BETWEEN: &str = " | ";

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// Name of the instance
    a: InstanceName,
    /// Instance that it is compared with [default: what it was cloned from]
    b: Option<InstanceName>,
    /// Time in which the rows of each are counted; the other tables are estimated
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

pub(super) async fn diff(client: &AdminClient, args: &DiffArgs) -> Result<DiffView, AdminError> {
    let body = DiffBody {
        with: args.b.as_ref().map(ToString::to_string),
        count_seconds: Some(
            args.timeout
                .map_or(DEFAULT_COUNT_SECONDS, |time| time.as_secs()),
        ),
    };
    let path = format!("/v1/instances/{}/diff", args.a);
    client.post(&path, &body).await
}

/// The width of the terminal.
pub(super) fn width() -> usize {
    terminal_width().unwrap_or(WIDTH).max(WIDTH_MIN)
}

/// Both side by side, in so many columns.
pub(super) fn text(diff: &DiffView, width: usize) -> String {
    let mut text = side_by_side(&side(&diff.a), &side(&diff.b), width);
    text.push_str("\nMIGRATIONS\n");
    let migrations = &diff.migrations;
    for name in &migrations.only_a {
        text.push_str(&side_by_side(name, "", width));
    }
    for name in &migrations.only_b {
        text.push_str(&side_by_side("", name, width));
    }
    if migrations.only_a.is_empty() && migrations.only_b.is_empty() {
        text.push_str("the same\n");
    }
    text.push_str("\nSCHEMA\n");
    for object in &diff.schema {
        text.push_str(&printable(&object.object));
        text.push('\n');
        for (a, b) in lines(object) {
            text.push_str(&side_by_side(&format!("  {a}"), &b, width));
        }
    }
    if diff.schema.is_empty() {
        text.push_str("the same\n");
    }
    text.push_str("\nROWS\n");
    let differs = |table: &&TableRows| table.rows_a != table.rows_b;
    let rows = diff.tables.iter().filter(differs).map(|table| {
        let (a, b) = (
            number(table.rows_a, table.estimated_a),
            number(table.rows_b, table.estimated_b),
        );
        [table.name.clone(), a, b]
    });
    let rows: Vec<[String; 3]> = rows.collect();
    let same = diff.tables.len() - rows.len();
    if !rows.is_empty() {
        let columns = [
            ("TABLE", Align::Left),
            ("A", Align::Right),
            ("B", Align::Right),
        ];
        text.push_str(&table(columns, rows));
    }
    text.push_str(&format!(
        "{} with the same number of rows\n",
        count(same, "table")
    ));
    if diff
        .tables
        .iter()
        .any(|table| table.estimated_a || table.estimated_b)
    {
        text.push_str("~ is an estimate; a longer --timeout counts more\n");
    }
    text
}

fn side(side: &SideView) -> String {
    match side.kind.as_str() {
        "base" => format!("the state that {} began with", side.name),
        kind => format!("{kind} {}", side.name),
    }
}

fn number(rows: Option<u64>, estimated: bool) -> String {
    match (rows, estimated) {
        (None, true) => "~".to_owned(),
        (None, false) => "-".to_owned(),
        (Some(rows), true) => format!("~{rows}"),
        (Some(rows), false) => rows.to_string(),
    }
}

/// The lines of an object's statements that differ, beside each other.
fn lines(object: &ObjectDiff) -> Vec<(String, String)> {
    let split = |text: &Option<String>| -> Vec<String> {
        let lines = text.iter().flat_map(|text| text.lines());
        lines.map(str::to_owned).collect()
    };
    let (a, b) = (split(&object.a), split(&object.b));
    let (only_a, only_b) = match a.len() * b.len() <= CELLS_MAX {
        true => unequal(&a, &b),
        false => (vec![true; a.len()], vec![true; b.len()]),
    };
    let mut pairs = Vec::new();
    let (mut a, mut b) = (
        a.into_iter().zip(only_a).peekable(),
        b.into_iter().zip(only_b).peekable(),
    );
    loop {
        let left = a.next_if(|(_, only)| *only).map(|(line, _)| line);
        let right = b.next_if(|(_, only)| *only).map(|(line, _)| line);
        if left.is_some() || right.is_some() {
            pairs.push((left.unwrap_or_default(), right.unwrap_or_default()));
            continue;
        }
        // A line that both have.
        if a.next().is_none() | b.next().is_none() {
            return pairs;
        }
    }
}

/// Which lines of each are not in a longest common sequence.
fn unequal(a: &[String], b: &[String]) -> (Vec<bool>, Vec<bool>) {
    let mut length = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for (i, left) in a.iter().enumerate().rev() {
        for (j, right) in b.iter().enumerate().rev() {
            length[i][j] = match left == right {
                true => length[i + 1][j + 1] + 1,
                false => length[i + 1][j].max(length[i][j + 1]),
            };
        }
    }
    let (mut only_a, mut only_b) = (vec![true; a.len()], vec![true; b.len()]);
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            (only_a[i], only_b[j]) = (false, false);
            (i, j) = (i + 1, j + 1);
        } else if length[i + 1][j] >= length[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    (only_a, only_b)
}

/// Two texts in one line of this width, each cut to its half.
fn side_by_side(a: &str, b: &str, width: usize) -> String {
    let half = (width - BETWEEN.len()) / 2;
    let cut = |text: &str| -> String {
        let text = printable(&text.replace('\t', "    ")).into_owned();
        match text.chars().count() > half {
            true => text.chars().take(half - 1).chain(['…']).collect(),
            false => text,
        }
    };
    let line = format!("{:half$}{BETWEEN}{}", cut(a), cut(b));
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::MigrationsDiff;

    fn view() -> DiffView {
        let side = |kind: &str, name: &str| SideView {
            kind: kind.to_owned(),
            name: name.to_owned(),
            database: "app".to_owned(),
            postgres_major: 15,
        };
        let rows = |name: &str, rows_a, rows_b, estimated_a| TableRows {
            name: name.to_owned(),
            rows_a,
            rows_b,
            estimated_a,
            estimated_b: false,
        };
        DiffView {
            a: side("instance", "feature"),
            b: side("snapshot", "monday"),
            migrations: MigrationsDiff {
                only_a: vec!["polls.0002_votes".to_owned()],
                only_b: vec![],
            },
            schema: vec![
                ObjectDiff {
                    object: "TABLE public.polls".to_owned(),
                    a: Some("CREATE TABLE polls (\n  id int,\n  votes bigint not null default 0,\n  t text\n);".to_owned()),
                    b: Some("CREATE TABLE polls (\n  id int,\n  votes int,\n  t text\n);".to_owned()),
                },
                ObjectDiff {
                    object: "INDEX public.\u{1b}x".to_owned(),
                    a: None,
                    b: Some("CREATE INDEX x;".to_owned()),
                },
            ],
            tables: vec![
                rows("public.big", Some(1_000_000), Some(999), true),
                rows("public.new", Some(3), None, false),
                rows("public.polls", Some(7), Some(7), false),
            ],
        }
    }

    #[test]
    fn differences_stand_side_by_side() {
        let shown = text(&view(), 60);
        let expected = "\
instance feature             | snapshot monday

MIGRATIONS
polls.0002_votes             |

SCHEMA
TABLE public.polls
    votes bigint not null d… |   votes int,
INDEX public.\\u{1b}x
                             | CREATE INDEX x;

ROWS
TABLE              A    B
public.big  ~1000000  999
public.new         3    -
1 table with the same number of rows
~ is an estimate; a longer --timeout counts more
";
        assert_eq!(shown, expected);
        assert!(shown.lines().all(|line| line.chars().count() <= 60));
    }
}
