//! The columns of each list: the narrower the terminal, the fewer.

use std::time::Duration;

use jiff::Timestamp;
use ratatui::layout::Constraint;

use super::state::{App, Order, Tab};
use crate::cli::instance::text::expiry;
use crate::cli::job;
use crate::cli::output::printable;
use crate::cli::table::{ago, coarse, or_none, size};
use crate::control::model::{ConnectionView, InstanceView, JobView};

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) width: Constraint,
    /// The narrowest terminal that has room for it beside those that are more important.
    from_width: u16,
    /// The order that it shows.
    pub(super) order: Option<Order>,
}

impl Column {
    const fn new(name: &'static str, width: Constraint) -> Self {
        Self {
            name,
            width,
            from_width: 0,
            order: None,
        }
    }

    const fn of_order(self, order: Order) -> Self {
        Self {
            order: Some(order),
            ..self
        }
    }

    const fn from(self, from_width: u16) -> Self {
        Self { from_width, ..self }
    }
}

const INSTANCES: [Column; 9] = [
    Column::new("NAME", Constraint::Fill(3)).of_order(Order::Name),
    Column::new("STATE", Constraint::Length(11))
        .of_order(Order::State)
        .from(24),
    Column::new("SNAPSHOT", Constraint::Fill(2)).from(66),
    Column::new("SESSIONS", Constraint::Length(9))
        .of_order(Order::Sessions)
        .from(40),
    Column::new("USED", Constraint::Length(11))
        .of_order(Order::LastUsed)
        .from(54),
    Column::new("OWN BYTES", Constraint::Length(10))
        .of_order(Order::Bytes)
        .from(78),
    Column::new("EXPIRES", Constraint::Length(18)).from(120),
    Column::new("REVISION", Constraint::Fill(2)).from(120),
    Column::new("USER", Constraint::Fill(1)).from(120),
];

const JOBS: [Column; 8] = [
    Column::new("ID", Constraint::Length(5)),
    Column::new("KIND", Constraint::Length(8)).from(24),
    Column::new("PROJECT", Constraint::Fill(1)).from(120),
    Column::new("SNAPSHOT", Constraint::Fill(2)).from(66),
    Column::new("STATE", Constraint::Length(9)),
    Column::new("TOOK", Constraint::Length(10)).from(54),
    Column::new("PROGRESS", Constraint::Length(16)).from(42),
    Column::new("STEP", Constraint::Fill(3)).from(78),
];

const CONNECTIONS: [Column; 9] = [
    Column::new("ID", Constraint::Length(6)).from(24),
    Column::new("INSTANCE", Constraint::Fill(3)),
    Column::new("USER", Constraint::Fill(1)).from(40),
    Column::new("PEER", Constraint::Fill(2)).from(70),
    Column::new("STATE", Constraint::Length(19)).from(60),
    Column::new("IDLE", Constraint::Length(10)).from(78),
    Column::new("AGE", Constraint::Length(10)).from(120),
    Column::new("APPLICATION", Constraint::Fill(2)).from(120),
    Column::new("TLS", Constraint::Length(8)).from(120),
];

/// The columns of a list and its rows, for a terminal of this width. No cell has what a terminal would obey.
pub(super) fn of(app: &App, width: u16, now: Timestamp) -> (Vec<Column>, Vec<Vec<String>>) {
    let (columns, rows): (&[Column], Vec<Vec<String>>) = match app.tab {
        Tab::Instances => {
            let rows = app.instances().into_iter();
            (&INSTANCES, rows.map(|one| instance(one, now)).collect())
        }
        Tab::Jobs => {
            let rows = app.jobs().into_iter();
            (&JOBS, rows.map(|one| job_cells(one, now)).collect())
        }
        Tab::Connections => {
            let rows = app.connections().into_iter();
            (&CONNECTIONS, rows.map(|one| connection(one, now)).collect())
        }
    };
    let is_shown = |column: &Column| width >= column.from_width;
    let rows = rows.into_iter().map(|row| {
        let cells = row.into_iter().zip(columns);
        let shown = cells.filter(|(_, column)| is_shown(column));
        shown
            .map(|(cell, _)| printable(&cell).into_owned())
            .collect()
    });
    let rows = rows.collect();
    let columns = columns.iter().copied().filter(is_shown);
    (columns.collect(), rows)
}

fn instance(one: &InstanceView, now: Timestamp) -> Vec<String> {
    vec![
        one.name.clone(),
        // There is one thing to wait for, and the narrow column has no room for its name.
        match one.waiting_for {
            Some(_) => "waiting".to_owned(),
            None => one.state.clone(),
        },
        one.snapshot.clone(),
        one.connections.to_string(),
        ago(one.last_used_at, now),
        or_none(one.exclusive_bytes.map(size)),
        expiry(one, now),
        or_none(one.gitref.as_ref()),
        one.created_by.clone(),
    ]
}

fn job_cells(one: &JobView, now: Timestamp) -> Vec<String> {
    let error = one.error.as_ref().map(|error| error.message.clone());
    vec![
        one.id.to_string(),
        one.kind.clone(),
        one.project.clone(),
        or_none(one.snapshot.as_ref()),
        one.state.clone(),
        job::took(one, now),
        bar(one),
        error.unwrap_or_else(|| job::step(one)),
    ]
}

/// How far the current step is: `[######    ] 60%`.
pub(super) fn bar(job: &JobView) -> String {
    const LENGTH: u64 = 10;
    match (job.is_ended(), job.bytes_done, job.bytes_total) {
        (true, ..) | (false, 0, None) => String::new(),
        (false, done, Some(total)) if total > 0 => {
            let part = |whole: u64| {
                let part = u128::from(done.min(total)) * u128::from(whole) / u128::from(total);
                usize::try_from(part).unwrap_or_default()
            };
            format!("[{:<10}] {:>2}%", "#".repeat(part(LENGTH)), part(100))
        }
        (false, done, _) => size(done),
    }
}

fn connection(one: &ConnectionView, now: Timestamp) -> Vec<String> {
    let console = || "(console)".to_owned();
    vec![
        one.id.to_string(),
        one.instance.clone().unwrap_or_else(console),
        one.user.clone(),
        one.peer.clone(),
        one.state.clone(),
        coarse(Duration::from_secs(one.idle_seconds)),
        ago(one.connected_at, now),
        one.application_name.clone(),
        or_none(one.tls.as_ref()),
    ]
}
