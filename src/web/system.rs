//! The daemon and its machine: disk, memory, limits, reached limits, refreshes, waiting logins.

use std::time::Duration;

use actix_web::{HttpRequest, get, web};
use jiff::Timestamp;
use maud::{Markup, html};

use super::Service;
use super::guard::Visitor;
use super::layout::{Answer, Page, Section};
use super::text::{bytes, bytes_if_known, count, fact, full, link, relative, span};
use crate::control::model::{LimitView, PressureView, StatusView};

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(show);
}

#[get("/system")]
async fn show(request: HttpRequest, visitor: Visitor, control: Service) -> Answer {
    let status = control.status(&visitor.caller).await?;
    let limits = control.limits(&visitor.caller)?;
    let page = Page {
        title: "System",
        section: Section::System,
        visitor: &visitor,
        every: Some(5),
        body: html(
            &status,
            &limits,
            visitor.caller.is_admin(),
            Timestamp::now(),
        ),
    };
    Ok(page.answer(&request))
}

fn html(status: &StatusView, limits: &[LimitView], is_admin: bool, now: Timestamp) -> Markup {
    html! {
        (reached(status))
        @if is_admin { section #doctor {
            h2 { "Doctor" }
            p { "Checks the machine and the installation: disk, permissions, programs, repositories, snapshots, the quarantine." }
            p.buttons { a.button href=(super::doctor::PATH) { "Run the checks" } }
        } }
        section #disk { (disk(status, limits, now)) }
        section #memory { (memory(status)) }
        section #daemon { (daemon(status, now)) }
        (refreshes(status, now))
        (waiting(status))
        section #limits {
            h2 { "Limits" }
            div.scroll tabindex="0" role="region" aria-label="Limits" {
                table.lines {
                    thead { tr {
                        th scope="col" { "Setting" }
                        th scope="col" { "Value" }
                        th scope="col" { "From" }
                    } }
                    tbody { @for limit in limits { tr {
                        th scope="row" { code { (limit.key) } }
                        td { (limit.value) }
                        td { (limit.origin) }
                    } } }
                }
            }
        }
    }
}

/// What keeps instances from starting, records from being written, or logins from being tried.
fn reached(status: &StatusView) -> Markup {
    let is_above = |used: Option<u8>, mark: Option<u8>| matches!((used, mark), (Some(used), Some(mark)) if used > mark);
    html! {
        div #reached {
            @if let Some(fault) = &status.disk_fault {
                p.problem { "Records cannot be written. " (fault.hint()) }
            }
            @if is_above(Some(status.disk_used_percent), status.disk_high_water) {
                p.problem { "The disk is above its mark: room is made by deleting what expires next." }
            }
            @if is_above(status.memory_used_percent, status.memory_high_water) {
                p.problem { "The memory is above its mark: no instance starts until others have stopped." }
            }
            @if !status.over_limit.is_empty() {
                div.problem {
                    p { "These instances are stopped, since they may not take more of the disk:" }
                    ul { @for name in &status.over_limit { li { (link("instances", name)) } } }
                }
            }
            @if let Some(seconds) = status.expiry_paused_seconds {
                p.problem { "The clock of the machine has jumped, so nothing expires for "
                    (span(Duration::from_secs(seconds))) "." }
            }
        }
    }
}

fn disk(status: &StatusView, limits: &[LimitView], now: Timestamp) -> Markup {
    let reserve = limits
        .iter()
        .find(|limit| limit.key == "limits.disk_reserve");
    html! {
        h2 { "Disk" }
        (gauge("Used of the disk", status.disk_used_percent, status.disk_high_water))
        dl.facts {
            (fact("Free", bytes(status.disk_free_bytes)))
            @if let Some(reserve) = reserve { (fact("Reserve, for no instance", &reserve.value)) }
            (fact("Of one instance or snapshot alone", bytes_if_known(status.exclusive_bytes)))
            (fact("Saved, against full copies", bytes_if_known(status.disk_saved_bytes)))
            (fact("Clones are made by", &status.clone_method))
            (fact("Root", html! { code { (status.root.display()) } }))
        }
        @if let Some(pressure) = &status.disk_pressure { (steps(pressure, now)) }
    }
}

