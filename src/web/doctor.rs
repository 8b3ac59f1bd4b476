//! The checks of `multidb doctor`, run when this page is asked for, since a repository that does not answer takes its
//! time.

use actix_web::{HttpRequest, get, web};
use maud::{Markup, html};

use super::Service;
use super::guard::Visitor;
use super::layout::{Answer, Page, Section};
use super::text::count;
use crate::admin::server::refusal;
use crate::doctor::{Finding, Level};

/// Where the page is.
pub(super) const PATH: &str = "/system/doctor";

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(show);
}

#[get("/system/doctor")]
async fn show(request: HttpRequest, visitor: Visitor, control: Service) -> Answer {
    let findings = control.doctor(&visitor.caller, refusal).await?;
    let page = Page {
        title: "Doctor",
        section: Section::System,
        visitor: &visitor,
        every: None,
        body: html(&findings),
    };
    Ok(page.answer(&request))
}

fn html(findings: &[Finding]) -> Markup {
    let of = |level| {
        let found = findings.iter().filter(move |found| found.level == level);
        found.collect::<Vec<_>>()
    };
    let (failures, warnings, good) = (of(Level::Fail), of(Level::Warn), of(Level::Ok));
    html! {
        p #count role="status" {
            (count(failures.len(), "failure")) ", " (count(warnings.len(), "warning")) ", "
            (good.len()) " in order"
        }
        div.scroll tabindex="0" role="region" aria-label="Findings" {
            table.lines {
                thead { tr {
                    th scope="col" { "Found" }
                    th scope="col" { "Part" }
                    th scope="col" { "What, and what to do" }
                } }
                tbody { @for found in failures.iter().chain(&warnings).chain(&good) { (row(found)) } }
            }
        }
        p.buttons {
            a.button href=(PATH) { "Check again" }
            a.button href="/system" { "Back to the system" }
        }
        p.note {
            "Run on the machine, " code { "multidb doctor" }
            " also checks the configuration file as it is now, and it works while no daemon runs."
        }
    }
}

fn row(found: &Finding) -> Markup {
    let (class, word) = match found.level {
        Level::Ok => ("state done", "ok"),
        Level::Warn => ("state warned", "warning"),
        Level::Fail => ("state failed", "failure"),
    };
    html! {
        tr {
            td { span class=(class) { (word) } }
            th scope="row" { (found.subject) }
            td {
                @for line in found.message.lines() { div { (line) } }
                @if let Some(hint) = &found.hint { small { (hint) } }
            }
        }
    }
}
