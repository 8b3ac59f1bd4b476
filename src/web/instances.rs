//! The instances: searched, sorted, started and stopped.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use actix_web::{HttpRequest, get, web};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::Service;
use super::guard::Visitor;
use super::layout::{Answer, Page, Section, token};
use super::text::{bytes_if_known, count, encoded, link, relative, short, when};
use crate::control::model::{InstanceFilter, InstanceView};

/// How the table is to be.
#[derive(Debug, Clone, Default, Deserialize)]
struct Query {
    /// A part of a name, a snapshot, a revision or a user.
    #[serde(default)]
    q: String,
    /// The state; empty for all.
    #[serde(default)]
    state: String,
    /// The column to sort by; that of the names without it.
    #[serde(default)]
    sort: String,
    /// Whether the order is reversed.
    #[serde(default)]
    desc: bool,
}

const STATES: [&str; 8] = [
    "running",
    "stopped",
    "starting",
    "stopping",
    "cloning",
    "failed",
    "unavailable",
    "deleting",
];

/// The columns that can be sorted by, with their class and whether the large ones come first.
const COLUMNS: [(&str, &str, &str, bool); 9] = [
    ("name", "Instance", "", false),
    ("state", "State", "", false),
    ("age", "Snapshot", "", false),
    ("gitref", "Revision", "wide", false),
    ("by", "By", "wide", false),
    ("used", "Last used", "mid", true),
    ("expires", "Expires", "wide", false),
    ("bytes", "Own bytes", "wide number", true),
    ("sessions", "Sessions", "wide number", true),
];

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(list);
}

#[get("/instances")]
async fn list(
    request: HttpRequest,
    query: web::Query<Query>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let query = query.into_inner();
    let caller = &visitor.caller;
    let all = control
        .list_instances(caller, InstanceFilter::default())
        .await?;
    let snapshots = control.list_snapshots(caller).await?.into_iter();
    let table = Table {
        total: all.len(),
        taken_at: snapshots.map(|one| (one.id, one.taken_at)).collect(),
        rows: rows(all, &query),
        query,
        visitor: &visitor,
        now: Timestamp::now(),
    };
    let page = Page {
        title: "Instances",
        section: Section::Instances,
        visitor: &visitor,
        every: Some(2),
        body: table.html(),
    };
    Ok(page.answer(&request))
}

struct Table<'a> {
    /// The number of all that the visitor may see.
    total: usize,
    /// When the data of each snapshot was taken.
    taken_at: BTreeMap<String, Timestamp>,
    rows: Vec<Row>,
    query: Query,
    visitor: &'a Visitor,
    now: Timestamp,
}

/// An instance, and how many instances it descends from in this table.
struct Row {
    instance: InstanceView,
    depth: usize,
}

/// The instances that are asked for, in the order that is asked for.
fn rows(all: Vec<InstanceView>, query: &Query) -> Vec<Row> {
    let sought = query.q.to_lowercase();
    let mut found: Vec<InstanceView> = all
        .into_iter()
        .filter(|one| query.state.is_empty() || one.state == query.state)
        .filter(|one| sought.is_empty() || has(one, &sought))
        .collect();
    match query.sort.as_str() {
        "state" => found.sort_by_key(|one| position(&one.state)),
        "age" => found.sort_by(|a, b| a.snapshot.cmp(&b.snapshot)),
        "gitref" => found.sort_by(|a, b| a.gitref.cmp(&b.gitref)),
        "by" => found.sort_by(|a, b| a.created_by.cmp(&b.created_by)),
        "used" => found.sort_by_key(|one| Reverse(one.last_used_at)),
        "expires" => found.sort_by_key(|one| (one.expires_at.is_none(), one.expires_at)),
        "bytes" => found.sort_by_key(|one| Reverse(one.exclusive_bytes)),
        "sessions" => found.sort_by_key(|one| Reverse(one.connections)),
        _ if !query.desc => return tree(found),
        _ => {}
    }
    if query.desc {
        found.reverse();
    }
    let flat = |instance| Row { instance, depth: 0 };
    found.into_iter().map(flat).collect()
}

/// Whether one of the texts of an instance has this part, in lower case.
fn has(one: &InstanceView, sought: &str) -> bool {
    let texts = [
        Some(&one.name),
        Some(&one.snapshot),
        Some(&one.created_by),
        Some(&one.project),
        one.gitref.as_ref(),
        one.commit.as_ref(),
    ];
    let mut texts = texts.into_iter().flatten();
    texts.any(|text| text.to_lowercase().contains(sought))
}

fn position(state: &str) -> usize {
    let found = STATES.iter().position(|other| *other == state);
    found.unwrap_or(STATES.len())
}

/// Each instance below the one that it was cloned from, where that is in the list, which is in the order of names.
fn tree(all: Vec<InstanceView>) -> Vec<Row> {
    let names: BTreeSet<String> = all.iter().map(|one| one.name.clone()).collect();
    let mut children: BTreeMap<Option<String>, Vec<InstanceView>> = BTreeMap::new();
    for one in all {
        let parent = one.parent.clone();
        let parent = parent.filter(|parent| names.contains(parent) && *parent != one.name);
        children.entry(parent).or_default().push(one);
    }
    let mut rows = Vec::with_capacity(names.len());
    let mut pending: Vec<Row> = Vec::new();
    let push = |pending: &mut Vec<Row>, of: Vec<InstanceView>, depth| {
        let below = of.into_iter().rev();
        pending.extend(below.map(|instance| Row { instance, depth }));
    };
    push(&mut pending, children.remove(&None).unwrap_or_default(), 0);
    loop {
        while let Some(row) = pending.pop() {
            let below = children.remove(&Some(row.instance.name.clone()));
            push(&mut pending, below.unwrap_or_default(), row.depth + 1);
            rows.push(row);
        }
        // A name that was used again could be its own ancestor.
        match children.pop_first() {
            Some((_, rest)) => push(&mut pending, rest, 0),
            None => return rows,
        }
    }
}

