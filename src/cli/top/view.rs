//! Draws the state.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table};

use super::rows::{self, Column};
use super::state::{Answers, App, Tab};
use crate::cli::output::printable;
use crate::cli::table::{ago, count, size};
use crate::control::model::{JobView, StatusView};
use crate::doctor::daemon::waits;
use crate::doctor::pressure::room;

/// The running jobs that are shown below the instances.
const JOBS_SHOWN: usize = 3;
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);
const KEYS: &str = " q quit  tab list  ↑↓ select  s sort  r reverse  / filter  esc all";

/// From so many rows on there is room for more than the list and what is wrong.
const TALL: u16 = 12;
/// From so many rows on the keys are shown.
const KEYS_FROM: u16 = 5;

/// Draws everything. Colours are left to the terminal, so that every theme is legible.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, now: Timestamp) {
    let height = frame.area().height;
    let mut head = head_lines(app, now);
    let mut running = running_jobs(app);
    if height < TALL {
        running.clear();
        let is_quiet = head.last().is_none_or(|line| line.width() == 0);
        let kept = if is_quiet { 0 } else { head.len() - 1 };
        head = vec![head.swap_remove(kept)];
    }
    let length = |lines: &[Line<'_>]| Constraint::Length(u16::try_from(lines.len()).unwrap_or(0));
    let [head_area, tabs, list, jobs, foot] = Layout::vertical([
        length(&head),
        Constraint::Length(1),
        Constraint::Min(0),
        length(&running),
        Constraint::Length(u16::from(height >= KEYS_FROM || app.is_filtering)),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head), head_area);
    frame.render_widget(Paragraph::new(tab_line(app)), tabs);
    draw_list(frame, app, list, now);
    frame.render_widget(Paragraph::new(running), jobs);
    frame.render_widget(Paragraph::new(foot_line(app)), foot);
}

fn head_lines(app: &App, now: Timestamp) -> Vec<Line<'static>> {
    let mut lines = match &app.facts {
        None => vec![Line::styled("multidb", BOLD), Line::raw(""), Line::raw("")],
        Some(facts) => facts_lines(facts, now),
    };
    lines.push(match (&app.failure, &app.facts) {
        (None, None) => Line::raw("asking the daemon …"),
        (None, Some(facts)) => Line::raw(warning(&facts.status)),
        (Some(error), facts) => {
            let age = facts.as_ref().map(|facts| ago(facts.at, now));
            let age = age.map_or(String::new(), |age| format!(", what is shown is {age} old"));
            Line::styled(
                format!("NOT ANSWERING{age}: {}", printable(error)),
                REVERSED,
            )
        }
    });
    lines
}

fn facts_lines(facts: &Answers, now: Timestamp) -> Vec<Line<'static>> {
    let status = &facts.status;
    let of_mark = |used: Option<u8>, mark: Option<u8>| match (used, mark) {
        (None, _) => "unknown".to_owned(),
        (Some(used), None) => format!("{used}%"),
        (Some(used), Some(mark)) => format!("{used}% of {mark}%"),
    };
    let waiting = facts.instances.iter();
    let waiting = waiting.filter(|one| one.waiting_for.is_some()).count();
    let total: usize = status.instances.values().sum();
    let states = status.instances.iter();
    let mut states: Vec<String> = states.map(|(state, n)| format!("{n} {state}")).collect();
    if status.marked > 0 {
        states.push(format!("{} marked", status.marked));
    }
    if waiting > 0 {
        states.push(format!("{waiting} waiting for room"));
    }
    let separator = if states.is_empty() { "" } else { ": " };
    let head = format!(" {}, up {}", status.version, ago(status.started_at, now));
    vec![
        Line::from(vec![
            Span::styled("multidb", BOLD),
            Span::raw(printable(&head).into_owned()),
        ]),
        Line::raw(format!(
            "{}{separator}{}; {}",
            count(total as u64, "instance"),
            printable(&states.join(", ")),
            count(status.snapshots as u64, "snapshot"),
        )),
        Line::raw(format!(
            "{}  {}  disk {}, {} free  memory {}",
            count(status.connections as u64, "connection"),
            count(status.jobs as u64, "job"),
            of_mark(Some(status.disk_used_percent), status.disk_high_water),
            size(status.disk_free_bytes),
            of_mark(status.memory_used_percent, status.memory_high_water),
        )),
    ]
}

