//! The paths of `/v1/instances`.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use multidb_actors::request::Source;
use multidb_actors::supervisor::{RecoverInstance, RenameInstance};

use super::Service;
use super::document::{Paths, Problems};
use super::failure::{Answer, Failure, bad_request, parse, parse_optional};
use super::page::{looked_at, page};
use crate::admin::api::{
    CreateBody, DEFAULT_COUNT_SECONDS, DiffBody, InstancePath, InstancesQuery, LogsQuery, PinBody,
    RecoverBody, RenameBody, StartQuery,
};
use crate::control::Caller;
use crate::control::model::{
    DeletedView, DiffOrder, DiffView, InstanceFilter, InstanceView, LogsView,
};
use crate::control::{AlterSystem, CreationOrder, CreationSource};

/// The lines of a log in an answer to a request without a number.
const LOG_LINES: usize = 200;

pub(super) fn routes(routes: &mut Paths<'_>) {
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
        .service(start)
        .service(stop)
        .service(reset)
        .service(unpin);
}

/// Lists the instances
#[utoipa::path(
    params(InstancesQuery),operation_id = "list_instances", tag = "instances", responses((status = 200, body = Vec<InstanceView>, description = "The instances in the order of their names."), Problems))]
#[get("/v1/instances")]
async fn list(
    query: web::Query<InstancesQuery>,
    request: HttpRequest,
    caller: Caller,
    control: Service,
) -> Result<HttpResponse, Failure> {
    let query = query.into_inner();
    let filter = InstanceFilter {
        project: parse_optional(query.project.as_deref())?,
        state: parse_optional(query.state.as_deref())?,
        created_by: query.created_by,
        after: parse_optional(query.after.as_deref())?,
        limit: looked_at(query.limit),
    };
    let instances = control.list_instances(&caller, filter).await?;
    Ok(page(
        &request,
        instances,
        query.limit,
        |instance: &InstanceView| instance.name.clone(),
    ))
}

/// Creates an instance from exactly one of gitref, snapshot, asof and from
#[utoipa::path(operation_id = "create_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance, once it runs."), Problems))]
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

/// Shows an instance with what keeps it awake
#[utoipa::path(
    params(InstancePath),operation_id = "show_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance."), Problems))]
#[get("/v1/instances/{name}")]
async fn show(
    path: web::Path<InstancePath>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let shown = control.show_instance(&caller, &parse(&path.name)?).await?;
    Ok(web::Json(shown))
}

/// Deletes an instance with its data
#[utoipa::path(
    params(InstancePath),operation_id = "remove_instance", tag = "instances", responses((status = 200, body = DeletedView, description = "It is deleted."), Problems))]
#[delete("/v1/instances/{name}")]
async fn remove(
    path: web::Path<InstancePath>,
    caller: Caller,
    control: Service,
) -> Answer<DeletedView> {
    let deleted = control
        .remove_instance(&caller, &parse(&path.name)?)
        .await?;
    Ok(web::Json(deleted))
}

/// Shows the end of the log of an instance's Postgres
#[utoipa::path(
    params(InstancePath, LogsQuery),operation_id = "instance_logs", tag = "instances", responses((status = 200, body = LogsView, description = "The end of the log."), Problems))]
#[get("/v1/instances/{name}/logs")]
async fn logs(
    path: web::Path<InstancePath>,
    query: web::Query<LogsQuery>,
    caller: Caller,
    control: Service,
) -> Answer<LogsView> {
    let lines = query.lines.unwrap_or(LOG_LINES);
    let name = parse(&path.name)?;
    let logs = control.instance_logs(&caller, &name, lines).await?;
    Ok(web::Json(logs))
}

/// Exempts an instance from expiry
#[utoipa::path(
    params(InstancePath),operation_id = "pin_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance."), Problems))]
