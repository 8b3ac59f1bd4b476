//! One instance: its facts, its life, how to connect to it, its sessions, its log, and the actions on it.
//!
//! | module | owns |
//! | --- | --- |
//! | `actions` | the actions of forms on it, and the questions before |
//! | `connect` | connection strings |
//! | `comparison` | its difference from another instance, or from the data that it was cloned from |

use actix_web::{HttpRequest, get, web};
use jiff::Timestamp;
use maud::{Markup, html};
use multidb_store::InstanceName;

use super::Service;
use super::guard::Visitor;
use super::instances::{expiry, start_or_stop, state};
use super::layout::{Answer, Page, Section, token};
use super::sessions_page::sessions_table;
use super::text::{bytes_if_known, count, fact, full, link, parse, short, span};
use super::timeline::Timeline;
use crate::control::model::{ConnectionView, InstanceView, SnapshotView};

mod actions;
mod comparison;
mod connect;

pub(super) use self::actions::seconds;

/// The lines of the log that are shown.
const LOG_LINES: usize = 100;

/// The pins that the form offers: seconds, and the words for them.
pub(super) const PINS: [(&str, &str); 5] = [
    ("86400", "for a day"),
    ("604800", "for a week"),
    ("2592000", "for 30 days"),
    ("7776000", "for 90 days"),
    ("", "without end"),
];

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths
        .service(show)
        .configure(comparison::routes)
        .configure(actions::routes);
}

#[get("/instances/{name}")]
async fn show(
    request: HttpRequest,
    name: web::Path<String>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let name: InstanceName = parse(&name)?;
    let caller = &visitor.caller;
    let instance = control.show_instance(caller, &name).await?;
    let snapshots = control.list_snapshots(caller).await?;
    let connections = control.list_connections(caller).await.into_iter();
    let of_this = |one: &ConnectionView| one.instance.as_deref() == Some(name.as_str());
    let log = match control.instance_logs(caller, &name, LOG_LINES).await {
        Ok(log) => html! { pre.log #log tabindex="0" { (log.lines.join("\n")) } },
        Err(error) => super::Problem::from(error).within_page(),
    };
    let title = format!("Instance {}", instance.name);
    let view = InstancePage {
        snapshot: snapshots.iter().find(|one| one.id == instance.snapshot),
        connections: connections.filter(of_this).collect(),
        connect: connect::strings(&request, &control, &visitor, &instance).await?,
        log,
        instance: &instance,
        visitor: &visitor,
        now: Timestamp::now(),
    };
    let page = Page {
        title: &title,
        section: Section::Instances,
        visitor: &visitor,
        every: Some(4),
        body: view.html(),
    };
    Ok(page.answer(&request))
}

struct InstancePage<'a> {
    instance: &'a InstanceView,
    /// What it was cloned from, if it still exists.
    snapshot: Option<&'a SnapshotView>,
    connections: Vec<ConnectionView>,
    connect: Markup,
    log: Markup,
    visitor: &'a Visitor,
    now: Timestamp,
}

