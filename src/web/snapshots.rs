//! The snapshots, by project and time: why each is kept, and the instances that use it.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, get, post, web};
use jiff::Timestamp;
use maud::{Markup, html};
use multidb_store::SnapshotId;

use super::guard::{Form, Visitor};
use super::instance::{pin_select, seconds};
use super::layout::{Answer, Page, Problem, Question, Section, token};
use super::text::{bytes, bytes_if_known, count, fact, full, link, parse, when};
use super::{Service, see};
use crate::control::model::{InstanceFilter, InstanceView, SnapshotView};

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(list).service(show).service(ask).service(act);
}

#[get("/snapshots")]
async fn list(request: HttpRequest, visitor: Visitor, control: Service) -> Answer {
    let mut by_project: BTreeMap<String, Vec<SnapshotView>> = BTreeMap::new();
    for snapshot in control.list_snapshots(&visitor.caller).await? {
        let of_project = by_project.entry(snapshot.project.clone()).or_default();
        of_project.push(snapshot);
    }
    let now = Timestamp::now();
    let page = Page {
        title: "Snapshots",
        section: Section::Snapshots,
        visitor: &visitor,
        every: Some(5),
        body: html! {
            @if by_project.is_empty() {
                p.note { "None yet. " code { "multidb snapshot import" } " and " code { "multidb snapshot refresh" }
                    " make them." }
            }
            @for (project, snapshots) in &mut by_project {
                section id={ "project-" (project) } {
                    h2 { "Project " (project) }
                    (drawing(snapshots))
                    (table(snapshots, now))
                }
            }
        },
    };
    Ok(page.answer(&request))
}

/// The times of the snapshots on a line. The table below says the same in words.
fn drawing(snapshots: &mut [SnapshotView]) -> Markup {
    snapshots.sort_by_key(|one| std::cmp::Reverse(one.taken_at));
    let (Some(newest), Some(oldest)) = (snapshots.first(), snapshots.last()) else {
        return html! {};
    };
    let (from, to) = (oldest.taken_at.as_second(), newest.taken_at.as_second());
    let position = |at: Timestamp| 12 + 976 * (at.as_second() - from) / (to - from).max(1);
    html! {
        @if from < to {
            svg.times viewBox="0 0 1000 24" aria-hidden="true" {
                line x1="12" x2="988" y1="12" y2="12" {}
                @for one in snapshots.iter() {
                    circle cx=(position(one.taken_at)) cy="12" r="7"
                        class={ @if one.instances > 0 { "used" } @if one.pinned { " pinned" } } {
                        title { (one.id) ", " (one.taken_at.strftime("%Y-%m-%d %H:%M")) }
                    }
                }
            }
        }
    }
}

fn table(snapshots: &[SnapshotView], now: Timestamp) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Snapshots" {
            table {
                thead { tr {
                    th scope="col" { "Snapshot" }
                    th scope="col" { "Taken" }
                    th scope="col" { "Kept" }
                    th.number scope="col" { "Instances" }
                    th.wide.number scope="col" { "Migrations" }
                    th.wide.number scope="col" { "Bytes" }
                    th.wide.number scope="col" { "Its own" }
                } }
                tbody { @for one in snapshots { tr id={ "s-" (one.id) } {
                    th scope="row" {
                        (link("snapshots", &one.id))
                        @if one.derived { small { "from instance " (one.from_instance.as_deref().unwrap_or("–")) } }
                    }
                    td { (when(one.taken_at, now)) }
                    td { (kept(one)) }
                    td.number { (one.instances) }
                    td.wide.number { (one.migrations) }
                    td.wide.number { (bytes(one.bytes)) }
                    td.wide.number { (bytes_if_known(one.exclusive_bytes)) }
                } } }
            }
        }
    }
}

fn kept(snapshot: &SnapshotView) -> Markup {
    html! {
        @if snapshot.kept_because.is_empty() {
            strong { "it goes at the next occasion" }
        }
        @for (number, reason) in snapshot.kept_because.iter().enumerate() {
            @if number > 0 { "; " }
            (reason)
        }
        @if let Some(until) = snapshot.pinned_until {
            small { "pinned until " (until.strftime("%Y-%m-%d %H:%M UTC")) }
        }
    }
}

#[get("/snapshots/{id}")]
async fn show(
    request: HttpRequest,
    id: web::Path<String>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let id: SnapshotId = parse(&id)?;
    let snapshot = control.show_snapshot(&visitor.caller, &id).await?;
    let filter = InstanceFilter::default();
    let mut users = control.list_instances(&visitor.caller, filter).await?;
    users.retain(|instance| instance.snapshot == snapshot.id);
    let page = Page {
        title: &format!("Snapshot {id}"),
        section: Section::Snapshots,
        visitor: &visitor,
        every: Some(5),
        body: page_of(&snapshot, &users, &visitor),
    };
    Ok(page.answer(&request))
}

