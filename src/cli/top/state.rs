//! The displayed state, and the actions of the keys.

use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;
use serde::Serialize;

use crate::control::model::{ConnectionView, InstanceView, JobView, StatusView};

/// How far a page goes, in rows.
const PAGE_ROWS: u16 = 10;
/// The longest filter, in characters.
const FILTER_CHARS_MAX: usize = 60;

/// The answers of the daemon at one time.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Answers {
    pub(super) status: StatusView,
    pub(super) instances: Vec<InstanceView>,
    pub(super) jobs: Vec<JobView>,
    pub(super) connections: Vec<ConnectionView>,
    /// When they came.
    #[serde(skip)]
    pub(super) at: Timestamp,
}

/// A list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tab {
    #[default]
    Instances,
    Jobs,
    Connections,
}

impl Tab {
    pub(super) const ALL: [Self; 3] = [Self::Instances, Self::Jobs, Self::Connections];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instances => "Instances",
            Self::Jobs => "Jobs",
            Self::Connections => "Connections",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Instances => Self::Jobs,
            Self::Jobs => Self::Connections,
            Self::Connections => Self::Instances,
        }
    }
}

/// The order of the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    #[default]
    Name,
    State,
    /// Most sessions first.
    Sessions,
    /// Last used first.
    LastUsed,
    /// Most bytes first.
    Bytes,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::State,
            Self::State => Self::Sessions,
            Self::Sessions => Self::LastUsed,
            Self::LastUsed => Self::Bytes,
            Self::Bytes => Self::Name,
        }
    }
}

/// Everything that a drawing depends on.
#[derive(Debug, Default)]
pub(super) struct App {
    /// The last answers; none before the first.
    pub(super) facts: Option<Answers>,
    /// Why the daemon does not answer now.
    pub(super) failure: Option<String>,
    pub(super) tab: Tab,
    pub(super) order: Order,
    pub(super) is_reversed: bool,
    /// Rows that contain it are shown.
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) is_filtering: bool,
    /// The selected row.
    pub(super) table: TableState,
}

impl App {
    /// Takes new answers.
    pub(super) fn take(&mut self, facts: Answers) {
        self.facts = Some(facts);
        self.failure = None;
    }

    /// Notes that the daemon does not answer. The last answers stay.
    pub(super) fn lose(&mut self, error: String) {
        self.failure = Some(error);
    }

    /// The instances that the filter lets through, in their order.
    pub(super) fn instances(&self) -> Vec<&InstanceView> {
        let all = self.facts.iter().flat_map(|facts| &facts.instances);
        let mut shown: Vec<_> = all
            .filter(|one| {
                let gitref = one.gitref.as_deref().unwrap_or_default();
                let fields = [&one.name, &one.state, &one.snapshot, &one.created_by];
                self.lets_through(fields.map(String::as_str).into_iter().chain([gitref]))
            })
            .collect();
        // Stable, and the daemon lists them by name.
        match self.order {
            Order::Name => {}
            Order::State => shown.sort_by(|one, other| one.state.cmp(&other.state)),
            Order::Sessions => shown.sort_by_key(|one| std::cmp::Reverse(one.connections)),
            Order::LastUsed => shown.sort_by_key(|one| std::cmp::Reverse(one.last_used_at)),
            Order::Bytes => shown.sort_by_key(|one| std::cmp::Reverse(one.exclusive_bytes)),
        }
        if self.is_reversed {
            shown.reverse();
        }
        shown
    }

    /// The jobs that the filter lets through, the newest first.
    pub(super) fn jobs(&self) -> Vec<&JobView> {
        let all = self.facts.iter().flat_map(|facts| facts.jobs.iter().rev());
        all.filter(|one| {
            let snapshot = one.snapshot.as_deref().unwrap_or_default();
            let fields = [&one.kind, &one.project, &one.state];
            self.lets_through(fields.map(String::as_str).into_iter().chain([snapshot]))
        })
        .collect()
    }

    /// The connections that the filter lets through.
    pub(super) fn connections(&self) -> Vec<&ConnectionView> {
        let all = self.facts.iter().flat_map(|facts| &facts.connections);
        all.filter(|one| {
            let instance = one.instance.as_deref().unwrap_or_default();
            let fields = [&one.user, &one.peer, &one.application_name, &one.state];
            self.lets_through(fields.map(String::as_str).into_iter().chain([instance]))
        })
        .collect()
    }

    fn lets_through<'a>(&self, mut fields: impl Iterator<Item = &'a str>) -> bool {
        let filter = self.filter.to_lowercase();
        filter.is_empty() || fields.any(|field| field.to_lowercase().contains(&filter))
    }

    /// Takes a key. Returns true if it ends the program.
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control {
            return matches!(key.code, KeyCode::Char('c'));
        }
        if self.is_filtering {
            self.type_filter(key.code);
            return false;
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab => self.go_to(self.tab.next()),
            KeyCode::BackTab => self.go_to(self.tab.next().next()),
            KeyCode::Char('1') => self.go_to(Tab::Instances),
            KeyCode::Char('2') => self.go_to(Tab::Jobs),
            KeyCode::Char('3') => self.go_to(Tab::Connections),
            KeyCode::Down | KeyCode::Char('j') => self.table.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.table.select_previous(),
            KeyCode::PageDown => self.table.scroll_down_by(PAGE_ROWS),
            KeyCode::PageUp => self.table.scroll_up_by(PAGE_ROWS),
            KeyCode::Home => self.table.select_first(),
            KeyCode::End => self.table.select_last(),
            _ => {}
        }
        false
    }

    fn go_to(&mut self, tab: Tab) {
        self.tab = tab;
        self.table = TableState::default();
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_filtering = false,
            KeyCode::Esc => {
                self.is_filtering = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(typed) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(typed);
            }
            _ => {}
        }
        self.table = TableState::default();
    }
}
