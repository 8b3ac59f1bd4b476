//! The open sessions of Postgres clients.

use std::time::Duration;

use actix_web::{HttpRequest, get, post, web};
use jiff::Timestamp;
use maud::{Markup, html};
use multidb_actors::sessions::ConnectionId;

use super::guard::{Form, Visitor};
use super::layout::{Answer, Page, Problem, Question, Section};
use super::text::{bytes, link, span, when};
use super::{Service, see};
use crate::control::ControlError;
use crate::control::model::ConnectionView;

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(list).service(ask).service(end);
}

#[get("/sessions")]
async fn list(request: HttpRequest, visitor: Visitor, control: Service) -> Answer {
    let connections = control.list_connections(&visitor.caller).await;
    let page = Page {
        title: "Sessions",
        section: Section::Sessions,
        visitor: &visitor,
        every: Some(2),
        body: sessions_table(&connections, Timestamp::now()),
    };
    Ok(page.answer(&request))
}

/// The sessions, each with a link to the question whether it is to end.
pub(super) fn sessions_table(connections: &[ConnectionView], now: Timestamp) -> Markup {
    html! {
        @if connections.is_empty() {
            p.note { "None." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Sessions" {
                table {
                    thead { tr {
                        th scope="col" { "Session" }
                        th scope="col" { "Instance" }
                        th scope="col" { "State" }
                        th scope="col" { "Application" }
                        th.wide scope="col" { "User" }
                        th.wide scope="col" { "From" }
                        th.wide scope="col" { "Since" }
                        th.wide.number scope="col" { "Bytes in, out" }
                        th scope="col" { span.hidden { "Actions" } }
                    } }
                    tbody { @for one in connections { (row(one, now)) } }
                }
            }
        }
    }
}

fn row(one: &ConnectionView, now: Timestamp) -> Markup {
    html! {
        tr id={ "c-" (one.id) } {
            th scope="row" { (one.id) }
            td { @if let Some(instance) = &one.instance { (link("instances", instance)) } @else { "console" } }
            td {
                (one.state)
                @if one.idle_seconds >= 60 { small { "for " (span(Duration::from_secs(one.idle_seconds))) } }
            }
            td { (one.application_name) small { (one.database) } }
            td.wide { (one.user) @if let Some(role) = &one.role { small { "as " (role) } } }
            td.wide { (one.peer) small { (one.tls.as_deref().unwrap_or("no TLS")) } }
            td.wide { (when(one.connected_at, now)) }
            td.wide.number { (bytes(one.client_bytes)) small { (bytes(one.backend_bytes)) } }
            td.actions { a href={ "/sessions/" (one.id) "/end" } aria-label={ "End session " (one.id) } { "End …" } }
        }
    }
}

#[get("/sessions/{id}/end")]
async fn ask(
    request: HttpRequest,
    id: web::Path<u64>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let id = ConnectionId(*id);
    let mut all = control.list_connections(&visitor.caller).await.into_iter();
    let found = all.find(|one| one.id == id.0);
    let one = found.ok_or_else(|| Problem::from(ControlError::NoSuchConnection(id)))?;
    let asked = Question {
        title: format!("End session {id}?"),
        means: html! {
            p { "The client is " strong { (one.application_name) } " of " (one.user) ", from " (one.peer)
                ", in database " (one.database) "; its state is " (one.state) "." }
            p { "An open transaction is rolled back, and the client is told that the session was ended." }
        },
        of: &format!("/sessions/{id}"),
        command: "end",
        yes: "End the session",
        back: Some("/sessions"),
    };
    Ok(asked.answer(&request, Section::Sessions, &visitor))
}

#[post("/sessions/{id}/end")]
async fn end(id: web::Path<u64>, visitor: Visitor, _form: Form, control: Service) -> Answer {
    let id = ConnectionId(*id);
    control.kill_connection(&visitor.caller, id).await?;
    Ok(see("/sessions"))
}