/// The worst that the status tells; empty if all is well.
fn warning(status: &StatusView) -> String {
    if let Some(fault) = status.disk_fault {
        return format!("! {fault}, so no record can be written");
    }
    if let Some(pressure) = status
        .disk_pressure
        .as_ref()
        .filter(|one| one.bytes_above > 0)
    {
        return format!(
            "! the disk is above its mark: {}",
            printable(&room(pressure))
        );
    }
    if let (Some(used), Some(mark)) = (status.memory_used_percent, status.memory_high_water)
        && used > mark
    {
        return "! the memory is above its mark: no instance starts".to_owned();
    }
    if !status.over_limit.is_empty() {
        let names = status.over_limit.join(", ");
        return format!("! over a limit of disk space: {}", printable(&names));
    }
    let failed = status.refresh.iter();
    let failed = failed.filter(|(_, refresh)| refresh.last_error.is_some());
    let failed: Vec<&str> = failed.map(|(name, _)| name.as_str()).collect();
    if !failed.is_empty() {
        let names = failed.join(", ");
        return format!("! the last refresh failed: {}", printable(&names));
    }
    match status.waiting_logins.as_slice() {
        [] => String::new(),
        [one, others @ ..] => {
            let others = match others.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("failed logins: {}{others}", printable(&waits(one)))
        }
    }
}

fn tab_line(app: &App) -> Line<'static> {
    let tabs = (1..).zip(Tab::ALL).map(|(number, tab)| {
        let style = if tab == app.tab {
            REVERSED
        } else {
            Style::new()
        };
        let count = app.facts.as_ref().map(|facts| match tab {
            Tab::Instances => facts.instances.len(),
            Tab::Jobs => facts.jobs.len(),
            Tab::Connections => facts.connections.len(),
        });
        let count = count.map_or(String::new(), |count| format!("({count}) "));
        Span::styled(format!(" {number} {} {count}", tab.name()), style)
    });
    let mut spans: Vec<Span<'static>> = tabs.collect();
    if !app.filter.is_empty() && !app.is_filtering {
        spans.push(Span::raw(format!("  only {}", printable(&app.filter))));
    }
    Line::from(spans)
}

fn draw_list(frame: &mut Frame<'_>, app: &mut App, area: Rect, now: Timestamp) {
    let (columns, rows) = rows::of(app, area.width, now);
    if rows.is_empty() && app.facts.is_some() {
        let text = match app.filter.is_empty() {
            true => " none",
            false => " none that the filter lets through",
        };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    // A list that became shorter, or has more room, is not left scrolled beyond its end.
    let visible = usize::from(area.height.saturating_sub(1));
    let offset = app.table.offset_mut();
    *offset = (*offset).min(rows.len().saturating_sub(visible));
    let header = columns.iter().map(|column| title(app, column));
    let header = Row::new(header.collect::<Vec<_>>()).style(BOLD);
    let widths: Vec<Constraint> = columns.iter().map(|column| column.width).collect();
    let table = Table::new(rows.into_iter().map(Row::new), widths)
        .header(header)
        .row_highlight_style(REVERSED);
    frame.render_stateful_widget(table, area, &mut app.table);
}

/// The name of a column, with the direction if the list is ordered by it.
fn title(app: &App, column: &Column) -> String {
    if app.tab != Tab::Instances || column.order != Some(app.order) {
        return column.name.to_owned();
    }
    let arrow = if app.is_reversed { '▲' } else { '▼' };
    format!("{}{arrow}", column.name)
}

/// The jobs that run, below the instances.
fn running_jobs(app: &App) -> Vec<Line<'static>> {
    if app.tab != Tab::Instances {
        return Vec::new();
    }
    let all = app.facts.iter().flat_map(|facts| &facts.jobs);
    let running = all.filter(|job| job.state == "running").take(JOBS_SHOWN);
    let line = |job: &JobView| {
        let snapshot = job.snapshot.as_deref().unwrap_or(&job.project);
        let step = job.step.as_deref().unwrap_or_default();
        let bar = rows::bar(job);
        let text = format!("job {} {} {snapshot}: {step} {bar}", job.id, job.kind);
        Line::styled(printable(&text).into_owned(), BOLD)
    };
    running.map(line).collect()
}

fn foot_line(app: &App) -> Line<'static> {
    if app.is_filtering {
        let filter = printable(&app.filter).into_owned();
        return Line::raw(format!(" /{filter}▏ enter keep  esc all"));
    }
    Line::raw(KEYS)
}