impl Table<'_> {
    fn html(&self) -> Markup {
        html! {
            (self.search())
            p #count role="status" {
                @if self.rows.len() == self.total {
                    (count(self.total, "instance"))
                } @else {
                    (self.rows.len()) " of " (count(self.total, "instance"))
                }
            }
            @if self.total == 0 {
                p.note {
                    "None yet. A connection to a name that does not exist creates one: "
                    code { "psql -U instance:NAME,gitref:REF" }
                }
            } @else {
                form method="post" {
                    (token(self.visitor))
                    input type="hidden" name="back" value=(self.link(&self.query.sort, self.query.desc));
                    div.scroll tabindex="0" role="region" aria-label="Instances" {
                        table.instances {
                            thead { tr {
                                @for column in COLUMNS { (self.heading(column)) }
                                th scope="col" { span.hidden { "Actions" } }
                            } }
                            tbody { @for row in &self.rows { (self.row(row)) } }
                        }
                    }
                }
            }
        }
    }

    fn search(&self) -> Markup {
        html! {
            form.search method="get" action="/instances" role="search" {
                label for="q" { "Search" }
                input #q type="search" name="q" value=(self.query.q) placeholder="name, snapshot, revision, user";
                label for="state" { "State" }
                select #state name="state" {
                    option value="" { "any" }
                    @for state in STATES {
                        option value=(state) selected[state == self.query.state] { (state) }
                    }
                }
                @if !self.query.sort.is_empty() {
                    input type="hidden" name="sort" value=(self.query.sort);
                }
                button type="submit" { "Show" }
                @if !self.query.q.is_empty() || !self.query.state.is_empty() {
                    a href="/instances" { "Show all" }
                }
            }
        }
    }

    /// The path of the same table in another order.
    fn link(&self, sort: &str, desc: bool) -> String {
        let mut parts = Vec::new();
        for (key, value) in [
            ("q", &*self.query.q),
            ("state", &*self.query.state),
            ("sort", sort),
        ] {
            if !value.is_empty() {
                parts.push(format!("{key}={}", encoded(value)));
            }
        }
        if desc {
            parts.push("desc=true".to_owned());
        }
        match parts.is_empty() {
            true => "/instances".to_owned(),
            false => format!("/instances?{}", parts.join("&")),
        }
    }

    fn heading(&self, (key, name, class, large_first): (&str, &str, &str, bool)) -> Markup {
        let is_sorted = self.query.sort == key || (self.query.sort.is_empty() && key == "name");
        let order = match self.query.desc == large_first {
            _ if !is_sorted => None,
            true => Some("ascending"),
            false => Some("descending"),
        };
        let link = self.link(key, is_sorted && !self.query.desc);
        html! {
            th scope="col" class=(class) aria-sort=[order] { a href=(link) { (name) } }
        }
    }

    fn row(&self, row: &Row) -> Markup {
        let Row { instance, depth } = row;
        let now = self.now;
        let depth = (*depth).min(5);
        html! {
            tr id={ "i-" (instance.uid) } {
                th scope="row" class={ "depth-" (depth) } {
                    (link("instances", &instance.name))
                    @if let Some(parent) = &instance.parent {
                        small { "from " (parent) }
                    }
                }
                td { (state(instance)) }
                td {
                    (link("snapshots", &instance.snapshot))
                    @if let Some(at) = self.taken_at.get(&instance.snapshot) {
                        small { (relative(*at, now)) }
                    }
                }
                td.wide {
                    (instance.gitref.as_deref().unwrap_or("–"))
                    @if let Some(commit) = &instance.commit { small { (short(commit)) } }
                }
                td.wide { (instance.created_by) }
                td.mid { (when(instance.last_used_at, now)) }
                td.wide { (expiry(instance, now)) }
                td.wide.number { (bytes_if_known(instance.exclusive_bytes)) }
                td.wide.number { (instance.connections) }
                td.actions { (start_or_stop(instance)) }
            }
        }
    }
}

/// The state, and what is in its way.
pub(super) fn state(instance: &InstanceView) -> Markup {
    html! {
        span class={ "state " (instance.state) } { (instance.state) }
        @if instance.waiting_for.is_some() { small { "waits for room" } }
        @if instance.failure.is_some() { small { "see why" } }
    }
}

/// When it goes, and whether it may.
pub(super) fn expiry(instance: &InstanceView, now: Timestamp) -> Markup {
    html! {
        @match (instance.marked_at, instance.pinned, instance.pinned_until, instance.expires_at) {
            (Some(_), _, _, Some(at)) => { strong { "marked: " (when(at, now)) } },
            (Some(_), _, _, None) => { strong { "marked" } },
            (None, true, Some(until), _) => { "pinned: " (when(until, now)) },
            (None, true, None, _) => "pinned",
            (None, false, _, Some(at)) => (when(at, now)),
            (None, false, _, None) => "never",
        }
    }
}

/// The button that starts or stops it, where one would.
pub(super) fn start_or_stop(instance: &InstanceView) -> Markup {
    let command = match instance.state.as_str() {
        "running" | "starting" => Some(("stop", "Stop")),
        "stopped" | "failed" => Some(("start", "Start")),
        _ => None,
    };
    html! {
        @if let Some((command, name)) = command {
            button type="submit" formaction={ "/instances/" (instance.name) "/" (command) }
                aria-label={ (name) " " (instance.name) } { (name) }
        }
    }
}