impl InstancePage<'_> {
    fn html(&self) -> Markup {
        html! {
            (self.failure())
            (self.buttons())
            section #facts { (self.facts()) }
            section {
                h2 { "Connect" }
                (self.connect)
            }
            section #sessions {
                h2 { "Sessions" }
                (sessions_table(&self.connections, self.now))
            }
            section #life {
                h2 { "Life" }
                (self.timeline())
            }
            section {
                h2 { "Difference" }
                (comparison::form(self.instance, self.visitor))
            }
            section #log-section {
                h2 { "End of the log" }
                (self.log)
            }
        }
    }

    fn failure(&self) -> Markup {
        let instance = self.instance;
        html! {
            div #failure {
                @if instance.failure.is_some() || instance.login_fault.is_some() {
                    div.problem {
                        @if let Some(failure) = &instance.failure { p { (failure) } }
                        @if let Some(fault) = &instance.login_fault { p { "Nobody can log in: " (fault) } }
                        @if let Some(hint) = &instance.hint { p { (hint) } }
                    }
                }
            }
        }
    }

    fn buttons(&self) -> Markup {
        let path = format!("/instances/{}", self.instance.name);
        html! {
            div.buttons #buttons {
                form method="post" {
                    (token(self.visitor))
                    (start_or_stop(self.instance))
                    @if self.instance.pinned {
                        button type="submit" formaction={ (path) "/unpin" } { "Unpin" }
                    }
                }
                details #pin {
                    summary.button { "Pin …" }
                    form method="post" action={ (path) "/pin" } {
                        (token(self.visitor))
                        label { "It does not expire " (pin_select()) }
                        button type="submit" { "Pin" }
                    }
                }
                details #rename {
                    summary.button { "Rename …" }
                    form method="post" action={ (path) "/rename" } {
                        (token(self.visitor))
                        label {
                            "New name "
                            input name="new_name" required maxlength="63" pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*"
                                autocapitalize="none" spellcheck="false" value=(self.instance.name);
                        }
                        button type="submit" { "Rename" }
                    }
                }
                a.button href={ (path) "/reset" } { "Reset …" }
                a.button.danger href={ (path) "/remove" } { "Remove …" }
            }
        }
    }

    fn facts(&self) -> Markup {
        let (instance, now) = (self.instance, self.now);
        let awake = instance.awake_because.as_deref().unwrap_or_default();
        let awake = match (instance.state.as_str(), awake) {
            ("running", []) => {
                "nothing: it stops when it has been unused for long enough".to_owned()
            }
            (_, []) => "–".to_owned(),
            (_, reasons) => reasons.join(", "),
        };
        html! {
            dl.facts {
                (fact("State", state(instance)))
                (fact("Project", &instance.project))
                (fact("Snapshot", html! {
                    (link("snapshots", &instance.snapshot))
                    @if let Some(snapshot) = self.snapshot {
                        ", taken " (full(snapshot.taken_at, now))
                    }
                }))
                (fact("Revision", self.revision()))
                @if let Some(parent) = &instance.parent {
                    (fact("Cloned from", link("instances", parent)))
                }
                (fact("Created by", &instance.created_by))
                (fact("Last used", full(instance.last_used_at, now)))
                (fact("Expires", expiry(instance, now)))
                @if let Some(ttl) = instance.ttl_seconds {
                    (fact("Lies unused at most", span(std::time::Duration::from_secs(ttl))))
                }
                (fact("Keeps it awake", awake))
                (fact("Sessions", instance.connections))
                (fact("Bytes of its own", bytes_if_known(instance.exclusive_bytes)))
                (fact("Postgres", html! { (instance.postgres_major) ", " (instance.runtime) }))
                (fact("Class", instance.class.to_string()))
                (fact("Data directory", html! { code { (instance.data_dir.display()) } }))
            }
        }
    }

    fn revision(&self) -> Markup {
        let Some(gitref) = &self.instance.gitref else {
            return html! { "–" };
        };
        let (project, encoded) = (&self.instance.project, super::text::encoded(gitref));
        html! {
            (gitref)
            @if let Some(commit) = &self.instance.commit {
                " (" code { (short(commit)) } ")"
            }
            " "
            a href={ "/explain?project=" (project) "&gitref=" (encoded) } { "why this snapshot" }
        }
    }

    fn timeline(&self) -> Markup {
        let instance = self.instance;
        let mut life = Timeline::default();
        if let Some(snapshot) = self.snapshot {
            let taken = html! { "the data was taken: snapshot " (link("snapshots", &snapshot.id)) };
            life.add(snapshot.taken_at, taken);
        }
        let origin = match (&instance.parent, &instance.gitref) {
            (Some(parent), _) => format!("as a clone of {parent}"),
            (None, Some(gitref)) => format!("for revision {gitref}"),
            (None, None) => format!("from snapshot {}", instance.snapshot),
        };
        life.add(
            instance.created_at,
            format!("created by {}, {origin}", instance.created_by),
        );
        // Its creation is told above.
        let history = instance.history.iter().flatten();
        for happening in history.filter(|one| one.what != "created") {
            life.add(happening.at, &happening.text);
        }
        let used = match instance.connections {
            0 => "last used".to_owned(),
            sessions => format!("last used; {} open now", count(sessions, "session")),
        };
        life.add(instance.last_used_at, used);
        life.add_if(
            instance.marked_at,
            "marked as expired, since nobody used it",
        );
        life.add_if(instance.pinned_until, "its pin ends");
        let expires = match instance.marked_at {
            Some(_) => "it is deleted, unless somebody uses it",
            None => "it is deleted, if nobody uses it until then",
        };
        life.add_if(instance.expires_at, expires);
        html! {
            (life.html(self.now))
            p.note {
                "The last 50 starts, stops, resets and renames are kept; the log below is that of Postgres."
            }
        }
    }
}

/// The choice of how long a pin holds.
pub(super) fn pin_select() -> Markup {
    html! {
        select name="for" {
            @for (seconds, words) in PINS {
                option value=(seconds) { (words) }
            }
        }
    }
}
