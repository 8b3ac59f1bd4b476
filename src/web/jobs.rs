//! The jobs, and how far they are.

use actix_web::{HttpRequest, get, post, web};
use jiff::Timestamp;
use maud::{Markup, html};
use multidb_store::JobId;

use super::guard::{Form, Visitor};
use super::layout::{Answer, Page, Question, Section, token};
use super::text::{bytes, fact, full, link, parse, relative, span};
use super::{Service, see};
use crate::control::model::JobView;

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths
        .service(list)
        .service(refresh)
        .service(show)
        .service(ask)
        .service(cancel);
}

#[get("/jobs")]
async fn list(request: HttpRequest, visitor: Visitor, control: Service) -> Answer {
    let mut jobs = control.list_jobs(&visitor.caller);
    jobs.reverse();
    let mut projects = control.list_projects(&visitor.caller);
    projects.retain(|project| project.refreshes && visitor.caller.is_admin());
    let now = Timestamp::now();
    let page = Page {
        title: "Jobs",
        section: Section::Jobs,
        visitor: &visitor,
        every: Some(2),
        body: html! {
            @if !projects.is_empty() {
                form.buttons method="post" action="/jobs/refresh" {
                    (token(&visitor))
                    @for project in &projects {
                        button type="submit" name="project" value=(project.name) { "Refresh " (project.name) }
                    }
                }
            }
            @if jobs.is_empty() {
                p.note { "None yet: imports, refreshes and de-duplications are jobs." }
            } @else {
                (table(&jobs, now))
            }
        },
    };
    Ok(page.answer(&request))
}

fn table(jobs: &[JobView], now: Timestamp) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Jobs" {
            table {
                thead { tr {
                    th scope="col" { "Job" }
                    th scope="col" { "State" }
                    th.wide scope="col" { "Project" }
                    th scope="col" { "Snapshot" }
                    th scope="col" { "Progress" }
                    th.wide scope="col" { "Began" }
                    th.wide scope="col" { "Took" }
                } }
                tbody { @for job in jobs { tr id={ "j-" (job.id) } {
                    th scope="row" { a href={ "/jobs/" (job.id) } { (job.id) " " (job.kind) } }
                    td { span class={ "state " (job.state) } { (job.state) } }
                    td.wide { (job.project) }
                    td { (job.snapshot.as_deref().unwrap_or("–")) }
                    td { (progress(job)) }
                    td.wide { @if let Some(at) = job.started_at { (relative(at, now)) } @else { "–" } }
                    td.wide { (duration(job, now)) }
                } } }
            }
        }
    }
}

/// Its step and how much of it is done; of one that has failed, why.
fn progress(job: &JobView) -> Markup {
    html! {
        @match (&job.error, job.is_ended()) {
            (Some(error), _) => (error.message),
            (None, true) => "–",
            (None, false) => {
                (job.step.as_deref().unwrap_or("–"))
                @if let Some(total) = job.bytes_total.filter(|total| *total > 0) {
                    progress value=(job.bytes_done) max=(total) aria-label="Progress" {}
                    small { (bytes(job.bytes_done)) " of " (bytes(total)) }
                } @else if job.bytes_done > 0 {
                    small { (bytes(job.bytes_done)) }
                }
            },
        }
    }
}

fn duration(job: &JobView, now: Timestamp) -> String {
    let Some(started_at) = job.started_at else {
        return "–".to_owned();
    };
    let ended_at = job.ended_at.unwrap_or(now);
    span(ended_at.duration_since(started_at).unsigned_abs())
}

#[get("/jobs/{id}")]
async fn show(
    request: HttpRequest,
    id: web::Path<String>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let id: JobId = parse(&id)?;
    let job = control.show_job(&visitor.caller, id)?;
    let now = Timestamp::now();
    let page = Page {
        title: &format!("Job {id}: {}", job.kind),
        section: Section::Jobs,
        visitor: &visitor,
        every: (!job.is_ended()).then_some(1),
        body: html! {
            @if !job.is_ended() && visitor.caller.is_admin() {
                div.buttons { a.button.danger href={ "/jobs/" (id) "/cancel" } { "Cancel the job …" } }
            }
            (failure(&job))
            dl.facts #facts {
                (fact("State", html! { span class={ "state " (job.state) } { (job.state) } }))
                (fact("Project", &job.project))
                @if let Some(snapshot) = &job.snapshot {
                    (fact("Snapshot", html! {
                        @if job.state == "done" { (link("snapshots", snapshot)) } @else { (snapshot) }
                    }))
                }
                (fact("Progress", progress(&job)))
                @if let Some(at) = job.started_at { (fact("Began", full(at, now))) }
                @if let Some(at) = job.ended_at { (fact("Ended", full(at, now))) }
                (fact("Took", duration(&job, now)))
            }
            @if !job.warnings.is_empty() {
                section #warnings {
                    h2 { "Warnings" }
                    ul { @for warning in &job.warnings { li { (warning) } } }
                }
            }
        },
    };
    Ok(page.answer(&request))
}

fn failure(job: &JobView) -> Markup {
    html! {
        @if let Some(error) = &job.error {
            div.problem {
                p { (error.message) }
                @if let Some(detail) = &error.detail { pre tabindex="0" { (detail) } }
                @if let Some(hint) = &error.hint { p { (hint) } }
            }
        }
    }
}

#[get("/jobs/{id}/cancel")]
async fn ask(
    request: HttpRequest,
    id: web::Path<String>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let id: JobId = parse(&id)?;
    let job = control.show_job(&visitor.caller, id)?;
    let asked = Question {
        title: format!("Cancel job {id}?"),
        means: html! {
            p { "What the " (job.kind) " has made so far is deleted." }
        },
        of: &format!("/jobs/{id}"),
        command: "cancel",
        yes: "Cancel the job",
        back: None,
    };
    Ok(asked.answer(&request, Section::Jobs, &visitor))
}

#[post("/jobs/{id}/cancel")]
async fn cancel(id: web::Path<String>, visitor: Visitor, _form: Form, control: Service) -> Answer {
    let id: JobId = parse(&id)?;
    control.cancel_job(&visitor.caller, id).await?;
    Ok(see(&format!("/jobs/{id}")))
}

#[post("/jobs/refresh")]
async fn refresh(visitor: Visitor, form: Form, control: Service) -> Answer {
    let project = parse(form.get("project").unwrap_or_default())?;
    let job = control.start_refresh(&visitor.caller, &project).await?;
    Ok(see(&format!("/jobs/{}", job.id)))
}