fn steps(pressure: &PressureView, now: Timestamp) -> Markup {
    html! {
        h3 { "Room that was made" }
        p {
            "It was above its mark since " (full(pressure.since, now))
            @if pressure.bytes_above > 0 { ", now by " (bytes(pressure.bytes_above)) }
            "."
            @if pressure.nothing_left { " There is nothing more that may be deleted by itself." }
        }
        ul { @for step in &pressure.steps {
            li { (relative(step.at, now)) ": " (step.what) ", " (bytes(step.bytes_freed)) }
        } }
    }
}

fn memory(status: &StatusView) -> Markup {
    html! {
        h2 { "Memory" }
        @if let Some(used) = status.memory_used_percent {
            (gauge("Used of the memory", used, status.memory_high_water))
        } @else {
            p { "How much is used cannot be told." }
        }
    }
}

/// A share of 100, with the mark above which something is done.
fn gauge(label: &str, percent: u8, mark: Option<u8>) -> Markup {
    html! {
        p.gauge {
            (label) ": " strong { (percent) " %" }
            @if let Some(mark) = mark { ", its mark is at " (mark) " %" }
            meter min="0" max="100" low=[mark] high=[mark.map(|mark| mark.saturating_add(1).min(100))]
                optimum="0" value=(percent) aria-label=(label) {}
        }
    }
}

fn daemon(status: &StatusView, now: Timestamp) -> Markup {
    let states = status.instances.iter();
    let states: Vec<String> = states
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    html! {
        h2 { "Daemon" }
        dl.facts {
            (fact("Version", &status.version))
            (fact("Started", full(status.started_at, now)))
            (fact("Listens on", status.listen.join(", ")))
            (fact("Runtime", &status.runtime))
            (fact("Instances", if states.is_empty() { "none".to_owned() } else { states.join(", ") }))
            (fact("Marked as expired", status.marked))
            (fact("Sessions", status.connections))
            (fact("Snapshots", status.snapshots))
            (fact("Jobs that run", status.jobs))
            @for (project, prewarmed) in &status.prewarmed {
                (fact("Kept ready", html! { (prewarmed.ready) " of " (prewarmed.wanted) " clones of project "
                    (project) ", " (bytes(prewarmed.exclusive_bytes)) }))
            }
        }
    }
}

fn refreshes(status: &StatusView, now: Timestamp) -> Markup {
    html! {
        @if !status.refresh.is_empty() {
            section #refreshes {
                h2 { "Refreshes" }
                div.scroll tabindex="0" role="region" aria-label="Refreshes" {
                    table {
                        thead { tr {
                            th scope="col" { "Project" }
                            th scope="col" { "Newest data" }
                            th scope="col" { "Last success" }
                            th scope="col" { "Next" }
                            th scope="col" { "Last error" }
                        } }
                        tbody { @for (project, refresh) in &status.refresh { tr {
                            th scope="row" { (project) }
                            td { (time(refresh.newest_taken_at, now)) }
                            td { (time(refresh.last_success_at, now)) }
                            td { (time(refresh.next_at, now)) }
                            td { @if let Some(error) = &refresh.last_error {
                                (error.message) small { (count(refresh.failures, "failure")) " since" }
                            } @else { "–" } }
                        } } }
                    }
                }
            }
        }
    }
}

fn time(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "–".to_owned(), |at| relative(at, now))
}

fn waiting(status: &StatusView) -> Markup {
    html! {
        section #waiting {
            h2 { "Logins that wait" }
            @if status.waiting_logins.is_empty() {
                p { "Nobody has to wait after too many failed logins." }
            } @else {
                ul { @for one in &status.waiting_logins {
                    li { (one.user.as_deref().unwrap_or("all who have failed")) " at " (one.address) ", for "
                        (one.seconds) " s" }
                } }
            }
        }
    }
}
