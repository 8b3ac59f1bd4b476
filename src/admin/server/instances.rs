//! Instances: shown, and told what to do.

use std::time::Duration;

use actix_web::{delete, get, post, web};
use jiff::{SignedDuration, Timestamp};
use multidb_actors::clone_worker::Measure;
use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance::lifecycle::Command;
use multidb_actors::supervisor::{
    ControlInstance, GetInstance, ListInstances, PinInstance, retention,
};
use multidb_store::{InstanceName, Pin, error_chain};
use serde::Deserialize;

use super::{AdminDeps, Answer, Failure};
use crate::admin::api::{DeletedView, InstanceView, LogsView, PinBody};

/// The lines of a log that are shown where nobody says how many.
const LOG_LINES: usize = 200;

type Deps = web::Data<AdminDeps>;

pub(super) fn routes(routes: &mut web::ServiceConfig) {
    routes
        .service(list)
        .service(show)
        .service(remove)
        .service(logs)
        .service(pin_for)
        .service(control);
}

/// What is shown of an instance.
fn view(status: &InstanceStatus, deps: &AdminDeps) -> InstanceView {
    let record = &status.record;
    let (pinned, pinned_until) = match record.pin {
        Pin::None => (false, None),
        Pin::Forever => (true, None),
        Pin::Until(until) => (until > Timestamp::now(), Some(until)),
    };
    let failure = status.failure.as_ref();
    InstanceView {
        name: record.name.to_string(),
        project: record.project.to_string(),
        state: status.state.name().to_owned(),
        snapshot: record.snapshot.to_string(),
        gitref: record.gitref.clone(),
        commit: record.commit.clone(),
        created_at: record.created_at,
        last_used_at: record.last_used_at,
        expires_at: retention::expires_at(record, deps.config.limits.retention),
        pinned,
        pinned_until,
        connections: status.sessions,
        postgres_major: record.postgres_major,
        runtime: deps.host.kind().to_owned(),
        data_dir: deps.layout.instance_data(record.uid),
        uid: record.uid.to_string(),
        generation: record.generation,
        created_by: record.created_by.clone(),
        failure: failure.map(|failure| error_chain(failure)),
        exclusive_bytes: None,
        awake_because: None,
        sessions_ended: None,
    }
}

fn parse_name(name: &str) -> Result<InstanceName, Failure> {
    name.parse()
        .map_err(|error| Failure::bad_request(error_chain(&error)))
}

fn none(name: &InstanceName) -> Failure {
    Failure::not_found(format!("instance \"{name}\" does not exist"))
        .hint("\"multidb instance ls\" lists those that do.")
}

async fn find(name: &InstanceName, deps: &AdminDeps) -> Result<InstanceStatus, Failure> {
    let found = deps.supervisor.send(GetInstance(name.clone())).await?;
    found.ok_or_else(|| none(name))
}

#[get("/v1/instances")]
async fn list(deps: Deps) -> Answer<Vec<InstanceView>> {
    let all = deps.supervisor.send(ListInstances).await?;
    Ok(web::Json(all.iter().map(|one| view(one, &deps)).collect()))
}

#[get("/v1/instances/{name}")]
async fn show(name: web::Path<String>, deps: Deps) -> Answer<InstanceView> {
    let status = find(&parse_name(&name)?, &deps).await?;
    let mut shown = view(&status, &deps);
    match deps.worker.send(Measure(status.record.uid)).await? {
        Ok(bytes) => shown.exclusive_bytes = Some(bytes),
        // Files come and go under a running Postgres.
        Err(error) => tracing::debug!(%error, "an instance was not measured"),
    }
    shown.awake_because = Some(awake_because(&status, &deps).await);
    Ok(web::Json(shown))
}