#[post("/v1/instances/{name}/pin")]
async fn pin(
    path: web::Path<InstancePath>,
    body: web::Json<PinBody>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let time = body.for_seconds.map(Duration::from_secs);
    let name = parse(&path.name)?;
    let pinned = control.pin_instance(&caller, &name, time).await?;
    Ok(web::Json(pinned))
}

/// Renames an instance
#[utoipa::path(
    params(InstancePath),operation_id = "rename_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance."), Problems))]
#[post("/v1/instances/{name}/rename")]
async fn rename(
    path: web::Path<InstancePath>,
    body: web::Json<RenameBody>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let rename = RenameInstance {
        name: parse(&path.name)?,
        new_name: parse(&body.new_name)?,
    };
    let renamed = control.rename_instance(&caller, rename).await?;
    Ok(web::Json(renamed))
}

/// Brings the quarantined clone of an instance back
#[utoipa::path(
    params(InstancePath),operation_id = "recover_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance."), Problems))]
#[post("/v1/instances/{name}/recover")]
async fn recover(
    path: web::Path<InstancePath>,
    body: web::Json<RecoverBody>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let recovery = RecoverInstance {
        name: parse(&path.name)?,
        uid: parse_optional(body.uid.as_deref())?,
        new_name: parse_optional(body.new_name.as_deref())?,
    };
    let recovered = control.recover_instance(&caller, recovery).await?;
    Ok(web::Json(recovered))
}

/// Compares an instance with another one, or with what it was cloned from
#[utoipa::path(
    params(InstancePath),operation_id = "diff_instances", tag = "instances", responses((status = 200, body = DiffView, description = "The differences."), Problems))]
#[post("/v1/instances/{name}/diff")]
async fn diff(
    path: web::Path<InstancePath>,
    body: web::Json<DiffBody>,
    caller: Caller,
    control: Service,
) -> Answer<DiffView> {
    let seconds = body.count_seconds.unwrap_or(DEFAULT_COUNT_SECONDS);
    let order = DiffOrder {
        a: parse(&path.name)?,
        b: parse_optional(body.with.as_deref())?,
        count_time: Duration::from_secs(seconds),
    };
    let compared = control.diff_instances(&caller, order).await?;
    Ok(web::Json(compared))
}

/// Starts an instance
#[utoipa::path(
    params(InstancePath, StartQuery),operation_id = "start_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance."), Problems))]
#[post("/v1/instances/{name}/start")]
async fn start(
    path: web::Path<InstancePath>,
    query: web::Query<StartQuery>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let name = parse(&path.name)?;
    let settings = if query.without_alter_system {
        AlterSystem::LeftOut
    } else {
        AlterSystem::Kept
    };
    let shown = control.start_instance(&caller, &name, settings).await?;
    Ok(web::Json(shown))
}

/// Stops an instance and keeps its data
#[utoipa::path(
    params(InstancePath),operation_id = "stop_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance."), Problems))]
#[post("/v1/instances/{name}/stop")]
async fn stop(
    path: web::Path<InstancePath>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let name = parse(&path.name)?;
    let shown = control.stop_instance(&caller, &name).await?;
    Ok(web::Json(shown))
}

/// Gives an instance a fresh clone of its snapshot
#[utoipa::path(
    params(InstancePath),operation_id = "reset_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance."), Problems))]
#[post("/v1/instances/{name}/reset")]
async fn reset(
    path: web::Path<InstancePath>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let name = parse(&path.name)?;
    let shown = control.reset_instance(&caller, &name).await?;
    Ok(web::Json(shown))
}

/// Removes the pin of an instance
#[utoipa::path(
    params(InstancePath),operation_id = "unpin_instance", tag = "instances", responses((status = 200, body = InstanceView, description = "The instance."), Problems))]
#[post("/v1/instances/{name}/unpin")]
async fn unpin(
    path: web::Path<InstancePath>,
    caller: Caller,
    control: Service,
) -> Answer<InstanceView> {
    let name = parse(&path.name)?;
    let shown = control.unpin_instance(&caller, &name).await?;
    Ok(web::Json(shown))
}
