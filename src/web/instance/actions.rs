//! The actions of forms on an instance. The ones that lose data are confirmed before.

use std::time::Duration;

use actix_web::{HttpRequest, get, post, web};
use maud::{Markup, html};
use multidb_actors::supervisor::RenameInstance;
use multidb_store::InstanceName;

use crate::control::AlterSystem;
use crate::control::model::InstanceView;
use crate::web::guard::{Form, Visitor};
use crate::web::layout::{Answer, Problem, Question, Section};
use crate::web::text::{bytes, count, parse};
use crate::web::{Service, local_path, see};

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(ask).service(act);
}

#[get("/instances/{name}/{question}")]
async fn ask(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    visitor: Visitor,
    control: Service,
) -> Answer {
    let (name, question) = path.into_inner();
    let (verb, means, yes): (_, fn(&InstanceView) -> Markup, _) = match question.as_str() {
        "reset" => ("Reset", reset_means, "Reset it"),
        "remove" => ("Remove", remove_means, "Remove it"),
        _ => return Err(Problem::no_such_page(request.path())),
    };
    let name: InstanceName = parse(&name)?;
    let instance = control.show_instance(&visitor.caller, &name).await?;
    let asked = Question {
        title: format!("{verb} instance {name}?"),
        means: means(&instance),
        of: &format!("/instances/{name}"),
        command: &question,
        yes,
        back: None,
    };
    Ok(asked.answer(&request, Section::Instances, &visitor))
}

fn reset_means(instance: &InstanceView) -> Markup {
    let origin = match (instance.resets_to.as_deref(), &instance.parent) {
        (Some("base"), Some(parent)) => format!("the state of {parent} that it began with"),
        _ => format!("snapshot {}", instance.snapshot),
    };
    html! {
        p {
            "It gets a fresh clone of " (origin) ". Everything that was changed in it since is lost."
        }
        (sessions_end(instance))
    }
}

fn remove_means(instance: &InstanceView) -> Markup {
    html! {
        p {
            "Its data is deleted"
            @if let Some(own) = instance.exclusive_bytes { ", " (bytes(own)) " of its own" }
            ". That cannot be undone."
        }
        @if let Some(gitref) = &instance.gitref {
            p { "A connection with this name and gitref " (gitref) " creates it anew, without its changes." }
        }
        (sessions_end(instance))
    }
}

fn sessions_end(instance: &InstanceView) -> Markup {
    html! {
        @if instance.connections > 0 {
            p { (count(instance.connections, "open session")) " will end." }
        }
    }
}

#[post("/instances/{name}/{command}")]
async fn act(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    visitor: Visitor,
    form: Form,
    control: Service,
) -> Answer {
    let (name, command) = path.into_inner();
    let name: InstanceName = parse(&name)?;
    let caller = &visitor.caller;
    let instance = match command.as_str() {
        "start" => {
            let started = control.start_instance(caller, &name, AlterSystem::Kept);
            started.await?
        }
        "stop" => control.stop_instance(caller, &name).await?,
        "reset" => control.reset_instance(caller, &name).await?,
        "unpin" => control.unpin_instance(caller, &name).await?,
        "pin" => {
            let time = seconds(form.get("for"))?;
            control.pin_instance(caller, &name, time).await?
        }
        "rename" => {
            let new_name = parse(form.get("new_name").unwrap_or_default())?;
            let rename = RenameInstance { name, new_name };
            control.rename_instance(caller, rename).await?
        }
        "remove" => {
            control.remove_instance(caller, &name).await?;
            return Ok(see("/instances"));
        }
        _ => return Err(Problem::no_such_page(request.path())),
    };
    let own = format!("/instances/{}", instance.name);
    Ok(see(form.get("back").and_then(local_path).unwrap_or(&own)))
}

/// A time in seconds, or none.
pub(in crate::web) fn seconds(text: Option<&str>) -> Result<Option<Duration>, Problem> {
    let read = |text: &str| text.parse().map(Duration::from_secs);
    text.map(read).transpose().map_err(Problem::bad_request)
}