fn page_of(snapshot: &SnapshotView, users: &[InstanceView], visitor: &Visitor) -> Markup {
    let now = Timestamp::now();
    let shared = snapshot
        .exclusive_bytes
        .map(|own| snapshot.bytes.saturating_sub(own));
    html! {
        @if visitor.caller.is_admin() { (buttons(snapshot, visitor)) }
        section #facts {
            dl.facts {
                (fact("Project", &snapshot.project))
                (fact("Taken", full(snapshot.taken_at, now)))
                (fact("Imported", full(snapshot.imported_at, now)))
                (fact("Kept", kept(snapshot)))
                (fact("Made from", &snapshot.source))
                (fact("Postgres", snapshot.postgres_major))
                (fact("Bytes", html! { (bytes(snapshot.bytes)) " in " (count(count_of(snapshot.files), "file")) }))
                (fact("Of its own", bytes_if_known(snapshot.exclusive_bytes)))
                (fact("Shared with others", bytes_if_known(shared)))
                (fact("Errors passed", snapshot.errors_passed))
                (fact("Data directory", html! { code { (snapshot.data_dir.display()) } }))
            }
        }
        section #users {
            h2 { "Instances" }
            p { (count(snapshot.instances, "instance")) " of it"
                @if users.len() < snapshot.instances { ", of which you see " (users.len()) } "." }
            ul { @for user in users {
                li { (link("instances", &user.name)) " " (super::instances::state(user)) " by " (user.created_by) }
            } }
        }
        @if let Some(preparations) = snapshot.preparations.as_ref().filter(|all| !all.is_empty()) {
            section #preparations {
                h2 { "Preparations" }
                p { (count(preparations.len(), "preparation")) " ran on its data: "
                    @for one in &snapshot.prepared_by { code { (super::text::short(one)) } " " } }
            }
        }
        @if let Some(applied) = &snapshot.applied {
            section #migrations {
                h2 { "Migrations" }
                details #applied {
                    summary { (count(applied.len(), "applied migration")) }
                    ul { @for one in applied { li { (one) } } }
                }
            }
        }
    }
}

fn count_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn buttons(snapshot: &SnapshotView, visitor: &Visitor) -> Markup {
    let path = format!("/snapshots/{}", super::text::encoded(&snapshot.id));
    html! {
        div.buttons #buttons {
            details #pin {
                summary.button { "Pin …" }
                form method="post" action={ (path) "/pin" } {
                    (token(visitor))
                    label { "It is kept " (pin_select()) }
                    button type="submit" { "Pin" }
                }
            }
            @if snapshot.pinned {
                form method="post" action={ (path) "/unpin" } {
                    (token(visitor))
                    button type="submit" { "Unpin" }
                }
            }
            a.button.danger href={ (path) "/remove" } { "Remove …" }
        }
    }
}

#[get("/snapshots/{id}/remove")]
async fn ask(
    request: HttpRequest,
    id: web::Path<String>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let id: SnapshotId = parse(&id)?;
    let snapshot = control.show_snapshot(&visitor.caller, &id).await?;
    let asked = Question {
        title: format!("Remove snapshot {id}?"),
        means: html! {
            p { "Its data is deleted. No instance can be created from it any more. That cannot be undone." }
            @if snapshot.instances > 0 {
                p { (count(snapshot.instances, "instance"))
                    " of it would keep their data, but could not be reset any more." }
                p { label {
                    input type="checkbox" name="force" value="yes";
                    " Remove it although instances need it"
                } }
            }
        },
        of: &format!("/snapshots/{}", super::text::encoded(&snapshot.id)),
        command: "remove",
        yes: "Remove it",
        back: None,
    };
    Ok(asked.answer(&request, Section::Snapshots, &visitor))
}

#[post("/snapshots/{id}/{command}")]
async fn act(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    visitor: Visitor,
    form: Form,
    control: Service,
) -> Answer {
    let (id, command) = path.into_inner();
    let id: SnapshotId = parse(&id)?;
    let caller = &visitor.caller;
    match command.as_str() {
        "pin" => {
            let time = seconds(form.get("for"))?;
            control.pin_snapshot(caller, &id, time).await?;
        }
        "unpin" => {
            control.unpin_snapshot(caller, &id).await?;
        }
        "remove" => {
            let force = form.get("force").is_some();
            control.remove_snapshot(caller, &id, force).await?;
            return Ok(see("/snapshots"));
        }
        _ => return Err(Problem::no_such_page(request.path())),
    }
    Ok(see(&format!(
        "/snapshots/{}",
        super::text::encoded(id.as_str())
    )))
}
