//! The difference of an instance from another one, or from the data that it was cloned from.

use std::time::Duration;

use actix_web::{HttpRequest, post, web};
use maud::{Markup, html};
use multidb_store::InstanceName;

use crate::admin::api::DEFAULT_COUNT_SECONDS;
use crate::control::model::{DiffOrder, DiffView, InstanceView, SideView, TableRows};
use crate::web::Service;
use crate::web::guard::{Form, Visitor};
use crate::web::layout::{Answer, Page, Section, token};
use crate::web::text::{count, link, parse};

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(compare);
}

/// The form that asks for it.
pub(super) fn form(instance: &InstanceView, visitor: &Visitor) -> Markup {
    let origin = instance.parent.as_ref().unwrap_or(&instance.snapshot);
    html! {
        form.inline method="post" action={ "/instances/" (instance.name) "/diff" } {
            (token(visitor))
            label for="with" { "Compare it with instance" }
            input #with name="with" maxlength="63" autocapitalize="none" spellcheck="false"
                placeholder={ "empty: " (origin) };
            button type="submit" { "Compare" }
        }
        p.note { "Both are started for that, and tables are counted for up to "
            (DEFAULT_COUNT_SECONDS) " seconds each." }
    }
}

#[post("/instances/{name}/diff")]
async fn compare(
    request: HttpRequest,
    name: web::Path<String>,
    visitor: Visitor,
    form: Form,
    control: Service,
) -> Answer {
    let name: InstanceName = parse(&name)?;
    let order = DiffOrder {
        a: name.clone(),
        b: form.get("with").map(parse).transpose()?,
        count_time: Duration::from_secs(DEFAULT_COUNT_SECONDS),
    };
    let difference = control.diff_instances(&visitor.caller, order).await?;
    let page = Page {
        title: &format!("Difference of {name}"),
        section: Section::Instances,
        visitor: &visitor,
        every: None,
        body: html! {
            p { (link("instances", &name)) " compared with " (side(&difference.b)) "." }
            (html_of(&difference))
        },
    };
    Ok(page.answer(&request))
}

fn side(side: &SideView) -> Markup {
    html! {
        @match side.kind.as_str() {
            "instance" => { "instance " (link("instances", &side.name)) },
            "snapshot" => { "snapshot " (link("snapshots", &side.name)) },
            _ => { "the state that it began with" },
        }
    }
}

fn html_of(difference: &DiffView) -> Markup {
    let differs = |table: &&TableRows| table.rows_a != table.rows_b;
    let tables: Vec<&TableRows> = difference.tables.iter().filter(differs).collect();
    html! {
        section {
            h2 { "Migrations" }
            (names("Only in this one", &difference.migrations.only_a))
            (names("Only in the other one", &difference.migrations.only_b))
            @if difference.migrations.only_a.is_empty() && difference.migrations.only_b.is_empty() {
                p { "The same." }
            }
        }
        section {
            h2 { "Objects" }
            @if difference.schema.is_empty() { p { "The same." } }
            @for object in &difference.schema {
                details {
                    summary { (object.object)
                        @match (&object.a, &object.b) {
                            (Some(_), None) => " – only in this one",
                            (None, Some(_)) => " – only in the other one",
                            _ => " – differs",
                        }
                    }
                    @if let Some(a) = &object.a { h3 { "This one" } pre tabindex="0" { (a) } }
                    @if let Some(b) = &object.b { h3 { "The other one" } pre tabindex="0" { (b) } }
                }
            }
        }
        section {
            h2 { "Rows" }
            p { (count(tables.len(), "table")) " of " (difference.tables.len()) " differ in their number of rows." }
            @if !tables.is_empty() {
                div.scroll tabindex="0" role="region" aria-label="Rows" {
                    table {
                        thead { tr {
                            th scope="col" { "Table" }
                            th.number scope="col" { "This one" }
                            th.number scope="col" { "The other one" }
                        } }
                        tbody { @for table in tables { tr {
                            th scope="row" { (table.name) }
                            td.number { (rows(table.rows_a, table.estimated_a)) }
                            td.number { (rows(table.rows_b, table.estimated_b)) }
                        } } }
                    }
                }
            }
        }
    }
}

fn names(title: &str, names: &[String]) -> Markup {
    html! {
        @if !names.is_empty() {
            h3 { (title) }
            ul { @for name in names { li { (name) } } }
        }
    }
}

fn rows(rows: Option<u64>, is_estimate: bool) -> String {
    match (rows, is_estimate) {
        (None, _) => "–".to_owned(),
        (Some(rows), true) => format!("about {rows}"),
        (Some(rows), false) => rows.to_string(),
    }
}
