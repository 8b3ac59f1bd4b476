//! The paths of `/v1/instances`.

use std::time::Duration;

use actix_web::{delete, get, post, web};
use multidb_actors::request::Source;
use multidb_actors::supervisor::{RecoverInstance, RenameInstance};
use multidb_store::InstanceName;
use serde::Deserialize;

use super::Service;
use super::failure::{Answer, Failure, bad_request, no_such_command, parse, parse_optional};
use crate::admin::api::{
    CreateBody, DEFAULT_COUNT_SECONDS, DiffBody, InstancesQuery, LogsQuery, PinBody, RecoverBody,
    RenameBody,
};
use crate::control::Caller;
use crate::control::model::{
    DeletedView, DiffOrder, DiffView, InstanceFilter, InstanceView, LogsView,
};
use crate::control::{AlterSystem, CreationOrder, CreationSource};

/// The lines of a log in an answer to a request without a number.
const LOG_LINES: usize = 200;

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes
        .service(list)
        .service(create)
        .service(show)
        .service(remove)
        .service(logs)
        .service(pin)
        .service(recover)
        .service(diff)
        .service(rename)
        .service(command);
}

#[get("/v1/instances")]
async fn list(
    query: web::Query<InstancesQuery>,
    caller: Caller,
    control: Service,
) -> Answer<Vec<InstanceView>> {
    let query = query.into_inner();
    let filter = InstanceFilter {
        project: parse_optional(query.project.as_deref())?,
        state: parse_optional(query.state.as_deref())?,
        created_by: query.created_by,
        after: parse_optional(query.after.as_deref())?,
        limit: query.limit,
    };
    let instances = control.list_instances(&caller, filter).await?;
    Ok(web::Json(instances))
}

#[post("/v1/instances")]
async fn create(
    body: web::Json<CreateBody>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let body = body.into_inner();
    let order = CreationOrder {
        name: parse(&body.name)?,
        project: parse_optional(body.project.as_deref())?,
        source: source(&body)?,
        ttl: body.ttl_seconds.map(Duration::from_secs),
        class: body.class,
    };
    let created = control.create_instance(&caller, order).await?;
    Ok(web::Json(created))
}

/// The one source that the body names.
fn source(body: &CreateBody) -> Result<CreationSource, Failure> {
    let sources = [
        ("gitref", &body.gitref),
        ("snapshot", &body.snapshot),
        ("asof", &body.asof),
        ("from", &body.from),
    ];
    let given = sources.into_iter();
    let mut given = given.filter_map(|(key, value)| Some((key, value.as_deref()?)));
    match (given.next(), given.next()) {
        (Some(("from", parent)), None) => Ok(CreationSource::Instance(parse(parent)?)),
        (Some((key, value)), None) => {
            let source = Source::parse(key, value);
            let source = source.map_err(|error| bad_request(error.to_string()))?;
            Ok(CreationSource::Snapshot(source))
        }
        _ => Err(bad_request(
            "exactly one of gitref, snapshot, asof and from is needed".to_owned(),
        )),
    }
}

#[get("/v1/instances/{name}")]
async fn show(name: web::Path<String>, caller: Caller, control: Service) -> Answer<InstanceView> {
    let shown = control.show_instance(&caller, &parse(&name)?).await?;
    Ok(web::Json(shown))
}

#[delete("/v1/instances/{name}")]
async fn remove(name: web::Path<String>, caller: Caller, control: Service) -> Answer<DeletedView> {
    let deleted = control.remove_instance(&caller, &parse(&name)?).await?;
    Ok(web::Json(deleted))
}

#[get("/v1/instances/{name}/logs")]
async fn logs(
    name: web::Path<String>,
    query: web::Query<LogsQuery>,
    caller: Caller,
    control: Service,
) -> Answer<LogsView> {
    let lines = query.lines.unwrap_or(LOG_LINES);
    let name = parse(&name)?;
    let logs = control.instance_logs(&caller, &name, lines).await?;
    Ok(web::Json(logs))
}

#[post("/v1/instances/{name}/pin")]
async fn pin(
    name: web::Path<String>,
    body: web::Json<PinBody>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let time = body.for_seconds.map(Duration::from_secs);
    let name = parse(&name)?;
    let pinned = control.pin_instance(&caller, &name, time).await?;
    Ok(web::Json(pinned))
}

#[post("/v1/instances/{name}/rename")]
async fn rename(
    name: web::Path<String>,
    body: web::Json<RenameBody>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let rename = RenameInstance {
        name: parse(&name)?,
        new_name: parse(&body.new_name)?,
    };
    let renamed = control.rename_instance(&caller, rename).await?;
    Ok(web::Json(renamed))
}

#[post("/v1/instances/{name}/recover")]
async fn recover(
    name: web::Path<String>,
    body: web::Json<RecoverBody>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let recovery = RecoverInstance {
        name: parse(&name)?,
        uid: parse_optional(body.uid.as_deref())?,
        new_name: parse_optional(body.new_name.as_deref())?,
    };
    let recovered = control.recover_instance(&caller, recovery).await?;
    Ok(web::Json(recovered))
}

#[post("/v1/instances/{name}/diff")]
async fn diff(
    name: web::Path<String>,
    body: web::Json<DiffBody>,
    caller: Caller,
    control: Service,
) -> Answer<DiffView> {
    let seconds = body.count_seconds.unwrap_or(DEFAULT_COUNT_SECONDS);
    let order = DiffOrder {
        a: parse(&name)?,
        b: parse_optional(body.with.as_deref())?,
        count_time: Duration::from_secs(seconds),
    };
    let compared = control.diff_instances(&caller, order).await?;
    Ok(web::Json(compared))
}

#[derive(Debug, Deserialize)]
struct CommandQuery {
    /// Of a start alone.
    #[serde(default)]
    without_alter_system: bool,
}

#[post("/v1/instances/{name}/{command}")]
async fn command(
    path: web::Path<(String, String)>,
    query: web::Query<CommandQuery>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let (name, command) = path.into_inner();
    let name: InstanceName = parse(&name)?;
    let shown = match command.as_str() {
        "start" => {
            let settings = if query.without_alter_system {
                AlterSystem::LeftOut
            } else {
                AlterSystem::Kept
            };
            control.start_instance(&caller, &name, settings).await
        }
        "stop" => control.stop_instance(&caller, &name).await,
        "reset" => control.reset_instance(&caller, &name).await,
        "unpin" => control.unpin_instance(&caller, &name).await,
        other => return Err(no_such_command(other)),
    };
    shown.map(web::Json).map_err(Failure::from)
}
