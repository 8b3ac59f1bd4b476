//! Why a revision gets its snapshot: the decision, snapshot by snapshot.

use std::time::Duration;

use actix_web::{HttpRequest, get, web};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::Service;
use super::guard::Visitor;
use super::layout::{Answer, Page, Problem, Section};
use super::text::{count, link, parse, short, span, when};
use crate::control::model::{ExplainView, ProjectView, VerdictView};

#[derive(Debug, Default, Deserialize)]
struct Query {
    #[serde(default)]
    project: String,
    #[serde(default)]
    gitref: String,
}

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(explain);
}

#[get("/explain")]
async fn explain(
    request: HttpRequest,
    query: web::Query<Query>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let projects = control.list_projects(&visitor.caller);
    let gitref = query.gitref.trim();
    let decision = if gitref.is_empty() {
        html! { p.note { "The newest snapshot is chosen whose applied migrations are all defined at the revision." } }
    } else {
        let project = Some(query.project.as_str()).filter(|name| !name.is_empty());
        let project = project.map(parse).transpose()?;
        let explained = control.explain(&visitor.caller, project.as_ref(), gitref.to_owned());
        match explained.await {
            Ok(explained) => decision(&explained),
            Err(error) => Problem::from(error).within_page(),
        }
    };
    let page = Page {
        title: "Why this snapshot",
        section: Section::Explain,
        visitor: &visitor,
        every: None,
        body: html! {
            (form(&projects, &query))
            (decision)
        },
    };
    Ok(page.answer(&request))
}

fn form(projects: &[ProjectView], query: &Query) -> Markup {
    html! {
        form.search method="get" action="/explain" {
            label for="project" { "Project" }
            select #project name="project" {
                @for project in projects {
                    option value=(project.name) selected[project.name == query.project] { (project.name) }
                }
            }
            label for="gitref" { "Revision" }
            input #gitref name="gitref" value=(query.gitref) required placeholder="commit, branch or tag"
                autocapitalize="none" spellcheck="false";
            button.primary type="submit" { "Explain" }
        }
    }
}

fn decision(explained: &ExplainView) -> Markup {
    let now = Timestamp::now();
    let nearest = explained
        .snapshots
        .iter()
        .min_by_key(|one| one.missing_total);
    html! {
        section #decision {
            p {
                "Revision " strong { (explained.gitref) } " is commit " code { (short(&explained.commit)) }
                " and defines " (count(explained.defined, "migration")) "."
            }
            @if let Some(unconfirmed) = &explained.unconfirmed {
                p.problem {
                    "The remote does not answer, so the revision may have moved"
                    @if let Some(age) = unconfirmed.age_s {
                        "; it is as of " (span(Duration::from_secs(age))) " ago"
                    }
                    "."
                }
            }
            @match (&explained.chosen, nearest) {
                (Some(chosen), _) => {
                    p.chosen { "An instance of it is cloned from " (link("snapshots", chosen)) "." }
                },
                (None, Some(nearest)) => {
                    p.problem { "No snapshot fits. The nearest is " (link("snapshots", &nearest.id))
                        ", which has " (count(nearest.missing_total, "migration")) " that the revision lacks." }
                },
                (None, None) => p.problem { "The project has no snapshots." },
            }
            ol.verdicts {
                @for one in &explained.snapshots {
                    li class={ @if Some(&one.id) == explained.chosen.as_ref() { "chosen" } } {
                        (verdict(one, explained, now))
                    }
                }
            }
        }
    }
}

fn verdict(one: &VerdictView, explained: &ExplainView, now: Timestamp) -> Markup {
    let is_chosen = Some(&one.id) == explained.chosen.as_ref();
    html! {
        h2 { (link("snapshots", &one.id)) " " small { "taken " (when(one.taken_at, now)) } }
        @match (one.compatible, &one.passed_over_for) {
            _ if is_chosen => p { strong { "Chosen" } ": the newest whose migrations the revision defines." },
            (true, Some(other)) => p { "Fits, but " (link("snapshots", other)) " has the same migrations and is fresh." },
            (true, None) => p { "Fits, but is older than the chosen one." },
            (false, _) => {
                p { "Does not fit: " (count(one.missing_total, "applied migration"))
                    " that the revision does not define." }
                ul {
                    @for name in &one.missing { li { code { (name) } } }
                    @if one.missing_total > one.missing.len() {
                        li { "and " (one.missing_total - one.missing.len()) " more" }
                    }
                }
                @if let Some(hint) = &one.hint { p.note { (hint) } }
            },
        }
    }
}