/// What keeps the instance running.
async fn awake_because(status: &InstanceStatus, deps: &AdminDeps) -> Vec<String> {
    let sessions = match status.sessions {
        0 => None,
        1 => Some("1 session".to_owned()),
        count => Some(format!("{count} sessions")),
    };
    let mut because: Vec<String> = sessions.into_iter().collect();
    if let Some(endpoint) = &status.endpoint {
        let asked = deps.probe.awake_reasons(endpoint, &status.record.superuser);
        match asked.await {
            Ok(reasons) => because.extend(reasons.iter().map(ToString::to_string)),
            Err(error) => tracing::debug!(%error, "an instance was not asked what it does"),
        }
    }
    because
}

#[delete("/v1/instances/{name}")]
async fn remove(name: web::Path<String>, deps: Deps) -> Answer<DeletedView> {
    let name = parse_name(&name)?;
    let sessions_ended = find(&name, &deps).await?.sessions;
    carry_out(&name, Command::Delete, &deps).await?;
    Ok(web::Json(DeletedView { sessions_ended }))
}

#[derive(Deserialize)]
struct LogsQuery {
    lines: Option<usize>,
}

#[get("/v1/instances/{name}/logs")]
async fn logs(
    name: web::Path<String>,
    query: web::Query<LogsQuery>,
    deps: Deps,
) -> Answer<LogsView> {
    let uid = find(&parse_name(&name)?, &deps).await?.record.uid;
    let lines = query.lines.unwrap_or(LOG_LINES);
    let log = deps.layout.instance_log(uid);
    let lines = deps.host.server_logs(uid, &log, lines).await?;
    Ok(web::Json(LogsView { lines }))
}

#[post("/v1/instances/{name}/pin")]
async fn pin_for(
    name: web::Path<String>,
    body: web::Json<PinBody>,
    deps: Deps,
) -> Answer<InstanceView> {
    let pin = match body.for_seconds {
        None => Pin::Forever,
        Some(seconds) => {
            let time = SignedDuration::try_from(Duration::from_secs(seconds));
            let until = time
                .ok()
                .and_then(|time| Timestamp::now().checked_add(time).ok());
            Pin::Until(until.ok_or_else(|| Failure::bad_request("the time is too long"))?)
        }
    };
    set_pin(&parse_name(&name)?, pin, &deps).await
}

async fn set_pin(name: &InstanceName, pin: Pin, deps: &AdminDeps) -> Answer<InstanceView> {
    let name = name.clone();
    let pinned = deps.supervisor.send(PinInstance {
        name: name.clone(),
        pin,
    });
    pinned.await?.ok_or_else(|| none(&name))??;
    Ok(web::Json(view(&find(&name, deps).await?, deps)))
}

async fn carry_out(name: &InstanceName, command: Command, deps: &AdminDeps) -> Result<(), Failure> {
    tracing::info!(instance = %name, ?command, "an administrator's command");
    let name = name.clone();
    let told = deps.supervisor.send(ControlInstance {
        name: name.clone(),
        command,
    });
    Ok(told.await?.ok_or_else(|| none(&name))??)
}

#[post("/v1/instances/{name}/{command}")]
async fn control(path: web::Path<(String, String)>, deps: Deps) -> Answer<InstanceView> {
    let (name, command) = path.into_inner();
    let name = parse_name(&name)?;
    let command = match command.as_str() {
        "start" => Command::Start,
        "stop" => Command::Stop,
        "reset" => Command::Reset,
        "unpin" => return set_pin(&name, Pin::None, &deps).await,
        other => {
            return Err(Failure::not_found(format!(
                "there is no command \"{other}\""
            )));
        }
    };
    let before = find(&name, &deps).await?;
    carry_out(&name, command, &deps).await?;
    let mut shown = view(&find(&name, &deps).await?, &deps);
    shown.sessions_ended = match command {
        Command::Stop | Command::Reset | Command::Delete => Some(before.sessions),
        Command::Start | Command::Expire => None,
    };
    Ok(web::Json(shown))
}
